"""What the LightningDataModules on chest radiographs share: folders, splits, the network frame, loaders."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from anatozoo.data.base import CaseDataset, announce_splits, loader, seed_training_step
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.square import to_network
from anatozoo.io.chest import ChestCase, deal_cases, index_chest
from anatozoo.io.splits import refuse_foreign
from anatozoo.nn.augment import AugmentConfig

METADATA = ("dataset", "sex", "age", "view")
"""What a row of an evaluation says of its radiograph."""


class RadiographDataset(CaseDataset):
    """Radiographs in the square network frame; subclasses add the annotations.

    Items hold ``image`` (1, S, S) in [0, 1], ``spacing_mm`` (x, y) float32 of the frame's pixels, NaN where
    it is unknown, ``index``, and what `unpack` gives.

    Args:
        cases: the cases; each needs an image.
        frame: what the network sees, a square of side S.
    """

    def __init__(self, cases: Sequence[ChestCase], frame: FrameSpec) -> None:
        super().__init__(cases)
        self.side, self.intensity = frame.shape[0], frame.intensity

    def read(self, case: ChestCase) -> dict[str, Tensor]:
        """Image in 8 bits, and the annotations.

        Raises:
            DataError: the case has no image.
        """
        if case.image is None:
            raise DataError(f"case {case.id} has annotations but no image.")
        source = case.read_image()
        frame, geometry = to_network(source, self.side, self.intensity)
        image = torch.from_numpy(np.round(frame * 255).astype(np.uint8))[None]
        spacing = torch.full((2,), torch.nan)
        if source.spacing_mm is not None:
            spacing = torch.from_numpy(np.divide(source.spacing_mm, geometry.scale)).float()
        return {"image": image, "spacing_mm": spacing} | self.annotations(case, geometry)

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The image in [0, 1], and the annotations as the losses take them."""
        frame = {"image": stored["image"].float() / 255, "spacing_mm": stored["spacing_mm"].clone()}
        return self.unpack_annotations(stored) | frame

    def identity(self, index: int) -> dict[str, Any]:
        """``id``, ``patient`` and, where known, ``split``, ``dataset``, ``sex``, ``age``, ``view``."""
        case = self.cases[index]
        known = {"split": case.split} | {key: case.metadata.get(key) for key in METADATA}
        return {"id": case.id, "patient": case.patient} | {k: v for k, v in known.items() if v is not None}

    @abstractmethod
    def annotations(self, case: ChestCase, geometry: Geometry) -> dict[str, Tensor]:
        """What is known of a case, in a form that needs little memory.

        Args:
            case: the case.
            geometry: from the image to the frame.
        """

    @abstractmethod
    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Annotations for the caller to keep: tensors of their own, of the types that the losses take."""


class ChestDataModule(L.LightningDataModule):
    """Chest radiographs from the folders that users download; augmentation runs in batches on the device.

    Subclasses call ``super().__init__()``, ``self.save_hyperparameters(ignore="frame")`` and `check_settings`
    with the arguments ``root``, ``layouts``, ``eval_layouts``, ``batch_size``, ``num_workers``, ``repeat``
    and ``augment`` among theirs, and implement `make_dataset` and `prepare`.
    """

    augment_config: AugmentConfig | None

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[str, Any] = {}

    def check_settings(self, frame: FrameSpec | Mapping[str, Any]) -> None:
        """Check the settings that all have, and read the augmentation's strengths.

        Args:
            frame: what the network sees, a square.

        Raises:
            ConfigError: one of them is not possible.
        """
        h: Any = self.hparams
        self.frame = FrameSpec.of(frame)
        self.frame.require(2, ("pad",))
        known = [f.name for f in fields(AugmentConfig)]
        unknown = set(h.augment or {}) - set(known)
        if unknown:
            raise ConfigError(
                f"data.augment does not know {', '.join(sorted(unknown))}; it has {', '.join(known)}."
            )
        if h.repeat < 1 or h.batch_size < 1:
            raise ConfigError("data.repeat and data.batch_size must be at least 1.")
        self.augment_config = None if h.augment is None else AugmentConfig(**h.augment)

    @abstractmethod
    def make_dataset(self, cases: Sequence[ChestCase]) -> RadiographDataset:
        """The data set of these cases."""

    def usable(self, case: ChestCase) -> bool:
        """Whether a case with an image has an annotation to learn from."""
        return bool(case.landmarks or case.masks)

    @abstractmethod
    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Finish a batch on the device: augmentation in training, then whatever the losses need."""

    def setup(self, stage: str) -> None:
        """Index the folders; images are read when first needed."""
        h: Any = self.hparams
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        for split in wanted:
            if split not in self.sets:
                layouts = h.layouts if split == "train" else list(h.eval_layouts or h.layouts[:1])
                cases = [case for layout in layouts for case in self._cases(layout, split)]
                if not cases:
                    raise DataError(
                        f"{h.root}: no images with annotations in the split {split!r} of {layouts}. "
                        "`anatozoo doctor --data ROOT` shows what was found."
                    )
                self.sets[split] = self.make_dataset(cases)

    def _cases(self, layout: str, split: str) -> list[ChestCase]:
        h: Any = self.hparams
        found = index_chest(Path(h.root), layout)
        cases = [case for case in found if case.image is not None and self.usable(case)]
        if cases and not any(case.split for case in cases):
            refuse_foreign(Path(h.root), {case.id: (case.id,) for case in cases})
            cases = deal_cases(Path(h.root), cases)
        announce_splits(self, cases)
        return [case for case in cases if case.split == split]

    def _loader(self, dataset: Dataset[Any], *, train: bool = False) -> DataLoader[Any]:
        h: Any = self.hparams
        return loader(dataset, batch_size=h.batch_size, num_workers=h.num_workers, train=train)

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
        """Finish a batch on the device, with random numbers that a resumed fit repeats."""
        if self.trainer is None or not self.trainer.training:
            return self.prepare(batch, training=False)
        seed_training_step(self.trainer)
        return self.prepare(batch, training=True)


def mask_coverage(case: ChestCase, organ: str, geometry: Geometry, side: int) -> np.ndarray:
    """Share of each cell that an organ's mask, of whatever resolution, covers on a grid of the square frame.

    Args:
        case: the case.
        organ: one of its masks, which shows what the image shows.
        geometry: from the image to the frame.
        side: cells along each side of the frame.

    Returns:
        (side, side) float32 in [0, 1].
    """
    mask = case.read_mask(organ)
    height, width = mask.shape
    # How high a pixel of the mask is for its width, which the image knows and the mask does not.
    (full_width, full_height), (sx, sy) = geometry.source_size, geometry.scale
    aspect = (sy * full_height / height) / (sx * full_width / width)
    if abs(width * full_height - height * full_width) <= max(full_width, full_height):
        aspect = sy / sx  # sizes that were rounded
    fitted = Geometry.fit((width, height), (side, side), aspect=aspect)
    return fitted.image_to_target(mask.astype(np.float32)).clip(0, 1)
