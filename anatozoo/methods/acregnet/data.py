"""The data of AC-RegNet: ordered pairs of images of different subjects."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from anatozoo.data.base import strengths
from anatozoo.data.framed import FrameDataModule, FrameDataset
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.files import stem_of
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
        """Moving and fixed case of a pair."""
        moving, rest = divmod(index, len(self.frames) - 1)
        return moving, rest + (rest >= moving)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One pair: ``moving``, ``fixed`` (1, ...), their ``_labels`` (...), ``spacing_mm``, ``index``."""
        item = {"index": torch.tensor(index)}
        for role, case in zip(("moving", "fixed"), self.pair(index), strict=True):
            found = self.frames[case]
            item[role] = found["image"]
            item["spacing_mm"] = found["spacing_mm"]  # the fixed one's in the end, where results lie
            if "labels" in found:
                item[f"{role}_labels"] = found["labels"]
        return item

    def identity(self, index: int) -> dict[str, Any]:
        """``id`` as ``MOVING->FIXED``, the two names and subjects, and, where known, the ``split``."""
        moving, fixed = (self.frames.identity(case) for case in self.pair(index))
        known = {"id": f"{moving['id']}->{fixed['id']}", "moving": moving["id"], "fixed": fixed["id"]}
        known |= {"moving_subject": moving["subject"], "fixed_subject": fixed["subject"]}
        return known | ({"split": fixed["split"]} if "split" in fixed else {})


class AcRegNetDataModule(FrameDataModule):
    """Ordered pairs of two different images of a split, with their label maps.

    An epoch goes through all of them; ``trainer.limit_train_batches`` makes it shorter, with other pairs
    every time.

    Args:
        root: folder with the data; see `anatozoo.data.cases.find_cases` for the layouts.
        layout: ``"jsrt"`` or ``"folders"``.
        organs: as in the module; empty where no label maps are needed.
        label_values: value of each organ in the files of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name.
        frame: as in the module.
        batch_size: items per process and step.
        num_workers: loading processes; images are read once and kept in memory.
        augment: strengths of a deformation of each image with its labels, in training: fields of
            `anatozoo.nn.deform.ShapeConfig`; ``{}`` takes its defaults, None, as in the paper, deforms none.
        exclude: text file with the names of cases to leave out of all splits, one a line, with or without
            the suffix of an image; such as those on which another method is to be judged.
        eval_pairs: how many pairs to validate and test on, always the same ones; None takes all.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["jsrt", "folders"] = "jsrt",
        organs: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        label_values: list[int] | None = None,
        subject_pattern: str | None = None,
        frame: FrameSpec = FrameSpec(64),
        batch_size: int = 32,
        num_workers: int = 0,
        augment: dict[str, float] | None = None,
        exclude: str | None = None,
        eval_pairs: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        self.check_settings(frame)
        self.augment_config = None if augment is None else strengths(ShapeConfig, "augment", augment)
        if eval_pairs is not None and eval_pairs < 1:
            raise ConfigError(f"data.eval_pairs={eval_pairs} must be at least 1, or null for all.")

    def excluded_cases(self) -> frozenset[str]:
        """Names of the file `exclude`.

        Raises:
            DataError: it cannot be read.
        """
        path = self.hparams["exclude"]
        if path is None:
            return frozenset()
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"data.exclude={path} cannot be read: {error}.") from error
        names = [line.strip() for line in lines if line.strip()]
        return frozenset([*names, *(stem_of(Path(name)) for name in names)])

    def make_set(self, frames: FrameDataset, split: str) -> Dataset[Any]:
        """All ordered pairs; of the others than training at most `eval_pairs`, drawn once."""
        pairs, count = PairDataset(frames), self.hparams["eval_pairs"]
        if split == "train" or count is None or count >= len(pairs):
            return pairs
        draw = torch.Generator().manual_seed(0)
        return Subset(pairs, sorted(torch.randperm(len(pairs), generator=draw)[:count].tolist()))

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Deform the images of a training batch, with random numbers that a resumed fit repeats."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.augment_config is None or self.trainer is None or not self.trainer.training:
            return batch
        return self.deformed(batch)

    @torch.no_grad()
    def deformed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch whose moving and fixed images are each deformed in a way of their own, labels alike."""
        assert self.augment_config is not None
        found = dict(batch)
        for role in ("moving", "fixed"):
            image, labels = deform_image(batch[role], batch.get(f"{role}_labels"), self.augment_config)
            found[role] = image
            if labels is not None:
                found[f"{role}_labels"] = labels
        return found
