"""The data of AC-RegNet: ordered pairs of images of different subjects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from anatozoo.data.base import CaseDataset, strengths
from anatozoo.data.case import Case
from anatozoo.data.framed import FrameDataset
from anatozoo.data.module import UNLABELLED, ZooDataModule
from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.files import stem_of
from anatozoo.io.untrusted import read_text
from anatozoo.nn.deform import ShapeConfig, deform_image


class PairDataset(Dataset[dict[str, Tensor]]):
    """All ordered pairs of two different cases.

    Args:
        frames: the cases.
    """

    def __init__(self, frames: FrameDataset) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames) * (len(self.frames) - 1)

    def pair(self, index: int) -> tuple[int, int]:
        """Indices of the moving and the fixed case of a pair."""
        moving, rest = divmod(index, len(self.frames) - 1)
        return moving, rest + (rest >= moving)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One pair: ``moving``, ``fixed`` (1, ...), their ``_labels`` (...), ``spacing_mm``, ``index``."""
        item = {"index": torch.tensor(index)}
        for role, case in zip(("moving", "fixed"), self.pair(index), strict=True):
            found = self.frames[case]
            item[role] = found["image"]
            # The spacing of the fixed image, on whose grid results lie.
            item |= {name: found[name] for name in ("spacing_mm", "domain", "labelled")}
            if "labels" in found:
                item[f"{role}_labels"] = found["labels"]
        return item

    def identity(self, index: int) -> dict[str, Any]:
        """``id`` as ``MOVING->FIXED``, the two names and subjects, and, where known, the ``split``."""
        moving, fixed = (self.frames.identity(case) for case in self.pair(index))
        known = {"id": f"{moving['id']}->{fixed['id']}", "moving": moving["id"], "fixed": fixed["id"]}
        known |= {"moving_subject": moving["subject"], "fixed_subject": fixed["subject"]}
        return known | ({"split": fixed["split"]} if "split" in fixed else {})


class AcRegNetDataModule(ZooDataModule):
    """Ordered pairs of two different images of a split, with their label maps.

    An epoch covers all pairs; ``trainer.limit_train_batches`` makes it shorter, with new pairs every time.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"jsrt"`` or ``"folder"``.
        organs: organs, as in the module; empty if label maps are not needed.
        frame: frame, as in the module.
        batch_size: pairs per process and step.
        augment: strengths of a random deformation of each training image with its labels, fields of
            `anatozoo.nn.deform.ShapeConfig`; ``{}`` takes its defaults, None (the paper) switches it off.
        exclude: text file with the names of cases to leave out of all splits, one per line, with or without
            the suffix of the image; for example cases on which another method will be evaluated.
        eval_pairs: number of pairs to validate and test on, always the same ones; None takes all.
        **settings: see `ZooDataModule`.
    """

    fewest: ClassVar[int] = 2

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "jsrt",
        organs: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(64),
        batch_size: int = 32,
        augment: dict[str, float] | None = None,
        exclude: str | None = None,
        eval_pairs: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, organs=organs, frame=frame, batch_size=batch_size, **settings)
        self.augment_config = None if augment is None else strengths(ShapeConfig, "augment", augment)
        if eval_pairs is not None and eval_pairs < 1:
            raise ConfigError(f"data.eval_pairs={eval_pairs} must be at least 1, or null for all.")
        self.exclude, self.eval_pairs = exclude, eval_pairs

    def choose(self, cases: list[Case], split: str) -> list[Case]:
        """The cases that the file `exclude` does not name.

        Raises:
            DataError: the file cannot be read.
        """
        if self.exclude is None:
            return cases
        names = {line.strip() for line in read_text(Path(self.exclude)).split("\n") if line.strip()}
        names |= {stem_of(Path(name)) for name in names}
        return [case for case in cases if case.id not in names]

    def dataset(self, cases: Sequence[Case], split: str) -> FrameDataset:
        """Images with label maps."""
        return FrameDataset(cases, self.organs, self.frame)

    def items(self, cases: CaseDataset, split: str) -> Dataset[Any]:
        """All ordered pairs; for validation and test at most `eval_pairs`, drawn once."""
        assert isinstance(cases, FrameDataset)
        pairs, count = PairDataset(cases), self.eval_pairs
        if split in ("train", UNLABELLED) or count is None or count >= len(pairs):
            return pairs
        draw = torch.Generator().manual_seed(0)
        return Subset(pairs, sorted(torch.randperm(len(pairs), generator=draw)[:count].tolist()))

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """A training batch with a random deformation of each image, applied to its labels too."""
        if not training or self.augment_config is None:
            return batch
        found = dict(batch)
        for role in ("moving", "fixed"):
            image, labels = deform_image(batch[role], batch.get(f"{role}_labels"), self.augment_config)
            found[role] = image
            if labels is not None:
                found[f"{role}_labels"] = labels
        return found

    def prepare_unlabelled(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """As any training batch: a pair is found anew each time, so that nothing need stay in place."""
        return self.prepare(batch, training=True)
