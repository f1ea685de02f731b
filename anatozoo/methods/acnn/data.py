"""The data of ACNN: volumes with label maps, in the frame of the network."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.base import announce_splits, seed_training_step, strengths
from anatozoo.data.cases import FrameCase
from anatozoo.data.framed import FrameDataModule, FrameDataset, frame_spacing
from anatozoo.data.stacks import HEART, StackCase, find_stacks
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import fit_frame
from anatozoo.nn.stack_augment import Motion, StackAugment, augment, crop, move


class StackDataset(FrameDataset):
    """Volumes and label maps in the frame.

    Items are those of `FrameDataset`: ``image`` (1, D, H, W) in [0, 1], ``labels`` (D, H, W) uint8,
    ``spacing_mm`` and ``index``.

    Args:
        cases: the cases.
        spec: what the network sees, see `anatozoo.frames.stacks.fit_frame`.
    """

    def __init__(self, cases: Sequence[FrameCase], spec: FrameSpec) -> None:
        super().__init__(cases, spec, labelled=True)

    def read(self, case: FrameCase) -> dict[str, Tensor]:
        """Image, in half precision, and label map in the frame.

        Raises:
            DataError: there is no label map, or it is empty.
        """
        image, labels = case.read()
        if labels is None or not labels.any():
            raise DataError(f"the label map of case {case.id} is empty; take the case out or label it.")
        frame = fit_frame(image.grid, self.spec)
        return {
            "image": torch.from_numpy(frame.image(image.pixels).astype(np.float16))[None],
            "spacing_mm": frame_spacing(frame),
            "labels": torch.from_numpy(frame.labels(labels)),
        }

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The image in single precision."""
        copies = super().unpack(stored)
        return copies | {"image": copies["image"].float()}

    def identity(self, index: int) -> dict[str, Any]:
        """That of the base class, and of ACDC the phase and the diagnosis."""
        case = self.cases[index]
        return super().identity(index) | (dict(case.facts) if isinstance(case, StackCase) else {})


class AcnnDataModule(FrameDataModule):
    """Volumes with label maps for both stages, from the folders that users have.

    Training volumes are read with a margin within slices, augmented in batches on the device, and cropped to
    the frame at random; others show the middle.

    Args:
        root: folder with the data; see `anatozoo.data.stacks.find_stacks` for the layouts.
        layout: ``"acdc"`` or ``"folders"``.
        organs: as in the module.
        label_values: value of each organ in the files of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name.
        frame: as in the module.
        subjects: how many subjects to train on, the first of the split; None takes all.
        margin: pixels beside the frame, within slices, that random crops may show.
        foreground: share of the crops that lie around a voxel of the anatomy, for frames much smaller than
            the slices; the others are anywhere.
        batch_size: volumes per process and step.
        num_workers: loading processes; volumes are read once and kept in memory.
        augment: strengths, fields of `anatozoo.nn.stack_augment.StackAugment`; ``{}`` takes its defaults,
            None switches augmentation off.
        motion: motion between slices, fields of `anatozoo.nn.stack_augment.Motion`; None is none.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["acdc", "folders"] = "acdc",
        organs: list[str] = HEART,
        label_values: list[int] | None = None,
        subject_pattern: str | None = None,
        frame: FrameSpec = FrameSpec([16, 128, 128], "slices", long_side=208),
        subjects: int | None = None,
        margin: int = 16,
        foreground: float = 0.0,
        batch_size: int = 2,
        num_workers: int = 0,
        augment: dict[str, float] | None = {},  # noqa: B006
        motion: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        self.check_settings(frame)
        if margin < 0 or (subjects is not None and subjects < 1):
            raise ConfigError(
                f"data.margin={margin} must not be negative, data.subjects={subjects} at least 1."
            )
        if not 0 <= foreground <= 1:
            raise ConfigError(f"data.foreground={foreground} must be within 0 … 1.")
        if len(self.shape) != 3 and (augment is not None or motion is not None):
            raise ConfigError("planes are not augmented; set data.augment and data.motion to null.")
        self.augment_config = None if augment is None else strengths(StackAugment, "augment", augment)
        self.motion = strengths(Motion, "motion", motion or {})

    def setup(self, stage: str) -> None:
        """Find the files; they are read when first needed.

        Raises:
            DataError: a split that is needed is empty, or has too few subjects.
        """
        h: Any = self.hparams
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        missing = [split for split in wanted if split not in self.sets]
        if not missing:
            return
        cases = find_stacks(
            h.root,
            h.layout,
            self.organs,
            dims=len(self.shape),
            label_values=h.label_values,
            subject_pattern=h.subject_pattern,
        )
        announce_splits(self, cases)
        for split in missing:
            chosen = [case for case in cases if case.split == split]
            if split == "train" and h.subjects is not None:
                chosen = first_subjects(chosen, h.subjects)
            if not chosen:
                raise DataError(f"{h.root}: none of the {len(cases)} volumes is in the split {split!r}.")
            shape = self.padded_shape if split == "train" else self.shape
            self.sets[split] = StackDataset(chosen, replace(self.frame, size=list(shape)))

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The frame with its margin, within which training volumes are cropped; none without augmentation."""
        margin = 2 * self.hparams["margin"]
        # Stretched and padded images are whole: there is nothing beside the frame.
        if self.augment_config is None or self.frame.fit not in ("slices", "spacing"):
            return self.shape
        return (*self.shape[:-2], *(side + margin for side in self.shape[-2:]))

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Augment a training batch, with random numbers that a resumed fit repeats."""
        if self.trainer is None or not self.trainer.training:
            return batch
        seed_training_step(self.trainer)
        return self.augmented(batch)

    @torch.no_grad()
    def augmented(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A training batch, transformed, cropped, and with motion between slices."""
        image, labels = batch["image"], batch["labels"]
        if self.augment_config is not None:
            image, labels = augment(image, labels, self.augment_config)
            image, labels = crop(
                image, labels, self.shape, random=True, foreground=self.hparams["foreground"]
            )
        if len(self.shape) == 3:
            image, labels = move(image, labels, self.motion)
        return batch | {"image": image, "labels": labels}


def first_subjects(cases: Sequence[FrameCase], count: int) -> list[FrameCase]:
    """The cases of the first subjects.

    Raises:
        DataError: there are not so many.
    """
    subjects = sorted({case.subject for case in cases})
    if len(subjects) < count:
        raise DataError(f"data.subjects={count}, but the training split has {len(subjects)} subjects.")
    return [case for case in cases if case.subject in subjects[:count]]
