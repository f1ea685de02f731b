"""Landmarks alone for the graph spectral VAE."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case
from anatozoo.data.contours import LandmarkDataset
from anatozoo.data.module import ZooDataModule
from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.augment import uniform
from anatozoo.nn.graphs import organ_counts


@dataclass(frozen=True)
class ShapeAugment:
    """Strengths; 0 switches one off.

    Attributes:
        rotation_deg: largest rotation about the frame's centre.
        scale: largest change of size, as the logarithm of the factor.
        anisotropy: the same along each axis.
        shift: largest shift, as a share of the frame.
    """

    rotation_deg: float = 3.0
    scale: float = 0.0
    anisotropy: float = 0.2
    shift: float = 0.03


def moved(points: Tensor, config: ShapeAugment) -> Tensor:
    """Landmarks (B, N, 2) in [0, 1], each shape scaled, turned and shifted as a whole."""
    batch = len(points)
    angle = torch.deg2rad(uniform((batch,), -config.rotation_deg, config.rotation_deg, points))
    zoom = uniform((batch, 1), -config.scale, config.scale, points)
    factor = torch.exp(zoom + uniform((batch, 2), -config.anisotropy, config.anisotropy, points))
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], 1)
    shift = uniform((batch, 1, 2), -config.shift, config.shift, points)
    return ((points - 0.5) * factor[:, None]) @ turn + 0.5 + shift


class ShapeVAEDataModule(ZooDataModule):
    """Landmarks of all organs; no image is needed.

    Args:
        root: folder with the landmarks, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: as ``"jsrt"``, ``"landmarks"`` or ``"folder"``.
        organs: as in the module.
        frame: as in the module.
        augment: strengths, fields of `anatozoo.methods.shapevae.data.ShapeAugment`; ``{}`` takes its
            defaults, None switches it off.
        **settings: see `ZooDataModule`.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "auto",
        organs: str | dict[str, int] = "lungs_heart",
        frame: FrameSpec = FrameSpec(256),
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        counts = organ_counts(organs)
        super().__init__(root, layout, organs=list(counts), frame=frame, **settings)
        self.counts = counts
        self.frame.require(2, ("pad",))
        self.augment_config = None if augment is None else strengths(ShapeAugment, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> LandmarkDataset:
        """The landmarks of the module's organs."""
        return LandmarkDataset(cases, self.counts, self.frame, whole=True)

    def usable(self, case: Case) -> bool:
        """Whether all organs are annotated."""
        return all(map(case.has, self.organs))

    def training_shapes(self) -> Tensor:
        """The landmarks of all training cases, (n, N, 2) in [0, 1], as they are."""
        items = self.sets["train"]
        return torch.stack([items[index]["landmarks"] for index in range(len(items))])

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Move the shapes of training batches."""
        if not training or self.augment_config is None:
            return batch
        return batch | {"landmarks": moved(batch["landmarks"], self.augment_config)}
