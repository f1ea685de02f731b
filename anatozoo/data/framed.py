"""What the LightningDataModules on images with label maps share, 2-D and 3-D."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anatozoo.data.base import CaseDataset, announce_splits, loader, seed_training_step
from anatozoo.data.cases import FrameCase, find_cases
from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.labels import check_labels


class FrameDataset(CaseDataset):
    """Images and label maps in the frame.

    Items hold ``image`` (1, ...) in [0, 1], ``labels`` (...) uint8 where there are any, ``spacing_mm``
    (x, y[, z]) float32 of the frame's pixels, NaN where it is unknown, and ``index``.

    Args:
        cases: the cases.
        spec: what the network sees.
        labelled: whether every case must have a label map.
    """

    def __init__(self, cases: Sequence[FrameCase], spec: FrameSpec, *, labelled: bool) -> None:
        super().__init__(cases)
        self.spec, self.labelled = spec, labelled

    def read(self, case: FrameCase) -> dict[str, Tensor]:
        """Image and label map in the frame.

        Raises:
            DataError: the label map is empty.
            GeometryError: the frame is in millimetres and the image's spacing is unknown.
        """
        image, labels = case.read()
        try:
            frame = Frame.fit(image.grid, self.spec)
        except GeometryError as error:
            raise GeometryError(f"case {case.id}: {error}") from error
        seen = frame.image(image.pixels, self.spec.intensity, image.black_white)
        item = {"image": torch.from_numpy(seen)[None], "spacing_mm": frame_spacing(frame)}
        if not self.labelled:
            return item
        if labels is None or not labels.any():
            raise DataError(f"the label map of case {case.id} is empty; take the case out or label it.")
        return item | {"labels": torch.from_numpy(frame.labels(labels))}

    def identity(self, index: int) -> dict[str, Any]:
        """``id``, ``subject`` and, where known, ``split``."""
        case = self.cases[index]
        known = {"id": case.id, "subject": case.subject, "split": case.split}
        return {key: value for key, value in known.items() if value is not None}


def frame_spacing(frame: Frame) -> Tensor:
    """Millimetres per pixel of the frame, NaN where they are unknown."""
    spacing = frame.spacing_mm
    return torch.full((frame.grid.dims,), torch.nan) if spacing is None else torch.tensor(spacing)


class FrameDataModule(L.LightningDataModule):
    """Images and label maps in a network's frame, from the folders that users have.

    Subclasses call ``super().__init__()``, ``self.save_hyperparameters(ignore="frame")`` and `check_settings`
    with the arguments ``root``, ``layout``, ``organs``, ``label_values``, ``subject_pattern``, ``batch_size``
    and ``num_workers`` among theirs.
    """

    def check_settings(self, frame: FrameSpec | Mapping[str, Any]) -> None:
        """Check the settings that need no data.

        Args:
            frame: what the network sees.

        Raises:
            ConfigError: one of them is not possible.
        """
        h: Any = self.hparams
        self.frame = FrameSpec.of(frame)
        self.organs, self.shape = check_labels(h.organs), self.frame.shape
        if h.batch_size < 1 or h.num_workers < 0:
            raise ConfigError("data.batch_size must be at least 1, data.num_workers at least 0.")
        self.sets: dict[str, Dataset[Any]] = {}

    def setup(self, stage: str) -> None:
        """Find the files; they are read when first needed.

        Raises:
            DataError: a split that is needed is empty.
        """
        h: Any = self.hparams
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        missing = [split for split in wanted if split not in self.sets]
        if not missing:
            return
        cases = find_cases(
            h.root,
            h.layout,
            self.organs,
            dims=len(self.shape),
            label_values=h.label_values,
            subject_pattern=h.subject_pattern,
        )
        announce_splits(self, cases)
        excluded = self.excluded_cases()
        for split in missing:
            chosen = [case for case in cases if case.split == split and case.id not in excluded]
            if len(chosen) < 2:
                raise DataError(f"{h.root}: the split {split!r} has {len(chosen)} cases; two are needed.")
            frames = FrameDataset(chosen, self.frame, labelled=bool(self.organs))
            self.sets[split] = self.make_set(frames, split)

    def excluded_cases(self) -> frozenset[str]:
        """Names of cases that belong to no split."""
        return frozenset()

    def make_set(self, frames: FrameDataset, split: str) -> Dataset[Any]:
        """The data set of a split from its cases."""
        return frames

    def _loader(self, split: str) -> DataLoader[Any]:
        h: Any = self.hparams
        train = split == "train"
        return loader(self.sets[split], batch_size=h.batch_size, num_workers=h.num_workers, train=train)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training items, shuffled anew every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation items, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Test items, in order."""
        return self._loader("test")

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Let noise and dropout of a training step follow from its number: a resumed fit repeats them."""
        if self.trainer is not None and self.trainer.training:
            seed_training_step(self.trainer)
        return batch
