"""Radiographs with label maps for the U-Net, from masks of the organs or from their contours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.data.base import strengths
from anatozoo.data.case import Case, Drawn
from anatozoo.data.module import ZooDataModule
from anatozoo.data.radiographs import RadiographDataset, mask_coverage
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.nn.augment import AugmentConfig, recolour
from anatozoo.nn.augment import augment as augment_batch
from anatozoo.nn.graphs import organ_names


class LabelDataset(RadiographDataset):
    """Radiographs with label maps in the square network frame.

    Items hold ``image`` (1, S, S), ``labels`` (S, S) int64 (0 for background, then the organs in order, later
    ones over earlier ones), ``known`` (C,) bool, true for annotated organs, and ``spacing_mm``.
    """

    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Labels as int64, which indexing needs."""
        return {"labels": stored["labels"].long(), "known": stored["known"].clone()}

    def annotations(self, name: str, drawn: Drawn, geometry: Geometry) -> dict[str, Tensor]:
        """Label map and annotated organs, from masks or else from contours."""
        labels = np.zeros((self.side, self.side), np.uint8)
        known = np.zeros(len(self.organs), bool)
        for index, organ in enumerate(self.organs):
            parts = drawn.parts(organ)
            if drawn.organs.issuperset(parts):
                known[index] = True
                for part in parts:
                    labels[self._region(drawn, part, geometry)] = index + 1
        return {"labels": torch.from_numpy(labels), "known": torch.from_numpy(known)}

    def _region(self, drawn: Drawn, organ: str, geometry: Geometry) -> np.ndarray:
        if organ in drawn.masks:
            return mask_coverage(drawn.masks[organ], geometry, self.side) > 0.5
        points = geometry.points_to_target(drawn.landmarks[organ])
        return draw_organ_mask(points, (self.side, self.side))


class UNetDataModule(ZooDataModule):
    """Radiographs with label maps; augmentation runs in batches on the device.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"jsrt"`` or ``"folder"``; ``[jsrt, covid]`` trains on both.
        organs: organs, as in the module. Organs without annotation in an image are ignored there, by the loss
            and by the metrics.
        frame: frame, as in the module.
        augment: strengths of the augmentation, fields of `anatozoo.nn.augment.AugmentConfig`; ``{}`` takes
            its defaults, None switches it off.
        **settings: see `ZooDataModule`.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "auto",
        organs: str | list[str] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(1024),
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, organs=organ_names(organs), frame=frame, **settings)
        self.frame.require(2, ("pad",))
        self.augment_config = None if augment is None else strengths(AugmentConfig, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> LabelDataset:
        """Images with label maps of the module's organs."""
        return LabelDataset(cases, self.organs, self.frame)

    def usable(self, case: Case) -> bool:
        """Whether the case has an image and at least one annotated organ."""
        return case.image is not None and any(map(case.has, self.organs))

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Augment training batches, labels along with the images."""
        if not training or self.augment_config is None:
            return batch
        image, labels = batch["image"], batch["labels"]
        masks = F.one_hot(labels, 1 + len(self.organs)).movedim(-1, 1)[:, 1:].to(image.dtype)
        # The augmentation needs at least one landmark, although this method uses none.
        middle = image.new_full((len(image), 1, 2), 0.5)
        image, _, moved = augment_batch(image, middle, masks, self.augment_config)
        assert moved is not None
        background = 1 - moved.sum(1, keepdim=True)
        return batch | {"image": image, "labels": torch.cat([background, moved], 1).argmax(1)}

    def prepare_unlabelled(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Augment the grey values alone."""
        if self.augment_config is None:
            return batch
        return batch | {"image": recolour(batch["image"], self.augment_config)}
