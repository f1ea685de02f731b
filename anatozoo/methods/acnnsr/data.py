"""The data of ACNN-SR: fine volumes, from which thick slices are made on the fly."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.data.base import announce_splits, seed_training_step, strengths
from anatozoo.data.cases import FrameCase, find_cases
from anatozoo.data.framed import FrameDataModule, FrameDataset, frame_spacing
from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.intensity import intensity_range
from anatozoo.methods.acnnsr.augment import SliceAugment, add_noise, augment
from anatozoo.methods.acnnsr.degrade import Profile, degrade_slices, slice_profile
from anatozoo.nn.stack_augment import crop
from anatozoo.tasks.restore import check_slices

COARSER = 1.2
"""From what ratio to the wanted spacing on a volume is too coarse to learn fine slices from."""


class SliceDataset(FrameDataset):
    """Fine volumes in the frame.

    Items hold ``target`` (1, D, H, W), intensities of which percentiles 0.5 and 99.5 are 0 and 1, not
    clipped, and the volume's border around it; ``inside`` (D, H, W) bool, where the volume itself is;
    ``spacing_mm`` and ``index``.

    Args:
        cases: the cases.
        spec: what the network sees, at a resolution in millimetres.
    """

    def __init__(self, cases: Sequence[FrameCase], spec: FrameSpec) -> None:
        super().__init__(cases, spec, labelled=False)

    def read(self, case: FrameCase) -> dict[str, Tensor]:
        """The volume in the frame, in half precision; voxels are not interpolated where the spacing fits.

        Raises:
            GeometryError: its spacing is unknown.
            DataError: it is coarser than the frame.
        """
        image, _ = case.read()
        try:
            frame = fit_frame(image.grid, self.spec)
        except GeometryError as error:
            raise GeometryError(f"case {case.id}: {error}") from error
        if (frame.scale > COARSER).any():
            raise DataError(
                f"case {case.id} has voxels of {image.grid.spacing_mm} mm, from which fine volumes of "
                f"{self.spec.spacing_mm} mm cannot be learnt."
            )
        low, high = intensity_range(image.pixels)
        fine = on_frame((image.pixels - low) / (high - low), frame)
        return {
            "target": torch.from_numpy(fine.astype(np.float16))[None],
            "inside": torch.from_numpy(frame.labels(np.ones(image.grid.shape, np.uint8)) > 0),
            "spacing_mm": frame_spacing(frame),
        }

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The volume in single precision."""
        copies = super().unpack(stored)
        return copies | {"target": copies["target"].float()}


class AcnnSRDataModule(FrameDataModule):
    """Fine volumes, and the thick slices that a scanner would have made of them.

    Batches hold the items of `SliceDataset` and ``image`` (B, 1, D / factor, H, W), the thick slices, made of
    ``target`` on the device. Training volumes are read with a margin and cropped to the frame at random, so
    that thick slices fall on any of the thin ones; others show the middle. Label maps are not needed.

    Args:
        root: folder with the data; see `anatozoo.data.cases.find_cases` for the layout.
        layout: ``"folders"``, also that of the Medical Segmentation Decathlon.
        subject_pattern: regular expression whose first group is the subject in a case's name.
        frame: as in the module.
        factor: as in the module.
        profile: of the slices that are made, see `anatozoo.methods.acnnsr.degrade.degrade_slices`.
        margin: voxels beside the frame that random crops may show.
        batch_size: volumes per process and step.
        num_workers: loading processes; volumes are read once and kept in memory.
        augment: strengths, fields of `anatozoo.methods.acnnsr.augment.SliceAugment`; ``{}`` takes its
            defaults, None switches augmentation and random crops off.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["folders"] = "folders",
        subject_pattern: str | None = None,
        frame: FrameSpec = FrameSpec([40, 56, 32], "spacing", [1.0, 1.0, 1.0]),
        factor: int = 4,
        profile: Profile = "gaussian",
        margin: int = 4,
        batch_size: int = 4,
        num_workers: int = 0,
        augment: dict[str, float] | None = {},  # noqa: B006
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        self.frame = FrameSpec.of(frame)
        self.shape = self.frame.shape
        check_slices(self.frame, factor)
        if batch_size < 1 or num_workers < 0 or margin < 0:
            raise ConfigError(
                f"data.batch_size={batch_size} must be at least 1, data.num_workers={num_workers} and "
                f"data.margin={margin} not negative."
            )
        slice_profile(factor, profile)
        self.augment_config = None if augment is None else strengths(SliceAugment, "augment", augment)
        self.sets: dict[str, Any] = {}

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
        cases = find_cases(h.root, h.layout, [], dims=3, subject_pattern=h.subject_pattern)
        announce_splits(self, cases)
        for split in missing:
            chosen = [case for case in cases if case.split == split]
            if not chosen:
                raise DataError(f"{h.root}: none of the {len(cases)} volumes is in the split {split!r}.")
            shape = self.padded_shape if split == "train" else self.shape
            self.sets[split] = SliceDataset(chosen, replace(self.frame, size=list(shape)))

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The frame with its margin, within which training volumes are cropped; none without augmentation."""
        margin = 0 if self.augment_config is None else 2 * self.hparams["margin"]
        return tuple(side + margin for side in self.shape)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Make the thick slices; a training batch is augmented before, as a resumed fit would repeat it."""
        if self.trainer is not None and self.trainer.training:
            seed_training_step(self.trainer)
            return self.augmented(batch)
        return self.degraded(batch)

    @torch.no_grad()
    def degraded(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with its thick slices."""
        h: Any = self.hparams
        return batch | {"image": degrade_slices(batch["target"], h.factor, h.profile)}

    @torch.no_grad()
    def augmented(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A training batch, cropped and transformed, with its thick slices."""
        config = self.augment_config
        if config is None:
            return self.degraded(batch)
        target, inside = crop(batch["target"], batch["inside"], self.shape, random=True)
        target, inside = augment(target, inside, config)
        made = self.degraded(batch | {"target": target, "inside": inside})
        return made | {"image": add_noise(made["image"], config)}


def on_frame(values: npt.NDArray[np.float32], frame: Frame) -> npt.NDArray[np.float32]:
    """A volume in the frame, linear interpolation, its border beyond it.

    Args:
        values: (D, H, W).
        frame: from its grid; where it is coarser, the volume is blurred before.
    """
    turned = frame.smooth(frame.orientation.apply(values), "nearest", 1 / COARSER)
    return frame.resample(turned, 1, "nearest").astype(np.float32, copy=False)
