"""Stacks with the meshes of their label maps, in the frame of the network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case
from anatozoo.data.framed import FrameDataset, filled, frame_spacing
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import LabelCodes
from anatozoo.meshes.heart import SHEETS, heart_mesh
from anatozoo.meshes.sheets import SheetSize
from anatozoo.nn.augment import ShapeAugment, uniform
from anatozoo.nn.stack_moves import in_plane, move_points, move_stack
from anatozoo.tasks.volume_meshes import framed_vertices


@dataclass(frozen=True)
class StackMeshAugment(ShapeAugment):
    """Strengths of the augmentation; 0 switches a transform off.

    Attributes:
        slices: largest shift across slices, in slices.
        gamma: largest logarithm of the exponent of the grey values.
        contrast: largest change of their slope, as a share.
        noise: largest standard deviation of the noise.
    """

    rotation_deg: float = 20.0
    scale: float = 0.1
    anisotropy: float = 0.07
    shift: float = 0.06
    slices: int = 1
    gamma: float = 0.3
    contrast: float = 0.2
    noise: float = 0.03


class StackMeshDataset(FrameDataset):
    """Stacks and meshes in the frame.

    Items are those of `FrameDataset` with ``vertices`` (N, 3), x, y, z in [0, 1] of the frame; of a case
    without annotation they are 0.5.

    Args:
        cases: the cases.
        spec: frame of the network.
        size: of each sheet.
        margin: pixels around the frame, within slices, that the image shows.
    """

    def __init__(self, cases: Sequence[Case], spec: FrameSpec, size: SheetSize, margin: int) -> None:
        super().__init__(cases, SHEETS, spec)
        self.size, self.margin = size, margin

    def frame_of(self, grid: Grid) -> Frame:
        """The frame of a stack."""
        return fit_frame(grid, self.spec)

    def read(self, case: Case) -> dict[str, Tensor]:
        """Image, in half precision, and label map with the margin; vertices in the frame.

        Raises:
            DataError: the label map is empty, or shows no whole heart.
        """
        image = case.read_image(3)
        frame = self.fitted(case, image.grid)
        depth, *sides = frame.shape
        wide = replace(frame, shape=(depth, *(side + 2 * self.margin for side in sides)))
        item = {
            "image": torch.from_numpy(wide.image(image.pixels).astype(np.float16))[None],
            "spacing_mm": frame_spacing(frame),
            "vertices": torch.full((len(SHEETS) * self.size.vertices, 3), 0.5),
        }
        item |= self.truth(case, image.grid, wide)
        if case.labelled:
            labels, grid = filled(case, self.organs, image.grid)
            try:
                heart = heart_mesh(LabelCodes.of(self.organs).masks(labels, self.organs), grid, self.size)
            except DataError as error:
                raise DataError(f"case {case.id}: {error} Take the case out.") from error
            item["vertices"] = torch.from_numpy(framed_vertices(heart, frame)).float()
        return item

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The image in single precision."""
        copies = super().unpack(stored)
        return copies | {"image": copies["image"].float()}


class HybridVNetDataModule(ZooDataModule):
    """Stacks in short axis with label maps, of which meshes are built as by `anatozoo meshes`.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"acdc"`` or ``"folder"``.
        frame: frame, as in the module.
        rings: as in the module.
        angles: as in the module.
        margin: pixels around the frame, within slices, that turned and shifted training stacks may show.
        batch_size: stacks per process and step.
        augment: strengths of the augmentation, fields of
            `anatozoo.methods.hybridvnet.data.StackMeshAugment`; ``{}`` takes its defaults, None switches it
            off.
        **settings: see `ZooDataModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "acdc",
        frame: FrameSpec = FrameSpec([16, 96, 96], "slices", long_side=176),
        rings: int = 16,
        angles: int = 32,
        margin: int = 16,
        batch_size: int = 4,
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, organs=list(SHEETS), frame=frame, batch_size=batch_size, **settings)
        if margin < 0:
            raise ConfigError(f"data.margin={margin} must not be negative.")
        self.size, self.margin = SheetSize(rings, angles), margin
        self.augment_config = None if augment is None else strengths(StackMeshAugment, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> StackMeshDataset:
        """Stacks; for training, with the margin."""
        train = split == "train" and self.augment_config is not None
        return StackMeshDataset(cases, self.frame, self.size, self.margin if train else 0)

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """A training batch, moved within its slices and changed in its grey values."""
        if not training or self.augment_config is None:
            return batch
        config, image, shape = self.augment_config, batch["image"], self.frame.shape
        count = len(image)
        angle = torch.deg2rad(uniform((count,), -config.rotation_deg, config.rotation_deg, image))
        zoom = uniform((count, 1), -config.scale, config.scale, image)
        factor = torch.exp(zoom + uniform((count, 2), -config.anisotropy, config.anisotropy, image))
        sides = image.new_tensor(shape[:0:-1])
        along = torch.randint(-config.slices, config.slices + 1, (count, 1), device=image.device)
        shift = torch.cat([uniform((count, 2), -config.shift, config.shift, image) * sides, along], 1)
        matrix = in_plane(angle, factor)
        image = move_stack(image, matrix, shift, shape)
        each = (count, 1, 1, 1, 1)
        slope = 1 + uniform(each, -config.contrast, config.contrast, image)
        image = (image.clamp_min(0) ** uniform(each, -config.gamma, config.gamma, image).exp()) * slope
        image = image + torch.randn_like(image) * uniform(each, 0.0, config.noise, image)
        vertices = move_points(batch["vertices"], matrix, shift, shape)
        labels = move_stack(batch["labels"][:, None].float(), matrix, shift, shape, "nearest")[:, 0]
        labels = labels.to(batch["labels"].dtype)
        return batch | {"image": image.clamp(0, 1), "labels": labels, "vertices": vertices}

    def training_vertices(self) -> Tensor:
        """(n, N, 3) vertices of all annotated stacks of the training."""
        items = self.sets["train"]
        known = [items[number]["vertices"] for number in range(len(items)) if items.cases[number].labelled]
        return torch.stack(known)
