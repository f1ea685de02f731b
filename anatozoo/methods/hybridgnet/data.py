"""Radiographs with organ contours or lung masks for HybridGNet."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.chest import ChestDataModule, RadiographDataset, mask_coverage
from anatozoo.errors import DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.chest import ChestCase
from anatozoo.nn.augment import augment as augment_batch
from anatozoo.nn.graphs import organ_counts, organ_slices


class ChestDataset(RadiographDataset):
    """Radiographs with landmarks, and with masks of the organs that lack them, in the square network frame.

    Items hold ``image`` (1, S, S), ``landmarks`` (N, 2) in [0, 1], ``landmark_weight`` (N,), ``masks``
    (C, S/4, S/4), ``mask_weight`` (C,), ``spacing_mm`` and ``index``.

    Args:
        cases: the cases; each needs an image.
        organs: landmarks per organ, in the network's order.
        mask_organs: channels of the masks that stand in where landmarks are missing.
        frame: what the network sees, a square of side S.
    """

    def __init__(
        self,
        cases: Sequence[ChestCase],
        organs: Mapping[str, int],
        mask_organs: Sequence[str],
        frame: FrameSpec,
    ) -> None:
        super().__init__(cases, frame)
        self.parts, self.count = organ_slices(organs), sum(organs.values())
        self.mask_organs = list(mask_organs)

    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Everything in float32, masks in [0, 1]."""
        item = {k: v.to(torch.float32, copy=True) for k, v in stored.items() if k != "image"}
        return item | {"masks": item["masks"] / 255}

    def annotations(self, case: ChestCase, geometry: Geometry) -> dict[str, Tensor]:
        """Landmarks and masks of a case with their weights.

        Raises:
            DataError: an organ has another number of landmarks than the network.
        """
        landmarks = np.zeros((self.count, 2), np.float32)
        weight = np.zeros(self.count, np.float32)
        for organ, points in case.landmarks.items():
            if organ not in self.parts:
                continue
            part = self.parts[organ]
            if len(points) != part.stop - part.start:
                raise DataError(
                    f"{case.id}: {organ} has {len(points)} landmarks, the network has "
                    f"{part.stop - part.start}."
                )
            landmarks[part] = geometry.points_to_target(points) / self.side
            weight[part] = 1.0
        side = self.side // 4
        masks = np.zeros((len(self.mask_organs), side, side), np.uint8)
        mask_weight = np.zeros(len(self.mask_organs), np.float32)
        for channel, organ in enumerate(self.mask_organs):
            if organ in case.masks and organ not in case.landmarks:
                masks[channel] = np.round(255 * mask_coverage(case, organ, geometry, side))
                mask_weight[channel] = 1.0
        return {
            "landmarks": torch.from_numpy(landmarks),
            "landmark_weight": torch.from_numpy(weight),
            "masks": torch.from_numpy(masks),
            "mask_weight": torch.from_numpy(mask_weight),
        }


class HybridGNetDataModule(ChestDataModule):
    """Chest radiographs from the folders that users download; augmentation runs in batches on the device.

    Args:
        root: folder with the data; see `anatozoo.io.chest.index_chest` for the layouts.
        layouts: which data sets below `root` to train on: ``"jsrt"``, ``"landmarks"``, ``"covid"`` or
            ``"auto"`` for a single one.
        eval_layouts: which to validate and test on; None takes the first of `layouts`.
        organs: as in the module.
        mask_organs: as the module's ``dense_organs``; None takes `organs`.
        frame: as in the module.
        batch_size: images per process and step.
        num_workers: loading processes; images are read once and kept in memory.
        repeat: passes over the training images per epoch.
        augment: strengths, fields of `anatozoo.nn.augment.AugmentConfig`; ``{}`` takes its defaults,
            None switches augmentation off.
    """

    def __init__(
        self,
        root: str,
        layouts: list[str] = ["auto"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        eval_layouts: list[str] | None = None,
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        mask_organs: list[str] | None = None,
        frame: FrameSpec = FrameSpec(1024),
        batch_size: int = 4,
        num_workers: int = 0,
        repeat: int = 1,
        augment: dict[str, float] | None = {},  # noqa: B006
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        self.organs = organ_counts(organs)
        self.mask_organs = list(mask_organs or self.organs)
        self.check_settings(frame)

    def make_dataset(self, cases: Sequence[ChestCase]) -> ChestDataset:
        """Images with the landmarks and masks of the module's organs."""
        return ChestDataset(cases, self.organs, self.mask_organs, self.frame)

    def mean_landmarks(self) -> Tensor:
        """Mean training landmarks in the network frame, (N, 2); the frame's centre where there are none."""
        items = [self.sets["train"][i] for i in range(len(self.sets["train"]))]
        weight = torch.stack([item["landmark_weight"] for item in items])[..., None]
        total = (torch.stack([item["landmarks"] for item in items]) * weight).sum(0)
        return torch.where(weight.sum(0) > 0, total / weight.sum(0).clamp_min(1), torch.tensor(0.5))

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Augment training batches; drop masks that no image of the batch has."""
        if training and self.augment_config is not None:
            image, landmarks, masks = augment_batch(
                batch["image"], batch["landmarks"], batch["masks"], self.augment_config
            )
            assert masks is not None
            batch = batch | {"image": image, "landmarks": landmarks, "masks": masks}
        if not bool((batch["mask_weight"] > 0).any()):
            batch = {k: v for k, v in batch.items() if k not in ("masks", "mask_weight")}
        return batch
