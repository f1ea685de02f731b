"""The data of ACNN-SR: fine volumes, and thick slices simulated from them on the fly."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case
from anatozoo.data.framed import FrameDataset, frame_spacing
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.grid import Grid
from anatozoo.io.intensity import intensity_range
from anatozoo.methods.acnnsr.augment import SliceAugment, add_noise, augment
from anatozoo.nn.stack_augment import crop
from anatozoo.nn.thick_slices import Profile, degrade_slices, slice_profile
from anatozoo.tasks.restore import check_slices

COARSER = 1.2
"""Volumes whose spacing exceeds the wanted one by more than this factor are too coarse to learn from."""


class SliceDataset(FrameDataset):
    """Fine volumes in the frame.

    Items hold ``target`` (1, D, H, W), intensities scaled so that their percentiles 0.5 and 99.5 are 0 and 1,
    not clipped, continued beyond the volume's border; ``inside`` (D, H, W) bool, true within the volume; and
    ``spacing_mm``.

    Args:
        cases: the cases.
        spec: frame of the network, with a resolution in millimetres.
    """

    def __init__(self, cases: Sequence[Case], spec: FrameSpec) -> None:
        super().__init__(cases, (), spec)

    def frame_of(self, grid: Grid) -> Frame:
        """The frame of a volume; without interpolation where the spacing fits."""
        return fit_frame(grid, self.spec)

    def read(self, case: Case) -> dict[str, Tensor]:
        """The volume in the frame, in half precision.

        Raises:
            GeometryError: its spacing is unknown.
            DataError: it is coarser than the frame.
        """
        image = case.read_image(3)
        frame = self.fitted(case, image.grid)
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


class AcnnSRDataModule(ZooDataModule):
    """Fine volumes, and the thick slices that a scanner would have measured.

    Batches hold the items of `SliceDataset` and ``image`` (B, 1, D / factor, H, W), the thick slices, made
    from ``target`` on the device. Training volumes are read with a margin and cropped to the frame at random,
    so that thick slices begin at any thin one; others show the centre. Label maps are not needed.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"folder"``.
        frame: frame, as in the module.
        factor: fine slices for each thick one, as in the module.
        profile: slice profile of the thick slices, see `anatozoo.nn.thick_slices.degrade_slices`.
        margin: voxels around the frame that random crops may show.
        augment: strengths of the augmentation, fields of `anatozoo.methods.acnnsr.augment.SliceAugment`;
            ``{}`` takes its defaults, None switches augmentation and random crops off.
        **settings: see `ZooDataModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "folder",
        frame: FrameSpec = FrameSpec([40, 56, 32], "spacing", [1.0, 1.0, 1.0]),
        factor: int = 4,
        profile: Profile = "gaussian",
        margin: int = 4,
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, organs=(), frame=frame, **settings)
        check_slices(self.frame, factor)
        if margin < 0:
            raise ConfigError(f"data.margin={margin} must not be negative.")
        slice_profile(factor, profile)
        self.factor, self.profile, self.margin = factor, profile, margin
        self.augment_config = None if augment is None else strengths(SliceAugment, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> SliceDataset:
        """Fine volumes; for training, with the margin."""
        shape = self.frame.shape if split in ("val", "test") else self.padded_shape
        return SliceDataset(cases, replace(self.frame, size=list(shape)))

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """Size of training volumes before the random crop; without augmentation, that of the frame."""
        margin = 0 if self.augment_config is None else 2 * self.margin
        return tuple(side + margin for side in self.frame.shape)

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """A batch with its thick slices; in training it is cropped and augmented first."""
        config = self.augment_config
        if not training or config is None:
            return self._degraded(batch)
        target, inside = crop(batch["target"], batch["inside"], self.frame.shape, random=True)
        target, inside = augment(target, inside, config)
        made = self._degraded(batch | {"target": target, "inside": inside})
        return made | {"image": add_noise(made["image"], config)}

    def _degraded(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch | {"image": degrade_slices(batch["target"], self.factor, self.profile)}


def on_frame(values: npt.NDArray[np.float32], frame: Frame) -> npt.NDArray[np.float32]:
    """A volume in the frame, by linear interpolation; beyond the border its values continue.

    Args:
        values: (D, H, W).
        frame: frame on the volume's grid; if it is coarser, the volume is blurred first.
    """
    turned = frame.smooth(frame.orientation.apply(values), "nearest", 1 / COARSER)
    return frame.resample(turned, 1, "nearest").astype(np.float32, copy=False)
