"""Label maps for Post-DAE: degraded at random in training, in a fixed way in validation and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from anatozoo.data.base import CaseDataset, derived_seed, strengths
from anatozoo.data.case import Case
from anatozoo.data.framed import FrameDataset, filled, frame_spacing
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.planes import organ_planes
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.untrusted import read_json
from anatozoo.methods.postdae.corruptions import KINDS
from anatozoo.methods.postdae.degrade import confusion_table, degrade, render
from anatozoo.methods.postdae.strengths import DegradeConfig
from anatozoo.nn.deform import ShapeConfig, deform

EVALUATED = ("clean", *KINDS)
"""Kinds of degradation of validation items; ``"clean"`` items are not degraded."""


class MaskDataset(FrameDataset):
    """Label maps in the frame.

    Items hold ``clean`` (1 + organs, ...) float32, the shares of the labels in each cell, background first,
    and ``spacing_mm`` (x, y[, z]) float32 of the frame's pixels, NaN where it is unknown.

    Args:
        cases: the cases.
        organs: names in the order of their labels.
        spec: frame of the network.
        spacing_mm: one number or (x, y[, z]), of label maps whose files state none.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        organs: Sequence[str],
        spec: FrameSpec,
        spacing_mm: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(cases, organs, spec)
        self.spacing_mm = spacing_mm

    def read(self, case: Case) -> dict[str, Tensor]:
        """Shares of the organs in 8 bits.

        Raises:
            DataError: the label map is empty.
            GeometryError: `spacing_mm` is of another number of dimensions.
        """
        labels, grid = filled(case, self.organs)
        if self.spacing_mm is not None and grid.spacing_mm is None:
            grid = grid.with_spacing(self.spacing_mm)
        frame = self.fitted(case, grid)
        planes = np.rint(255 * organ_planes(labels, len(self.organs), frame)).astype(np.uint8)
        return {"organs": torch.from_numpy(planes), "spacing_mm": frame_spacing(frame)}

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Shares of background and organs."""
        organs = stored["organs"].float() / 255
        background = (1 - organs.sum(0, keepdim=True)).clamp_min(0)
        return {"clean": torch.cat([background, organs]), "spacing_mm": stored["spacing_mm"].clone()}


class DegradedDataset(Dataset[dict[str, Tensor]]):
    """Each case several times: unchanged, and under fixed degradations.

    Items also hold ``noisy`` (1 + organs, ...), ``kind``, a position in `EVALUATED`, and their own ``index``.

    Args:
        masks: the cases.
        config: strengths.
        table: see `anatozoo.methods.postdae.degrade.confusion_table`.
        copies: items per case; the first is clean, the others take the kinds in turn.
    """

    def __init__(self, masks: MaskDataset, config: DegradeConfig, table: Tensor, copies: int) -> None:
        self.masks, self.config, self.table, self.copies = masks, config, table, copies
        self._memory: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.masks) * self.copies

    def kind(self, index: int) -> str:
        """Kind of degradation of an item."""
        case, copy = divmod(index, self.copies)
        return "clean" if copy == 0 else EVALUATED[1 + (case * (self.copies - 1) + copy - 1) % len(KINDS)]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One item; its degradation depends on its index only."""
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
        """Identity of the case, and the kind of degradation."""
        known = self.masks.identity(index // self.copies)
        return known | {"id": f"{known['id']}:{self.kind(index)}", "degradation": self.kind(index)}


def damaged_masks(
    cases: Sequence[Case],
    organs: Sequence[str],
    frame: FrameSpec,
    degrade: Mapping[str, float],
    spacing_mm: float | Sequence[float] | None = None,
) -> DegradedDataset:
    """Each case as it is and under every kind of damage.

    Args:
        cases: the cases.
        organs: in the order of their labels.
        frame: what the network sees.
        degrade: strengths that differ from the defaults of `DegradeConfig`.
        spacing_mm: see `MaskDataset`.

    Raises:
        ConfigError: one is unknown or out of range.
    """
    masks = MaskDataset(cases, organs, frame, spacing_mm)
    config = strengths(DegradeConfig, "degrade", degrade)
    return DegradedDataset(masks, config, read_confusions(None, masks.organs), len(EVALUATED))


class PostDAEDataModule(ZooDataModule):
    """Pairs of a degraded and a clean mask, without images; degraded in batches on the device.

    Args:
        root: folder with the masks, or a manifest; see `anatozoo.data.layouts.registry`. Images are optional.
        layout: layout of the data, such as ``"jsrt"``, ``"landmarks"``, ``"folder"`` or ``"acdc"``.
        organs: organs, as in the module.
        frame: frame, as in the module.
        batch_size: items per process and step.
        augment: strengths of the deformation, fields of `anatozoo.nn.deform.ShapeConfig`; ``{}`` takes its
            defaults, None switches it off.
        degrade: strengths of the degradation, fields of `anatozoo.methods.postdae.strengths.DegradeConfig`.
        confusions: JSON file with ``classes``, background first, and ``rates``, the confusion matrix of a
            real model with rows that sum to 1; wrong labels are drawn accordingly. None draws them evenly.
        eval_copies: number of validation and test items per case: the first is clean, the others are degraded
            by one kind after another. None takes every kind.
        **settings: see `ZooDataModule`.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "jsrt",
        organs: list[str] = ["lungs"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(256),
        batch_size: int = 15,
        augment: dict[str, float] | None = {},  # noqa: B006
        degrade: dict[str, float] = {},  # noqa: B006
        confusions: str | None = None,
        eval_copies: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, organs=organs, frame=frame, batch_size=batch_size, **settings)
        if not self.organs:
            raise ConfigError("data.organs must name at least one organ.")
        if self.unlabelled is not None:
            raise ConfigError("Post-DAE learns from masks only: leave data.unlabelled out.")
        if eval_copies is not None and eval_copies < 1:
            raise ConfigError(f"data.eval_copies={eval_copies} must be at least 1, or null for every kind.")
        self.copies = len(EVALUATED) if eval_copies is None else eval_copies
        self.augment_config = None if augment is None else strengths(ShapeConfig, "augment", augment)
        self.degrade_config = strengths(DegradeConfig, "degrade", degrade)
        self.table = read_confusions(confusions, self.organs)

    def usable(self, case: Case) -> bool:
        """Whether all organs are annotated; an image is not needed."""
        return all(map(case.has, self.organs))

    def dataset(self, cases: Sequence[Case], split: str) -> MaskDataset:
        """Label maps."""
        return MaskDataset(cases, self.organs, self.frame)

    def items(self, cases: CaseDataset, split: str) -> Dataset[Any]:
        """Clean masks for training; fixed degradations for validation and test."""
        if split == "train":
            return cases
        assert isinstance(cases, MaskDataset)
        return DegradedDataset(cases, self.degrade_config, self.table, self.copies)

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """A training batch with ``noisy``, degraded from its clean shapes; one deformation for both."""
        if not training:
            return batch
        clean = batch["clean"]
        # First the damage, then the deformation: it softens all borders alike, and bends straight lines of
        # the damage.
        noisy = degrade(clean, self.degrade_config, self.table)
        if self.augment_config is not None:
            clean, noisy = deform(clean, self.augment_config, noisy)
        return batch | {"clean": clean, "noisy": render(noisy, self.degrade_config)}


def read_confusions(path: str | None, organs: Sequence[str]) -> Tensor:
    """The table of confusions, from a file of real rates or uniform; see `confusion_table`.

    Raises:
        DataError: the file cannot be read, lacks an organ, or its rates are not shares.
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
