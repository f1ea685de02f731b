"""The data of ACNN: volumes with label maps, in the frame of the network."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case
from anatozoo.data.framed import FrameDataset, frame_spacing
from anatozoo.data.layouts.acdc import HEART
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.grid import Grid
from anatozoo.metrics.tables import with_facts
from anatozoo.nn.stack_augment import Motion, StackAugment, augment, crop, move
from anatozoo.nn.thick_slices import Profile, degrade_slices, slice_profile
from anatozoo.tasks.restore import check_slices


class StackDataset(FrameDataset):
    """Volumes and label maps in the frame.

    Items are those of `FrameDataset`: ``image`` (1, D, H, W) in [0, 1], ``labels`` (D, H, W) uint8, ``known``
    and ``spacing_mm``.
    """

    def frame_of(self, grid: Grid) -> Frame:
        """The frame of a volume, aligned with its voxels and slices where possible."""
        return fit_frame(grid, self.spec)

    def read(self, case: Case) -> dict[str, Tensor]:
        """Image, in half precision, and label map in the frame.

        Raises:
            DataError: the label map is empty.
        """
        image = case.read_image(self.spec.dims)
        frame = self.fitted(case, image.grid)
        item = {
            "image": torch.from_numpy(frame.image(image.pixels).astype(np.float16))[None],
            "spacing_mm": frame_spacing(frame),
        }
        return item | self.truth(case, image.grid, frame)

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The image in single precision."""
        copies = super().unpack(stored)
        return copies | {"image": copies["image"].float()}

    def identity(self, index: int) -> dict[str, Any]:
        """As in `FrameDataset`, with further facts, such as phase and diagnosis of ACDC."""
        return with_facts(super().identity(index), self.cases[index].facts)


class AcnnDataModule(ZooDataModule):
    """Volumes with label maps, for the segmentation network and for the shape prior.

    Training volumes are read with a margin within slices, augmented in batches on the device, and cropped to
    the frame at random. Volumes of validation and test, and those without annotation, show the centre.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"acdc"`` or ``"folder"``.
        organs: organs, as in the module.
        frame: frame, as in the module.
        subjects: train on the first N subjects of the split; None takes all.
        margin: pixels around the frame, within slices, that random crops may show.
        foreground: share of the crops that lie around a voxel of the anatomy, for frames much smaller than
            the slices; the others are placed anywhere.
        batch_size: volumes per process and step.
        augment: strengths of the augmentation, fields of `anatozoo.nn.stack_augment.StackAugment`; ``{}``
            takes its defaults, None switches it off.
        motion: simulated motion between slices, fields of `anatozoo.nn.stack_augment.Motion`, or None.
        upsample: fine slices of labels for each slice of the image, as in the module: images become thick
            slices, as a scanner would have measured them, and labels stay as fine as they are. Motion is then
            that of the thick slices, and labels cannot follow it. Validation images do not move.
        profile: slice profile of the thick slices, see `anatozoo.nn.thick_slices.degrade_slices`.
        **settings: see `ZooDataModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "acdc",
        organs: list[str] = HEART,
        frame: FrameSpec = FrameSpec([16, 128, 128], "slices", long_side=208),
        subjects: int | None = None,
        margin: int = 16,
        foreground: float = 0.0,
        batch_size: int = 2,
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        motion: dict[str, float | bool] | None = None,
        upsample: int = 1,
        profile: Profile = "gaussian",
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, organs=organs, frame=frame, batch_size=batch_size, **settings)
        self.subjects, self.margin, self.foreground = subjects, margin, foreground
        if margin < 0 or (subjects is not None and subjects < 1):
            raise ConfigError(
                f"data.margin={margin} must not be negative, data.subjects={subjects} at least 1."
            )
        if not 0 <= foreground <= 1:
            raise ConfigError(f"data.foreground={foreground} must be within 0 … 1.")
        if self.frame.dims != 3 and (augment is not None or motion is not None):
            raise ConfigError("planes are not augmented; set data.augment and data.motion to null.")
        self.augment_config = None if augment is None else strengths(StackAugment, "augment", augment)
        self.motion = strengths(Motion, "motion", motion or {})
        self.upsample, self.profile = upsample, profile
        if upsample != 1:
            check_slices(self.frame, upsample)
            slice_profile(upsample, profile)
            if self.motion.shift_px and self.motion.labels_follow:
                raise ConfigError(
                    "fine labels cannot follow the motion of thick slices; set data.motion.labels_follow to "
                    "false, so that the network learns what lies there without motion."
                )

    def choose(self, cases: list[Case], split: str) -> list[Case]:
        """The cases; for training, those of the first `subjects` only."""
        if split != "train" or self.subjects is None:
            return cases
        return first_subjects(cases, self.subjects)

    def dataset(self, cases: Sequence[Case], split: str) -> StackDataset:
        """Volumes; for training, with the margin."""
        shape = self.padded_shape if split == "train" else self.frame.shape
        return StackDataset(cases, self.organs, replace(self.frame, size=list(shape)))

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """Size of training volumes before the random crop; without augmentation, that of the frame."""
        # Stretched and padded images are complete: nothing lies outside the frame.
        if self.augment_config is None or self.frame.fit not in ("slices", "spacing"):
            return self.frame.shape
        return (*self.frame.shape[:-2], *(side + 2 * self.margin for side in self.frame.shape[-2:]))

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """A training batch, transformed, cropped, thickened, and with motion between slices."""
        image, labels = batch["image"], batch["labels"]
        if training and self.augment_config is not None:
            image, labels = augment(image, labels, self.augment_config)
            image, labels = crop(image, labels, self.frame.shape, random=True, foreground=self.foreground)
        if self.upsample > 1:
            image = degrade_slices(image, self.upsample, self.profile)
        if training and self.frame.dims == 3:
            image, labels = move(image, labels, self.motion)
        return batch | {"image": image, "labels": labels}

    def prepare_unlabelled(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Augment the grey values alone, and thicken; such volumes show the middle and do not move."""
        if self.augment_config is not None:
            still = replace(self.augment_config, rotation_deg=0.0, scale=0.0, reorder_p=0.0)
            batch = batch | {"image": augment(batch["image"], batch["labels"], still)[0]}
        return self.prepare(batch, training=False)


def first_subjects(cases: Sequence[Case], count: int) -> list[Case]:
    """The cases of the first subjects.

    Raises:
        DataError: there are fewer.
    """
    subjects = sorted({case.subject for case in cases})
    if len(subjects) < count:
        raise DataError(f"data.subjects={count}, but the training split has {len(subjects)} subjects.")
    return [case for case in cases if case.subject in subjects[:count]]
