"""The settings, arms and priors of the experiment on shape priors, and how a run is measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from acnn_evidence import SHIFT_PX, implausible, misaligned, row_of
from comparing import Labels, averaged, largest_parts

from anatozoo.data.case import Case
from anatozoo.data.layouts.acdc import HEART
from anatozoo.errors import DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import GridImage
from anatozoo.methods.acnn.data import StackDataset
from anatozoo.metrics.plausibility import components
from anatozoo.objectives import ShapePrior
from anatozoo.tasks.thick import thickened
from anatozoo.tasks.trials import labels_beside

Row = dict[str, Any]
NONE, LARGEST = "none", "largest part"
MOTION_PX = 2.0
"""Standard deviation of the shift of a thick slice, in millimetres, within each axis of its plane."""
START = 0.4
"""Share of the steps before a prior counts: of an empty prediction a denoiser makes an empty one."""


@dataclass(frozen=True)
class Arm:
    """How networks are trained.

    Attributes:
        label: in tables.
        prior: name of the shape model among the setting's `priors`, or of a checkpoint; None for none.
        weight: of the objective.
        start: share of the steps before it counts.
        settings: further ones of `ShapePrior`.
    """

    label: str
    prior: str | None = None
    weight: float = 0.0
    start: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def objectives(self, work: Path, steps: int) -> list[ShapePrior]:
        """The objective of a fit of so many steps, if there is one."""
        if self.prior is None:
            return []
        folder = work / f"prior-{self.prior}"
        source = str(folder) if folder.is_dir() else self.prior
        return [ShapePrior(source, self.weight, round(self.start * steps), **self.settings)]

    @property
    def unlabelled(self) -> bool:
        """Whether it learns from images without annotation."""
        return bool(self.settings.get("unlabelled"))


@dataclass(frozen=True)
class Setting:
    """A task: data, frame, network, arms.

    Attributes:
        layout: of the data.
        organs: in the order of their labels.
        frame: of the labels.
        model: settings of the segmenter.
        data: settings of its data module.
        priors: settings of the shape models that are trained, by name.
        arms: by name; the first has no prior.
        metrics: columns of the rows.
        steps, prior_steps, runs, subjects: defaults of the options; None takes all subjects.
    """

    layout: str
    organs: list[str]
    frame: FrameSpec
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    priors: Mapping[str, Mapping[str, Any]]
    arms: Mapping[str, Arm]
    metrics: tuple[str, ...]
    steps: int
    prior_steps: int
    runs: int
    subjects: int | None


_NO_GREY = {"gamma": 0.0, "contrast": 0.0, "noise": 0.0, "blur": 0.0, "bias": 0.0}
_DENOISER = {"widths": [16, 32, 64], "skips": [1, 2, 3], "soft_damage": {}, "slice_shift": 0.5}
_RESIDUAL = {"layers": ["residual"]}
SETTINGS = {
    "acdc": Setting(
        layout="acdc",
        organs=HEART,
        frame=FrameSpec([16, 64, 64], "slices", long_side=104),
        # 3D-Seg needs more than five subjects: two of three such networks end with background alone.
        model={"architecture": "dynunet", "widths": [8, 16, 32, 64]},
        # No motion: a denoiser that has learnt to undo shifted slices would punish what the labels teach.
        data={"margin": 8, "augment": {}},
        priors={"denoiser": _DENOISER},
        arms={
            NONE: Arm("no prior"),
            "acnn": Arm("ACNN's loss, as shipped", "acnn-prior-acdc", 1e-5, 0.6),
            "residual": Arm("residual of a denoiser", "denoiser", 0.5, START, _RESIDUAL),
            "unlabelled": Arm(
                "the same, and on unlabelled images", "denoiser", 0.5, START, _RESIDUAL | {"unlabelled": 0.2}
            ),
        },
        metrics=("dice", "hd_px", "assd_px", "open_slices", "extra_parts"),
        steps=1200,
        prior_steps=700,
        runs=3,
        subjects=5,
    ),
    "hippocampus": Setting(
        layout="folder",
        organs=["anterior", "posterior"],
        frame=FrameSpec([40, 56, 32], "spacing", [1.0, 1.0, 1.0]),
        model={"architecture": "seg", "widths": [12, 24, 48, 64], "upsample": 5},
        data={
            "margin": 4,
            "augment": {"rotation_deg": 15.0, "scale": 0.1},
            "motion": {"shift_px": MOTION_PX, "probability": 1.0, "labels_follow": False},
            "upsample": 5,
        },
        priors={"code": {"widths": [16, 32, 64], "slice_shift": 0.5}, "denoiser": _DENOISER},
        arms={
            NONE: Arm("no prior"),
            "acnn": Arm("ACNN's loss", "code", 1.0, START, {"layers": ["code"]}),
            "residual": Arm("residual of a denoiser", "denoiser", 0.5, START, _RESIDUAL),
        },
        metrics=("dice", "hd_mm", "assd_mm", "extra_parts"),
        steps=1000,
        prior_steps=700,
        runs=5,
        subjects=None,
    ),
}


def prior_data(setting: Setting) -> dict[str, Any]:
    """Settings of the data module of the shape models: the same views of label maps, no motion."""
    augment = {**setting.data["augment"], **_NO_GREY}
    return {"margin": setting.data["margin"], "augment": augment}


def dealt(cases: Sequence[Case], seed: int, subjects: int | None) -> tuple[list[Case], list[Case]]:
    """Training cases of some subjects, drawn by the seed, and those of the others without annotation.

    Raises:
        DataError: there are not so many subjects.
    """
    names = sorted({case.subject for case in cases})
    if subjects is None:
        return list(cases), []
    if subjects >= len(names):
        raise DataError(f"{subjects} of {len(names)} subjects leave none without annotation; take fewer.")
    chosen = set(np.random.default_rng(seed).permutation(names)[:subjects].tolist())
    own = [case for case in cases if case.subject in chosen]
    bare = [replace(c, organs=frozenset(), draw=None) for c in cases if c.subject not in chosen]
    return own, bare


def measure(setting: Setting, arm: str, model: Any, cases: Sequence[Case]) -> Iterator[Row]:
    """Rows of a trained network on validation cases; without a prior also of its largest parts."""
    for case in cases:
        for name, found, truth, spacing in _answers(setting, arm, model, case):
            row: Row = {"arm": name, "case": case.id, "subject": case.subject}
            if setting.layout == "acdc":
                yield row | row_of(found, truth)
                continue
            metrics = ("dice", "hd_mm", "assd_mm")
            parts = [components(found == value) for value in range(1, len(setting.organs) + 1)]
            numbers = averaged(labels_beside(found, truth, setting.organs, spacing), setting.organs, metrics)
            yield row | numbers | {"extra_parts": float(sum(max(0, count - 1) for count in parts))}


def truth_row(setting: Setting, cases: Sequence[Case]) -> Row:
    """What is implausible about the true hearts themselves, on average."""
    rows = [implausible(item["labels"].numpy()) for item in StackDataset(cases, HEART, setting.frame)]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _answers(setting: Setting, arm: str, model: Any, case: Case) -> Iterator[tuple[str, Labels, Labels, Any]]:
    found, truth, spacing = (_in_frame if setting.layout == "acdc" else _on_grid)(setting, model, case)
    yield arm, found, truth, spacing
    if arm == NONE:
        yield LARGEST, largest_parts(found, len(setting.organs)), truth, spacing


def _in_frame(setting: Setting, model: Any, case: Case) -> tuple[Labels, Labels, Any]:
    """A stack in the order of its file, which is how the networks of this experiment have seen all."""
    item = StackDataset([case], setting.organs, setting.frame)[0]
    with torch.no_grad():
        found = model(item["image"][None])[0].argmax(0)
    return found.numpy().astype(np.uint8), item["labels"].numpy(), None


def _on_grid(setting: Setting, model: Any, case: Case) -> tuple[Labels, Labels, Any]:
    """A volume as thick slices that have moved, and fine labels on its own grid."""
    image = case.read_image(3)
    truth, grid = case.read_labels(setting.organs, image.grid)
    volume = thickened(image, model.upsample, "gaussian")
    draw = np.random.default_rng(crc32(case.id.encode()))
    given = volume.thick.pixels
    moved = misaligned(given, given, draw, MOTION_PX / SHIFT_PX)[0]
    result = model.predict(GridImage(moved, volume.thick.grid, image.name))
    return volume.own(result.label_map), truth, grid.spacing_mm
