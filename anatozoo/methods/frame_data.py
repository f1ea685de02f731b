"""LightningDataModules on images in a network's frame with label maps, and on pairs of them."""

from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from anatozoo.errors import ConfigError, DataError
from anatozoo.methods.base_data import EpochSampler, seed_training_step
from anatozoo.methods.frame_cases import FrameCase, find_cases
from anatozoo.methods.frames import Fit, Frame, frame_shape
from anatozoo.nn.labels import check_labels


class FrameDataset(Dataset[dict[str, Tensor]]):
    """Images and label maps in the frame, kept in memory once read.

    Args:
        cases: the cases.
        shape: the frame's shape.
        fit: see `anatozoo.methods.frames.Frame.fit`.
        spacing_mm: the same.
        labelled: whether every case must have a label map.
    """

    def __init__(
        self,
        cases: Sequence[FrameCase],
        shape: tuple[int, ...],
        fit: Fit,
        spacing_mm: Sequence[float] | None,
        *,
        labelled: bool,
    ) -> None:
        self.cases, self.shape, self.fit, self.spacing_mm = list(cases), shape, fit, spacing_mm
        self.labelled = labelled
        self._memory: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One case: ``image`` (1, *S) in [0, 1], ``labels`` (*S) uint8 where there are any, and ``index``."""
        if index not in self._memory:
            self._memory[index] = self._read(self.cases[index])
        return self._memory[index] | {"index": torch.tensor(index)}

    def _read(self, case: FrameCase) -> dict[str, Tensor]:
        image, labels = case.read()
        frame = Frame.fit(image.grid, self.shape, self.fit, self.spacing_mm)
        item = {"image": torch.from_numpy(frame.image(image.pixels))[None]}
        if not self.labelled:
            return item
        if labels is None or not labels.any():
            raise DataError(f"the label map of case {case.id} is empty; take the case out or label it.")
        return item | {"labels": torch.from_numpy(frame.labels(labels))}


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
        """One pair: ``moving``, ``fixed`` (1, *S), ``moving_labels``, ``fixed_labels`` (*S), ``index``."""
        item = {"index": torch.tensor(index)}
        for role, case in zip(("moving", "fixed"), self.pair(index), strict=True):
            found = self.frames[case]
            item[role] = found["image"]
            if "labels" in found:
                item[f"{role}_labels"] = found["labels"]
        return item


class FrameDataModule(L.LightningDataModule):
    """Label maps and images for networks that see one at a time, such as the label autoencoder.

    Args:
        root: folder with the data; see `anatozoo.methods.frame_cases.find_cases` for the layouts.
        layout: ``"jsrt"`` or ``"folders"``.
        labels: as in the module.
        label_values: value of each class in the files of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name.
        image_size: as in the module.
        fit: as in the registration module.
        spacing_mm: the same.
        batch_size: items per process and step.
        num_workers: loading processes; images are read once and kept in memory.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["jsrt", "folders"] = "jsrt",
        labels: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        label_values: list[int] | None = None,
        subject_pattern: str | None = None,
        image_size: int | list[int] = 64,
        fit: Literal["pad", "stretch", "spacing"] = "pad",
        spacing_mm: list[float] | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.check_settings()

    def check_settings(self) -> None:
        """Check the settings that need no data.

        Raises:
            ConfigError: one of them is not possible.
        """
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
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
            self.labels,
            dims=len(self.shape),
            label_values=h.label_values,
            subject_pattern=h.subject_pattern,
        )
        for split in missing:
            chosen = [case for case in cases if case.split == split]
            if len(chosen) < 2:
                raise DataError(f"{h.root}: the split {split!r} has {len(chosen)} cases; two are needed.")
            frames = FrameDataset(chosen, self.shape, h.fit, h.spacing_mm, labelled=bool(self.labels))
            self.sets[split] = self.make_set(frames, split)

    def make_set(self, frames: FrameDataset, split: str) -> Dataset[Any]:
        """The data set of a split from its cases."""
        return frames

    def _loader(self, split: str) -> DataLoader[Any]:
        h: Any = self.hparams
        data: Any = self.sets[split]
        train = split == "train"
        return DataLoader(
            data,
            batch_size=h.batch_size,
            sampler=EpochSampler(data) if train else None,
            drop_last=train and len(data) >= h.batch_size,
            num_workers=h.num_workers,
            persistent_workers=h.num_workers > 0,
        )

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


class PairDataModule(FrameDataModule):
    """Ordered pairs of two different images of a split, with their label maps.

    An epoch goes through all of them; ``trainer.limit_train_batches`` makes it shorter, with other pairs
    every time.

    Args:
        root: as in `FrameDataModule`, as all others but the last.
        layout: see there.
        labels: see there; empty where no label maps are needed.
        label_values: see there.
        subject_pattern: see there.
        image_size: see there.
        fit: see there.
        spacing_mm: see there.
        batch_size: see there.
        num_workers: see there.
        eval_pairs: how many pairs to validate and test on, always the same ones; None takes all.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["jsrt", "folders"] = "jsrt",
        labels: list[str] = ["lungs", "heart"],  # noqa: B006
        label_values: list[int] | None = None,
        subject_pattern: str | None = None,
        image_size: int | list[int] = 64,
        fit: Literal["pad", "stretch", "spacing"] = "pad",
        spacing_mm: list[float] | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        eval_pairs: int | None = None,
    ) -> None:
        L.LightningDataModule.__init__(self)
        self.save_hyperparameters()
        self.check_settings()
        if eval_pairs is not None and eval_pairs < 1:
            raise ConfigError(f"data.eval_pairs={eval_pairs} must be at least 1, or null for all.")

    def make_set(self, frames: FrameDataset, split: str) -> Dataset[Any]:
        """All ordered pairs; of the others than training at most `eval_pairs`, drawn once."""
        pairs, count = PairDataset(frames), self.hparams["eval_pairs"]
        if split == "train" or count is None or count >= len(pairs):
            return pairs
        draw = torch.Generator().manual_seed(0)
        return Subset(pairs, sorted(torch.randperm(len(pairs), generator=draw)[:count].tolist()))
