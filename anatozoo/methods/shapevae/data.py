"""Landmarks alone for the graph spectral VAE."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case
from anatozoo.data.contours import LandmarkDataset
from anatozoo.data.module import ZooDataModule
from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.augment import ShapeAugment, move_shapes
from anatozoo.nn.graphs import organ_counts


class ShapeVAEDataModule(ZooDataModule):
    """Landmarks of all organs; no image is needed.

    Args:
        root: folder with the landmarks, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: as ``"jsrt"``, ``"landmarks"`` or ``"folder"``.
        organs: as in the module.
        frame: as in the module.
        augment: strengths, fields of `anatozoo.nn.augment.ShapeAugment`; ``{}`` takes its
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
        return batch | {"landmarks": move_shapes(batch["landmarks"], self.augment_config)}
