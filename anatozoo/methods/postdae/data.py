"""Label maps for Post-DAE: degraded anew in every training step, in the same way in every validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anatozoo.data.base import (
    CaseDataset,
    announce_splits,
    derived_seed,
    loader,
    seed_training_step,
    strengths,
)
from anatozoo.data.framed import frame_spacing
from anatozoo.data.masks import MaskCase, find_masks
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import organ_planes
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.untrusted import read_json
from anatozoo.methods.postdae.corruptions import KINDS
from anatozoo.methods.postdae.degrade import confusion_table, degrade, render
from anatozoo.methods.postdae.strengths import DegradeConfig
from anatozoo.nn.deform import ShapeConfig, deform
from anatozoo.nn.labels import check_labels

EVALUATED = ("clean", *KINDS)
"""What a validation item is degraded by; ``"clean"`` is left as it is."""


class MaskDataset(CaseDataset):
    """Label maps in the frame.

    Items hold ``clean`` (1 + organs, ...) float32, shares of each cell that sum to 1, background first,
    ``spacing_mm`` (x, y[, z]) float32 of the frame's pixels, NaN where it is unknown, and ``index``.

    Args:
        cases: the cases.
        organs: how many there are.
        spec: what the network sees.
    """

    def __init__(self, cases: Sequence[MaskCase], organs: int, spec: FrameSpec) -> None:
        super().__init__(cases)
        self.organs, self.spec = organs, spec

    def read(self, case: MaskCase) -> dict[str, Tensor]:
        """Shares of the organs in 8 bits.

        Raises:
            DataError: the label map is empty.
        """
        labels, grid = case.read()
        if not labels.any():
            raise DataError(f"the label map of case {case.id} is empty; take the case out or label it.")
        frame = Frame.fit(grid, self.spec)
        planes = np.rint(255 * organ_planes(labels, self.organs, frame)).astype(np.uint8)
        return {"organs": torch.from_numpy(planes), "spacing_mm": frame_spacing(frame)}

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Shares of background and organs."""
        organs = stored["organs"].float() / 255
        background = (1 - organs.sum(0, keepdim=True)).clamp_min(0)
        return {"clean": torch.cat([background, organs]), "spacing_mm": stored["spacing_mm"].clone()}

    def identity(self, index: int) -> dict[str, Any]:
        """``id``, ``subject`` and, where known, ``split``."""
        case = self.cases[index]
        known = {"id": case.id, "subject": case.subject, "split": case.split}
        return {key: value for key, value in known.items() if value is not None}


class DegradedDataset(Dataset[dict[str, Tensor]]):
    """Each case several times: as it is, and under some of the degradations, always the same.

    Items hold in addition ``noisy`` (1 + organs, ...), ``kind``, a position in `EVALUATED`, and an ``index``
    of their own.

    Args:
        masks: the cases.
        config: strengths.
        table: see `anatozoo.methods.postdae.degrade.confusion_table`.
        copies: items of each case, the first of them clean; the others take the kinds in turn.
    """

    def __init__(self, masks: MaskDataset, config: DegradeConfig, table: Tensor, copies: int) -> None:
        self.masks, self.config, self.table, self.copies = masks, config, table, copies
        self._memory: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.masks) * self.copies

    def kind(self, index: int) -> str:
        """How an item is degraded."""
        case, copy = divmod(index, self.copies)
        return "clean" if copy == 0 else EVALUATED[1 + (case * (self.copies - 1) + copy - 1) % len(KINDS)]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One item; its degradation depends on nothing but its number."""
        item, kind = self.masks[index // self.copies], self.kind(index)
        if index not in self._memory:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(0, index))
                kinds = () if kind == "clean" else (kind,)
                noisy = degrade(item["clean"][None], self.config, self.table, kinds)
                noisy = render(noisy, self.config)[0]
            self._memory[index] = (255 * noisy).round().byte()
        noisy = self._memory[index].float() / 255
        here = {"index": torch.tensor(index), "kind": torch.tensor(EVALUATED.index(kind))}
        return item | {"noisy": noisy} | here

    def identity(self, index: int) -> dict[str, Any]:
        """That of the case, and how it is degraded."""
        known = self.masks.identity(index // self.copies)
        return known | {"id": f"{known['id']}:{self.kind(index)}", "degradation": self.kind(index)}


class PostDAEDataModule(L.LightningDataModule):
    """Masks alone, in pairs of a degraded and a clean one; degraded in batches on the device.

    Args:
        root: folder with the masks; see `anatozoo.data.masks.find_masks` for the layouts.
        layout: ``"jsrt"``, ``"landmarks"``, ``"folders"`` or ``"acdc"``.
        organs: as in the module.
        label_values: value of each organ in the label maps of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name.
        frame: as in the module.
        batch_size: items per process and step.
        num_workers: loading processes; masks are read once and kept in memory.
        repeat: passes over the training masks per epoch.
        augment: strengths, fields of `anatozoo.nn.deform.ShapeConfig`; ``{}`` takes its
            defaults, None leaves the shapes as they are.
        degrade: strengths, fields of `anatozoo.methods.postdae.strengths.DegradeConfig`.
        confusions: JSON file with ``classes``, background first, and ``rates``, for each class the shares of
            its pixels that real models gave each class; wrong labels are then drawn accordingly.
        eval_copies: how often a case is validated and tested on: once as it is, then degraded by one kind
            after another. None takes every kind.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["jsrt", "landmarks", "folders", "acdc"] = "jsrt",
        organs: list[str] = ["lungs"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        label_values: list[int] | None = None,
        subject_pattern: str | None = None,
        frame: FrameSpec = FrameSpec(256),
        batch_size: int = 15,
        num_workers: int = 0,
        repeat: int = 1,
        augment: dict[str, float] | None = {},  # noqa: B006
        degrade: dict[str, float] = {},  # noqa: B006
        confusions: str | None = None,
        eval_copies: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        h: Any = self.hparams
        self.frame = FrameSpec.of(frame)
        self.organs, self.shape = check_labels(h.organs), self.frame.shape
        if not self.organs:
            raise ConfigError("data.organs must name at least one organ.")
        if min(h.batch_size, h.repeat) < 1 or h.num_workers < 0:
            raise ConfigError("data.batch_size and data.repeat must be at least 1, data.num_workers 0.")
        if eval_copies is not None and eval_copies < 1:
            raise ConfigError(f"data.eval_copies={eval_copies} must be at least 1, or null for every kind.")
        self.augment_config = None if augment is None else strengths(ShapeConfig, "augment", augment)
        self.degrade_config = strengths(DegradeConfig, "degrade", degrade)
        self.table = read_confusions(confusions, self.organs)
        self.sets: dict[str, Any] = {}

    def setup(self, stage: str) -> None:
        """Find the masks; they are read when first needed.

        Raises:
            DataError: a split that is needed is empty.
        """
        h: Any = self.hparams
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        missing = [split for split in wanted if split not in self.sets]
        if not missing:
            return
        cases = find_masks(
            h.root,
            h.layout,
            self.organs,
            dims=len(self.shape),
            label_values=h.label_values,
            subject_pattern=h.subject_pattern,
        )
        announce_splits(self, cases)
        for split in missing:
            chosen = [case for case in cases if case.split == split]
            if not chosen:
                raise DataError(f"{h.root}: none of the {len(cases)} masks is in the split {split!r}.")
            masks = MaskDataset(chosen, len(self.organs), self.frame)
            copies = len(EVALUATED) if h.eval_copies is None else h.eval_copies
            self.sets[split] = (
                torch.utils.data.ConcatDataset([masks] * h.repeat)
                if split == "train"
                else DegradedDataset(masks, self.degrade_config, self.table, copies)
            )

    def _loader(self, split: str) -> DataLoader[Any]:
        h: Any = self.hparams
        train = split == "train"
        return loader(self.sets[split], batch_size=h.batch_size, num_workers=h.num_workers, train=train)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training masks, shuffled anew every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation masks, degraded, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Test masks, degraded, in order."""
        return self._loader("test")

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Deform and degrade a training batch, with random numbers that a resumed fit repeats."""
        if self.trainer is None or not self.trainer.training:
            return batch
        seed_training_step(self.trainer)
        return self.degraded(batch)

    @torch.no_grad()
    def degraded(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with ``noisy`` made of its clean shapes, both deformed alike."""
        clean = batch["clean"]
        # First the damage, then the deformation: it makes all borders soft in the same way, those of the
        # damage too, and turns its straight lines.
        noisy = degrade(clean, self.degrade_config, self.table)
        if self.augment_config is not None:
            clean, noisy = deform(clean, self.augment_config, noisy)
        return batch | {"clean": clean, "noisy": render(noisy, self.degrade_config)}


def read_confusions(path: str | None, organs: Sequence[str]) -> Tensor:
    """What is taken for what, from a file of real models' rates or all alike; see `confusion_table`.

    Raises:
        DataError: the file cannot be read, lacks an organ, or its rates are no shares.
    """
    if path is None:
        return confusion_table(len(organs) + 1)
    try:
        stored = read_json(Path(path))
        classes, rates = list(stored["classes"]), np.asarray(stored["rates"], np.float64)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} holds no classes and rates in JSON: {error!r}.") from error
    absent = [name for name in ("background", *organs) if name not in classes]
    if absent or rates.shape != (len(classes),) * 2 or not (np.isfinite(rates) & (rates >= 0)).all():
        raise DataError(
            f"{path}: classes must hold background, {', '.join(organs)}, and rates a row of shares for each "
            f"class; {', '.join(absent) or 'the rates'} cannot be used."
        )
    chosen = [classes.index(name) for name in ("background", *organs)]
    return confusion_table(len(chosen), torch.from_numpy(rates[np.ix_(chosen, chosen)]))
