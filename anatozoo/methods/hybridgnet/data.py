"""Radiographs with organ contours or lung masks for HybridGNet."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from anatozoo.errors import ConfigError, DataError
from anatozoo.io.chest import ChestCase, index_chest, split_by_patient
from anatozoo.io.geometry import Geometry
from anatozoo.io.images import to_network
from anatozoo.methods.base_data import EpochSampler, seed_training_step
from anatozoo.methods.hybridgnet.module import organ_counts
from anatozoo.nn.augment import AugmentConfig, augment
from anatozoo.nn.graphs import organ_slices


class ChestDataset(Dataset[dict[str, Tensor]]):
    """Radiographs in the square network frame, kept in memory once read.

    Args:
        cases: the cases; each needs an image.
        organs: landmarks per organ, in the network's order.
        mask_organs: channels of the masks that stand in where landmarks are missing.
        image_size: side S of the frame.
    """

    def __init__(
        self,
        cases: Sequence[ChestCase],
        organs: Mapping[str, int],
        mask_organs: Sequence[str],
        image_size: int,
    ) -> None:
        self.cases = list(cases)
        self.parts, self.count = organ_slices(organs), sum(organs.values())
        self.mask_organs, self.image_size = list(mask_organs), image_size
        self._memory: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One case.

        Returns:
            ``image`` (1, S, S), ``landmarks`` (N, 2) in [0, 1], ``landmark_weight`` (N,), ``masks``
            (C, S/4, S/4), ``mask_weight`` (C,) and ``index``.
        """
        if index not in self._memory:
            self._memory[index] = self._read(self.cases[index])
        stored = self._memory[index]
        item = {k: v.float() for k, v in stored.items()}
        item["image"], item["masks"] = item["image"] / 255, item["masks"] / 255
        return item | {"index": torch.tensor(index)}

    def _read(self, case: ChestCase) -> dict[str, Tensor]:
        if case.image is None:
            raise DataError(f"case {case.id} has annotations but no image.")
        frame, geometry = to_network(case.read_image(), self.image_size)
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
            landmarks[part] = geometry.points_to_target(points) / self.image_size
            weight[part] = 1.0
        side = self.image_size // 4
        masks = np.zeros((len(self.mask_organs), side, side), np.uint8)
        mask_weight = np.zeros(len(self.mask_organs), np.float32)
        for channel, organ in enumerate(self.mask_organs):
            if organ in case.masks and organ not in case.landmarks:
                masks[channel] = np.round(255 * self._mask(case, organ, side))
                mask_weight[channel] = 1.0
        return {
            "image": torch.from_numpy(np.round(frame * 255).astype(np.uint8))[None],
            "landmarks": torch.from_numpy(landmarks),
            "landmark_weight": torch.from_numpy(weight),
            "masks": torch.from_numpy(masks),
            "mask_weight": torch.from_numpy(mask_weight),
        }

    @staticmethod
    def _mask(case: ChestCase, organ: str, side: int) -> np.ndarray:
        """Coverage of an organ's mask, of whatever resolution, on a grid of the square frame."""
        mask = case.read_mask(organ)
        height, width = mask.shape
        return Geometry.fit((width, height), (side, side)).image_to_target(mask.astype(np.float32)).clip(0, 1)


class HybridGNetDataModule(L.LightningDataModule):
    """Chest radiographs from the folders that users download; augmentation runs in batches on the device.

    Args:
        root: folder with the data; see `anatozoo.io.chest.index_chest` for the layouts.
        layouts: which data sets below `root` to train on: ``"jsrt"``, ``"landmarks"``, ``"covid"`` or
            ``"auto"`` for a single one.
        eval_layouts: which to validate and test on; None takes the first of `layouts`.
        organs: as in the module.
        mask_organs: as the module's ``dense_organs``; None takes `organs`.
        image_size: as in the module.
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
        image_size: int = 1024,
        batch_size: int = 4,
        num_workers: int = 0,
        repeat: int = 1,
        augment: dict[str, float] | None = {},  # noqa: B006
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.organs = organ_counts(organs)
        self.mask_organs = list(mask_organs or self.organs)
        unknown = set(augment or {}) - {f.name for f in fields(AugmentConfig)}
        if unknown:
            raise ConfigError(
                f"data.augment does not know {', '.join(sorted(unknown))}; it has "
                f"{', '.join(f.name for f in fields(AugmentConfig))}."
            )
        if repeat < 1 or batch_size < 1:
            raise ConfigError("data.repeat and data.batch_size must be at least 1.")
        self.augment_config = None if augment is None else AugmentConfig(**augment)
        self.sets: dict[str, ChestDataset] = {}

    def setup(self, stage: str) -> None:
        """Index the folders; images are read when first needed."""
        h: Any = self.hparams
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        for split in wanted:
            if split not in self.sets:
                layouts = h.layouts if split == "train" else self._eval_layouts()
                cases = [case for layout in layouts for case in self._cases(layout, split)]
                if not cases:
                    raise DataError(
                        f"{h.root}: no images with annotations in the split {split!r} of {layouts}. "
                        "`anatozoo doctor --data ROOT` shows what was found."
                    )
                self.sets[split] = ChestDataset(cases, self.organs, self.mask_organs, h.image_size)

    def mean_landmarks(self) -> Tensor:
        """Mean training landmarks in the network frame, (N, 2); the frame's centre where there are none."""
        items = [self.sets["train"][i] for i in range(len(self.sets["train"]))]
        weight = torch.stack([item["landmark_weight"] for item in items])[..., None]
        total = (torch.stack([item["landmarks"] for item in items]) * weight).sum(0)
        return torch.where(weight.sum(0) > 0, total / weight.sum(0).clamp_min(1), torch.tensor(0.5))

    def _eval_layouts(self) -> list[str]:
        h: Any = self.hparams
        return list(h.eval_layouts or h.layouts[:1])

    def _cases(self, layout: str, split: str) -> list[ChestCase]:
        h: Any = self.hparams
        found = index_chest(Path(h.root), layout)
        cases = [case for case in found if case.image is not None and (case.landmarks or case.masks)]
        if any(case.split for case in cases):
            return [case for case in cases if case.split == split]
        return split_by_patient(cases).get(split, [])

    def _loader(self, dataset: Dataset[Any], *, train: bool = False) -> DataLoader[Any]:
        h: Any = self.hparams
        return DataLoader(
            dataset,
            batch_size=h.batch_size,
            sampler=EpochSampler(dataset) if train else None,  # type: ignore[arg-type]
            drop_last=train and len(dataset) >= h.batch_size,  # type: ignore[arg-type]
            num_workers=h.num_workers,
            persistent_workers=h.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled training images."""
        h: Any = self.hparams
        return self._loader(ConcatDataset([self.sets["train"]] * h.repeat), train=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation images, in order."""
        return self._loader(self.sets["val"])

    def test_dataloader(self) -> DataLoader[Any]:
        """Test images, in order."""
        return self._loader(self.sets["test"])

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Augment training batches on the device; drop masks that no image of the batch has."""
        if self.trainer is not None and self.trainer.training:
            seed_training_step(self.trainer)
            if self.augment_config is not None:
                image, landmarks, masks = augment(
                    batch["image"], batch["landmarks"], batch["masks"], self.augment_config
                )
                assert masks is not None
                batch = batch | {"image": image, "landmarks": landmarks, "masks": masks}
        if not bool((batch["mask_weight"] > 0).any()):
            batch = {k: v for k, v in batch.items() if k not in ("masks", "mask_weight")}
        return batch
