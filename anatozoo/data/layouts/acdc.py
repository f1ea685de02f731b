"""The layout ``acdc``: stacks of slices of the heart.

Bernard et al., IEEE TMI 37(11), 2018: ``patientNNN/patientNNN_frameFF.nii.gz``, its label map with ``_gt``,
and ``Info.cfg``, which says which frames are end-diastole and end-systole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.base import Layout, Listing, Wanted
from anatozoo.data.layouts.codes import check_values
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.files import stem_of
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.orientation import Orientation
from anatozoo.io.read import read_grid_image, read_labels
from anatozoo.io.split_lists import files_below
from anatozoo.io.splits import check_subjects, splits_or_deal
from anatozoo.io.untrusted import read_text

ACDC_LABELS = {"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3}
HEART = list(ACDC_LABELS)
_CODES = LabelCodes({organ: ((value, value),) for organ, value in ACDC_LABELS.items()})
_TRUTH = "_gt"


def find_acdc(wanted: Wanted) -> Listing:
    """Stacks with their label maps; in 2-D the single slices of the label maps, without empty ones.

    4-D cines are ignored.

    Raises:
        DataError: the folder holds no stacks, or a label map is missing.
        ConfigError: ACDC lacks an organ.
    """
    organs = tuple(HEART) if wanted.organs is None else wanted.organs
    unknown = [organ for organ in organs if organ not in ACDC_LABELS]
    if unknown or (wanted.dims == 2 and not organs):
        raise ConfigError(f"ACDC has no {', '.join(unknown) or 'empty list'}; organs are {', '.join(HEART)}.")
    cases = _slices(wanted.root, organs) if wanted.dims == 2 else _stacks(wanted.root)
    check_subjects((case.subject, case.split) for case in cases)
    return Listing(cases)


def read_info(path: Path) -> dict[str, str]:
    """The lines ``key: value`` of an ``Info.cfg``; empty where there is no such file.

    Raises:
        DataError: it cannot be read.
    """
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in read_text(path).splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _stacks(root: Path) -> list[Case]:
    images = [path for path in files_below(root, "patient*_frame*.nii*") if not _is_truth(path)]
    if not images:
        raise DataError(f"{root}: no patientNNN/patientNNN_frameFF.nii.gz; data.root holds ACDC's folders.")
    patients = {stem_of(path): stem_of(path).partition("_")[0] for path in images}
    assigned = splits_or_deal(root, patients)
    cases = []
    for path in images:
        name = stem_of(path)
        truth = path.with_name(path.name.replace(name, name + _TRUTH, 1))
        if not truth.is_file():
            raise DataError(f"{path} has no label map {truth.name} beside it; take it away or label it.")
        cases.append(
            Case(
                name,
                patients[name],
                assigned.splits.get(name),
                "ACDC",
                frozenset(HEART),
                partial(read_grid_image, path, 3),
                partial(_draw, truth),
                _facts(name, read_info(path.parent / "Info.cfg")),
                assigned.origin,
            )
        )
    return cases


def _is_truth(path: Path) -> bool:
    return stem_of(path).endswith(_TRUTH)


def _facts(name: str, info: Mapping[str, str]) -> dict[str, str]:
    frame = name.rpartition("frame")[2].lstrip("0")
    phase = next((phase for phase in ("ED", "ES") if info.get(phase, "").lstrip("0") == frame), None)
    known = {"phase": phase, "group": info.get("Group")}
    return {key: value for key, value in known.items() if value}


def _draw(truth: Path, organs: Sequence[str], grid: Grid | None) -> Drawn:
    stored, own = read_labels(truth, 3)
    if grid is not None and (difference := grid.differs_from(own)):
        raise DataError(f"{truth} lies on another grid than its image: {difference}.")
    check_values(stored, _CODES, repr(str(truth)))
    return Drawn(own if grid is None else grid, masks=_CODES.masks(stored, organs))


def _slices(root: Path, organs: Sequence[str]) -> list[Case]:
    files = files_below(root, f"patient*_frame*{_TRUTH}.nii*")
    if not files:
        raise DataError(
            f"{root}: no patientNNN/patientNNN_frameFF_gt.nii.gz; data.root holds ACDC's folders."
        )
    names = [stem_of(path).removesuffix(_TRUTH) for path in files]
    patients = {name: name.partition("_")[0] for name in names}
    assigned = splits_or_deal(root, patients)
    cases = []
    for name, path in zip(names, files, strict=True):
        stored, grid = read_labels(path, 3)
        turn = Orientation.of_heart(grid)
        volume, grid = turn.apply(stored), turn.grid(grid)
        spacing = grid.spacing_mm and grid.spacing_mm[:2]
        kept = np.isin(volume, [ACDC_LABELS[organ] for organ in organs])
        for z in np.flatnonzero(kept.any(axis=(1, 2))):
            drawn = partial(_slice, np.array(volume[z]), Grid(volume[z].shape[::-1], spacing))
            cases.append(
                Case(
                    f"{name}_z{z:02}",
                    patients[name],
                    assigned.splits.get(name),
                    "ACDC",
                    frozenset(organs),
                    draw=drawn,
                    origin=assigned.origin,
                )
            )
    return cases


def _slice(labels: np.ndarray, grid: Grid, organs: Sequence[str], _: Grid | None) -> Drawn:
    return Drawn(grid, masks={organ: labels == ACDC_LABELS[organ] for organ in organs})


LAYOUT = Layout(
    "acdc",
    "patientNNN_frameFF.nii.gz beside patientNNN_frameFF_gt.nii.gz, at any depth",
    (2, 3),
    lambda root: root.is_dir() and any(True for _ in files_below(root, "patient*_frame*_gt.nii*")),
    find_acdc,
    takes_label_values=False,
)
