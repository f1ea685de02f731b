"""Volumes with label maps in the layout of ACDC, beside those that `anatozoo.data.cases` finds.

Bernard et al., IEEE TMI 37(11), 2018: ``patientNNN/patientNNN_frameFF.nii.gz``, its label map with ``_gt``,
and ``Info.cfg``, which says which frames are end-diastole and end-systole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from anatozoo.data.cases import FrameCase, find_cases, read_files
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.files import stem_of
from anatozoo.io.grid import GridImage
from anatozoo.io.split_lists import files_below
from anatozoo.io.splits import check_subjects, splits_or_deal

LAYOUTS = ("acdc", "folders")
ACDC_LABELS = {"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3}
HEART = list(ACDC_LABELS)
_TRUTH = "_gt"


@dataclass(frozen=True, eq=False)
class StackCase(FrameCase):
    """One volume and its label map, not read yet.

    Attributes:
        facts: what else is known: ``phase`` (``"ED"`` or ``"ES"``) and ``group`` (the diagnosis) of ACDC.
    """

    facts: Mapping[str, str] = field(default_factory=dict)


def find_stacks(
    root: str | Path,
    layout: str,
    labels: Sequence[str],
    *,
    dims: int = 3,
    label_values: Sequence[int] | None = None,
    subject_pattern: str | None = None,
) -> list[FrameCase]:
    """Find volumes below a folder and deal them to splits.

    Args:
        root: the folder.
        layout: ``"acdc"``: ``patientNNN_frameFF.nii.gz`` with ``patientNNN_frameFF_gt.nii.gz`` at any depth,
            splits of patients as `anatozoo.io.splits` finds them, else dealt; 4-D cines are passed over. Or
            ``"folders"``, also that of the Medical Segmentation Decathlon, see
            `anatozoo.data.cases.find_cases`.
        labels: names of the classes; of ACDC among ``right_ventricle``, ``myocardium`` and
            ``left_ventricle``.
        dims: 3, or 2 for ``"folders"`` of planes.
        label_values: value of each class in the files of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name, for
            ``"folders"``.

    Returns:
        Cases sorted by name, each with a split, if there are any splits.

    Raises:
        DataError: nothing is there, a label map is missing, or a subject is in two splits.
        ConfigError: layout, labels or pattern are not possible.
    """
    folder = Path(root)
    if layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; data.root names the folder with the images.")
    if layout == "folders":
        return find_cases(
            folder, layout, labels, dims=dims, label_values=label_values, subject_pattern=subject_pattern
        )
    if dims != 3:
        raise ConfigError("layout='acdc' holds volumes; give the frame's size as [D, H, W].")
    cases = _acdc_cases(folder, labels)
    check_subjects((case.subject, case.split) for case in cases)
    return cases


def read_info(path: Path) -> dict[str, str]:
    """The lines ``key: value`` of an ``Info.cfg``; empty where there is no such file.

    Raises:
        DataError: it cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _acdc_cases(root: Path, labels: Sequence[str]) -> list[FrameCase]:
    unknown = [label for label in labels if label not in ACDC_LABELS]
    if unknown or not labels:
        raise ConfigError(f"ACDC has no {', '.join(unknown) or 'empty list'}; labels are {', '.join(HEART)}.")
    images = [path for path in files_below(root, "patient*_frame*.nii*") if not _is_truth(path)]
    if not images:
        raise DataError(f"{root}: no patientNNN/patientNNN_frameFF.nii.gz; data.root holds ACDC's folders.")
    patients = {stem_of(path): path.name.partition("_")[0] for path in images}
    assigned = splits_or_deal(root, patients)
    cases: list[FrameCase] = []
    for path in images:
        name = stem_of(path)
        truth = path.with_name(path.name.replace(name, name + _TRUTH, 1))
        if not truth.is_file():
            raise DataError(f"{path} has no label map {truth.name} beside it; take it away or label it.")
        cases.append(
            StackCase(
                name,
                patients[name],
                assigned.splits.get(name),
                partial(_read_acdc, path, truth, tuple(labels)),
                assigned.origin,
                _facts(name, read_info(path.parent / "Info.cfg")),
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


def _read_acdc(image: Path, truth: Path, labels: tuple[str, ...]) -> tuple[GridImage, np.ndarray | None]:
    read, stored = read_files(image, truth, {value: organ for organ, value in ACDC_LABELS.items()}, 3)
    assert stored is not None  # there is a label map
    drawn = np.zeros(stored.shape, np.uint8)
    for value, label in enumerate(labels, start=1):
        drawn[stored == ACDC_LABELS[label]] = value
    return read, drawn
