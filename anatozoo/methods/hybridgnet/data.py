"""Radiographs with organ contours or masks for HybridGNet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case, Drawn
from anatozoo.data.contours import framed_landmarks, mean_landmarks
from anatozoo.data.layouts.doubts import Doubts
from anatozoo.data.module import ZooDataModule
from anatozoo.data.radiographs import RadiographDataset, mask_coverage
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.augment import AugmentConfig, recolour
from anatozoo.nn.augment import augment as augment_batch
from anatozoo.nn.graphs import organ_counts, organ_slices


class ChestDataset(RadiographDataset):
    """Radiographs with landmarks, and with masks of the organs that lack them, in the square network frame.

    Items hold ``image`` (1, S, S), ``landmarks`` (N, 2) in [0, 1], ``landmark_weight`` (N,), ``masks``
    (C, S/4, S/4), ``known`` (C,) bool, which of the masks exist, and ``spacing_mm``.

    Args:
        cases: the cases; each needs an image.
        counts: landmarks per organ, in the network's order.
        mask_organs: channels of the masks, which replace missing landmarks.
        frame: frame of the network, a square of side S.
    """

    def __init__(
        self, cases: Sequence[Case], counts: Mapping[str, int], mask_organs: Sequence[str], frame: FrameSpec
    ) -> None:
        super().__init__(cases, list(dict.fromkeys([*counts, *mask_organs])), frame)
        self.slices, self.mask_organs = organ_slices(counts), list(mask_organs)

    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Numbers in float32, masks in [0, 1]."""
        names = ("landmarks", "landmark_weight", "masks")
        item = {name: stored[name].to(torch.float32, copy=True) for name in names}
        return item | {"masks": item["masks"] / 255, "known": stored["known"].clone()}

    def annotations(self, name: str, drawn: Drawn, geometry: Geometry) -> dict[str, Tensor]:
        """Landmarks and masks of a case, and which of them exist.

        Raises:
            DataError: an organ has another number of landmarks than the network.
        """
        cells = self.side // 4
        masks = np.zeros((len(self.mask_organs), cells, cells), np.uint8)
        known = np.zeros(len(self.mask_organs), bool)
        for channel, organ in enumerate(self.mask_organs):
            if organ in drawn.masks and organ not in drawn.landmarks:
                masks[channel] = np.round(255 * mask_coverage(drawn.masks[organ], geometry, cells))
                known[channel] = True
        found = {"masks": torch.from_numpy(masks), "known": torch.from_numpy(known)}
        return framed_landmarks(name, drawn, self.slices, geometry) | found


class HybridGNetDataModule(ZooDataModule):
    """Radiographs with contours or masks; augmentation runs in batches on the device.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"jsrt"`` or ``"folder"``; ``[jsrt, covid]`` trains on both.
        organs: organs, as in the module.
        mask_organs: organs whose masks are read, the module's ``dense_organs``; None takes `organs`.
        frame: frame, as in the module.
        augment: strengths of the augmentation, fields of `anatozoo.nn.augment.AugmentConfig`; ``{}`` takes
            its defaults, None switches it off.
        **settings: see `ZooDataModule`.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "auto",
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        mask_organs: list[str] | None = None,
        frame: FrameSpec = FrameSpec(1024),
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        counts = organ_counts(organs)
        masks = list(mask_organs or counts)
        super().__init__(root, layout, organs=list(dict.fromkeys([*counts, *masks])), frame=frame, **settings)
        self.counts, self.mask_organs = counts, masks
        self.frame.require(2, ("pad",))
        self.augment_config = None if augment is None else strengths(AugmentConfig, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> ChestDataset:
        """Images with the landmarks and masks of the module's organs."""
        return ChestDataset(cases, self.counts, self.mask_organs, self.frame)

    def usable(self, case: Case) -> bool:
        """Whether the case has an image and at least one annotated organ."""
        return case.image is not None and any(map(case.has, self.organs))

    def remarks(self, found: Doubts) -> list[str]:
        """What an empty mask means to a network of contours."""
        return [
            f"the mask of {organ} is empty in {count} of {found.read} annotated cases that were read, as of "
            "an absent organ. A network of contours draws it all the same; only its auxiliary masks learn "
            "that it is absent."
            for organ, count in found.absent.items()
            if found.seen[organ] and any(organ in found.parts(wanted) for wanted in self.mask_organs)
        ]

    def mean_landmarks(self) -> Tensor:
        """Mean training landmarks (N, 2) in the network frame; the frame's centre if an organ has none."""
        return mean_landmarks(self.sets["train"]).nan_to_num(0.5)

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Augment training batches; drop masks that no image of the batch has."""
        if training and self.augment_config is not None:
            image, landmarks, masks = augment_batch(
                batch["image"], batch["landmarks"], batch["masks"], self.augment_config
            )
            assert masks is not None
            batch = batch | {"image": image, "landmarks": landmarks, "masks": masks}
        if not bool(batch["known"].any()):
            batch = {k: v for k, v in batch.items() if k not in ("masks", "known")}
        return batch

    def prepare_unlabelled(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Augment the grey values alone."""
        batch = self.prepare(batch, training=False)
        if self.augment_config is None:
            return batch
        return batch | {"image": recolour(batch["image"], self.augment_config)}
