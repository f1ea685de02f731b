"""Masks without images, found in the folders that users have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anatozoo.data.cases import subject_rule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.io.annotation import parts_of
from anatozoo.io.annotations import Entry, find_annotations
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.chest_folders import is_jsrt
from anatozoo.io.files import stem_of
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import check_known
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.io.orientation import Orientation
from anatozoo.io.read import read_labels
from anatozoo.io.split_lists import files_below
from anatozoo.io.splits import Origin, check_subjects, dealt, splits_or_deal

Labels = npt.NDArray[np.uint8]
Masks = dict[str, npt.NDArray[np.bool_]]

LAYOUTS = ("jsrt", "landmarks", "folders", "acdc")
LABEL_FOLDERS = ("labels", "labelsTr", "masks")
ACDC_LABELS = {"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3}


@dataclass(frozen=True, eq=False)
class MaskCase:
    """One label map, not read yet.

    Attributes:
        id: name, unique in its data set.
        subject: cases of one subject share it, and a split.
        split: ``"train"``, ``"val"``, ``"test"``, or None.
        read: gives the label map, uint8, values in the order of the organs from 1, and its grid.
        origin: where the split comes from.
    """

    id: str
    subject: str
    split: str | None
    read: Callable[[], tuple[Labels, Grid]]
    origin: Origin | None = None


def find_masks(
    root: str | Path,
    layout: str,
    organs: Sequence[str],
    *,
    dims: int,
    label_values: Sequence[int] | None = None,
    subject_pattern: str | None = None,
) -> list[MaskCase]:
    """Find label maps below a folder and deal them to splits; no image is needed.

    Later organs cover earlier ones. ``"lungs"`` and ``"clavicles"`` stand for both sides under one label.

    Args:
        root: the folder.
        layout: where masks are:

            * ``"jsrt"``: `anatozoo.io.chest.index_chest`, from masks, or from contours where there are none.
            * ``"landmarks"``: the same, every file of ``landmarks/{RL,LL,H,RCLA,LCLA}`` that has all organs.
              Cases of JSRT go where its lists put them, and are left out where no list names them; the others
              are dealt by name.
            * ``"folders"``: whatever `anatozoo.io.annotations.find_annotations` reads, in the first of the
              folders ``labels``, ``labelsTr`` and ``masks`` that exists, or in `root` itself: label maps
              (NIfTI, PNG, ...), one folder per organ, tables of CheXmask. Splits as
              `anatozoo.io.splits` finds them, else dealt by subject.
            * ``"acdc"``: ``patientNNN_frameFF_gt.nii.gz`` at any depth, slice by slice, empty slices left
              out; organs among ``right_ventricle``, ``myocardium`` and ``left_ventricle``; splits of
              patients as `anatozoo.io.splits` finds them, else dealt.
        organs: names in the order of their labels.
        dims: 2 or 3.
        label_values: value of each organ in the label maps of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name, for
            ``"folders"``; None takes the whole name.

    Returns:
        Cases sorted by name.

    Raises:
        DataError: nothing is there, or a subject is in two splits.
        ConfigError: layout, pattern, organs or values are not possible.
    """
    folder = Path(root)
    if layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
    if layout != "folders" and dims != 2:
        raise ConfigError(
            f"layout={layout!r} holds 2-D masks; give the frame's size as one number or [H, W]."
        )
    if not folder.is_dir() and not (layout == "folders" and folder.is_file()):
        raise DataError(f"{folder} is not a folder; data.root names the folder with the masks.")
    if layout in ("jsrt", "landmarks"):
        cases = _chest_cases(folder, layout, tuple(organs))
    elif layout == "acdc":
        cases = _acdc_cases(folder, tuple(organs))
    else:
        values = list(range(1, len(organs) + 1)) if label_values is None else list(label_values)
        if len(values) != len(organs) or len({*values, 0}) != len(values) + 1:
            raise ConfigError(f"label_values={values} must be one number above 0 for each of {list(organs)}.")
        named = dict(zip(values, organs, strict=True))
        cases = _folder_cases(folder, named, dims, subject_rule(subject_pattern))
    check_subjects((case.subject, case.split) for case in cases)
    return cases


def painted(masks: Masks, organs: Sequence[str], name: str) -> Labels:
    """One label map of masks of one shape; later organs cover earlier ones.

    Raises:
        DataError: an organ has no mask.
    """
    labels: Labels | None = None
    for value, organ in enumerate(organs, start=1):
        parts = (organ,) if organ in masks else parts_of(organ)
        for part in parts:
            if part not in masks:
                raise DataError(f"{name} has no mask of {part}; it has {', '.join(masks) or 'none'}.")
            labels = np.zeros(masks[part].shape, np.uint8) if labels is None else labels
            labels[masks[part]] = value
    assert labels is not None  # organs are never empty
    return labels


def _chest_cases(root: Path, layout: str, organs: tuple[str, ...]) -> list[MaskCase]:
    needed = {part for organ in organs for part in parts_of(organ)}
    found = [case for case in index_chest(root, layout) if needed <= {*case.masks, *case.landmarks}]
    # What is dealt here never holds a case of JSRT: its test split would be among it.
    free = {
        case.id: case.patient
        for case in found
        if case.split is None and layout == "landmarks" and not is_jsrt(case.id)
    }
    others = dealt(root, free)
    cases = []
    for case in found:
        split, origin = case.split, case.origin
        if case.id in free:
            split, origin = others.splits[case.id], others.origin
        if split:
            cases.append(MaskCase(case.id, case.patient, split, partial(_read_chest, case, organs), origin))
    if not cases:
        raise DataError(
            f"{root}: no case of layout {layout!r} in a split has {', '.join(sorted(needed))}. "
            "`anatozoo doctor --data ROOT` shows what was found."
        )
    return cases


def _read_chest(case: ChestCase, organs: Sequence[str]) -> tuple[Labels, Grid]:
    parts = [part for organ in organs for part in parts_of(organ)]
    given = {part: case.read_mask(part) for part in parts if part in case.masks}
    size = next(iter(given.values())).shape[::-1] if given else case.size
    scale = np.asarray(size) / case.size
    masks: Masks = {}
    for part in parts:
        if part not in given:
            masks[part] = draw_organ_mask((case.landmarks[part] + 0.5) * scale - 0.5, (size[0], size[1]))
        elif given[part].shape[::-1] != size:
            own = given[part].shape
            fitted = Geometry.fit((own[1], own[0]), (size[0], size[1]), mode="stretch")
            masks[part] = fitted.mask_to_target(given[part])
        else:
            masks[part] = given[part]
    spacing = case.spacing_mm and tuple(np.divide(case.spacing_mm, scale).tolist())
    return painted(masks, organs, case.id), Grid((size[0], size[1]), spacing)


def _acdc_cases(root: Path, organs: tuple[str, ...]) -> list[MaskCase]:
    unknown = [organ for organ in organs if organ not in ACDC_LABELS]
    if unknown:
        raise ConfigError(f"ACDC has no {', '.join(unknown)}; organs are {', '.join(ACDC_LABELS)}.")
    files = files_below(root, "patient*_frame*_gt.nii*")
    if not files:
        raise DataError(
            f"{root}: no patientNNN/patientNNN_frameFF_gt.nii.gz; data.root holds ACDC's folders."
        )
    names = [stem_of(path).removesuffix("_gt") for path in files]
    patients = {name: name.partition("_")[0] for name in names}
    assigned = splits_or_deal(root, patients)
    cases = []
    for name, path in zip(names, files, strict=True):
        stored, grid = read_labels(path, 3)
        turn = Orientation.of_heart(grid)
        volume, grid = turn.apply(stored), turn.grid(grid)
        spacing = grid.spacing_mm and grid.spacing_mm[:2]
        for z, drawn in enumerate(volume):
            labels = np.zeros(drawn.shape, np.uint8)
            for value, organ in enumerate(organs, start=1):
                labels[drawn == ACDC_LABELS[organ]] = value
            if labels.any():
                read = partial(_given, labels, Grid(labels.shape[::-1], spacing))
                split = assigned.splits.get(name)
                cases.append(MaskCase(f"{name}_z{z:02}", patients[name], split, read, assigned.origin))
    return cases


def _given(labels: Labels, grid: Grid) -> tuple[Labels, Grid]:
    return labels, grid


def _folder_cases(
    root: Path, organs: dict[int, str], dims: int, subject_of: Callable[[str], str]
) -> list[MaskCase]:
    folder = next((root / name for name in LABEL_FOLDERS if (root / name).is_dir()), root)
    entries = find_annotations(folder, tuple(organs.values())).entries
    subjects = {name: subject_of(name) for name in entries}
    assigned = splits_or_deal(root if root.is_dir() else root.parent, subjects, "a mask")
    return [
        MaskCase(
            name,
            subjects[name],
            assigned.splits.get(name),
            partial(_read_entry, name, entry, organs, dims),
            assigned.origin,
        )
        for name, entry in sorted(entries.items())
    ]


def _read_entry(name: str, entry: Entry, organs: dict[int, str], dims: int) -> tuple[Labels, Grid]:
    stored = entry.read()
    if stored.grid is None:
        raise DataError(
            f"{name}: nothing says how large the image of these landmarks is; give masks, label maps, or the "
            "landmark data set by layout 'landmarks'."
        )
    if stored.grid.dims != dims:
        raise DataError(f"{name} is {stored.grid.dims}-D, but the frame's size asks for {dims}-D masks.")
    if stored.labels is not None:
        # A mask of 0 and 255 is one of the only organ.
        labels = stored.labels if len(organs) == 1 else stored.as_stored().labels
        check_known(np.asarray(labels), organs, name, "give label_values")
    annotation = stored.annotation(stored.grid.size, organs, stored.grid.spacing_mm)
    masks = dict(annotation.masks)
    for organ, points in annotation.landmarks.items():
        if organ not in masks:
            masks[organ] = draw_organ_mask(points, (annotation.size[0], annotation.size[1]))
    return painted(masks, list(organs.values()), name), stored.grid
