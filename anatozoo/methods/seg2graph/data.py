"""Landmarks alone for Seg2Graph; the masks are drawn from them in every step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case
from anatozoo.data.contours import LandmarkDataset, mean_landmarks
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.seg2graph.augment import MaskAugment, drawn, grown_behind, moved, spoiled
from anatozoo.nn.graphs import organ_counts, organ_slices
from anatozoo.nn.spacing import Spacing


class Seg2GraphDataModule(ZooDataModule):
    """Landmarks, and masks drawn from them in batches on the device; no image is needed.

    Batches hold ``image``, the masks (B, organs, S, S), ``landmarks`` and ``landmark_weight``, in training
    also ``held`` (B, organs) bool, which organs the masks show.

    Args:
        root: folder with the landmarks, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: as ``"jsrt"``, ``"landmarks"`` or ``"folder"``.
        organs: as in the module.
        frame: as in the module.
        anchors: as in the module; landmarks that were moved are spaced between them anew.
        augment: strengths, fields of `anatozoo.methods.seg2graph.augment.MaskAugment`; ``{}`` takes its
            defaults, None trains on the landmarks and masks as they are.
        **settings: see `ZooDataModule`.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "auto",
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(256),
        anchors: dict[str, list[int]] = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        augment: dict[str, float] | None = {},  # noqa: B006
        **settings: Any,
    ) -> None:
        counts = organ_counts(organs)
        super().__init__(root, layout, organs=list(counts), frame=frame, **settings)
        self.counts, self.anchors = counts, anchors
        self._mean: Tensor | None = None
        self._spacing: Spacing | None = None
        self.frame.require(2, ("pad",))
        self.augment_config = None if augment is None else strengths(MaskAugment, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> LandmarkDataset:
        """The landmarks of the module's organs."""
        return LandmarkDataset(cases, self.counts, self.frame)

    def usable(self, case: Case) -> bool:
        """Whether anything is annotated; organs that have no landmarks are missing from the mask."""
        return case.labelled

    def setup(self, stage: str) -> None:
        """Find the files, and read the landmarks of the training split.

        Raises:
            DataError: see `ZooDataModule.setup`, or no training case has landmarks of an organ.
        """
        super().setup(stage)
        if "train" not in self.sets or self._mean is not None:
            return
        mean = mean_landmarks(self.sets["train"])
        parts = organ_slices(self.counts).items()
        absent = [organ for organ, part in parts if bool(mean[part].isnan().any())]
        if absent:
            raise DataError(
                f"{self.root}: no training case has landmarks of {', '.join(absent)}. Seg2Graph learns from "
                "landmarks and draws the masks itself: add landmarks, or leave the organ out of model.organs."
            )
        self._mean = mean
        if self.anchors:
            self._spacing = Spacing(self.counts, self.anchors)
            self._spacing.take_from(mean)

    def mean_landmarks(self) -> Tensor:
        """Mean training landmarks in the network frame, (N, 2); `setup` reads them."""
        assert self._mean is not None
        return self._mean

    def spaced(self, landmarks: Tensor) -> Tensor:
        """Moved landmarks (B, N, 2) at the shares of the way between anchors that they had before."""
        return landmarks if self._spacing is None else self._spacing.to(landmarks.device)(landmarks)

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Draw the masks; in training of moved landmarks, and with faults."""
        names, landmarks, side = list(self.counts), batch["landmarks"], self.frame.shape[0]
        parts = organ_slices(self.counts).values()
        known = torch.stack([(batch["landmark_weight"][:, part] > 0).all(1) for part in parts], 1)
        if not training or self.augment_config is None:
            planes = drawn(landmarks, self.counts, side)
            return batch | {"image": planes * known[:, :, None, None]}
        landmarks, behind = grown_behind(landmarks, self.counts, self.augment_config)
        landmarks = self.spaced(moved(landmarks, self.counts, self.augment_config))
        planes = drawn(landmarks, self.counts, side) * known[:, :, None, None]
        planes, held = spoiled(planes, names, self.augment_config, known, behind)
        return batch | {"landmarks": landmarks, "image": planes, "held": held}
