"""Images with label maps, 2-D or 3-D, found in the folders that users have."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.io.annotation import parts_of
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.files import stem_of
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.label_codes import check_known
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.io.read import read_grid_image, read_labels
from anatozoo.io.splits import Origin, check_subjects, splits_or_deal
from anatozoo.io.tables import composed

IMAGE_FOLDERS = ("images", "imagesTr")
LABEL_FOLDERS = ("labels", "labelsTr")


@dataclass(frozen=True, eq=False)
class FrameCase:
    """One image and its label map, not read yet.

    Attributes:
        id: name, unique in its data set.
        subject: cases of one subject share it, and a split.
        split: ``"train"``, ``"val"``, ``"test"``, or None.
        read: gives the image, and the label map on its grid, (...) uint8, or None.
        origin: where the split comes from.
    """

    id: str
    subject: str
    split: str | None
    read: Callable[[], tuple[GridImage, np.ndarray | None]]
    origin: Origin | None = None


def find_cases(
    root: str | Path,
    layout: str,
    labels: Sequence[str],
    *,
    dims: int,
    label_values: Sequence[int] | None = None,
    subject_pattern: str | None = None,
) -> list[FrameCase]:
    """Find cases below a folder and deal them to splits.

    Args:
        root: the folder.
        layout: ``"jsrt"`` (`anatozoo.io.chest.index_chest`; labels are organs, or ``"lungs"`` and
            ``"clavicles"``; later ones cover earlier ones) or ``"folders"``: ``images`` or ``imagesTr`` with
            ``labels`` or ``labelsTr``, a label map having the name of its image. Splits of
            either as `anatozoo.io.splits` finds them; of ``"folders"`` else dealt by subject.
        labels: names of the classes; empty where label maps are not needed.
        dims: 2 or 3.
        label_values: value of each class in the files of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name; None takes the
            whole name.

    Returns:
        Cases sorted by name, each with a split.

    Raises:
        DataError: nothing is there, a file is missing, or a subject is in two splits.
        ConfigError: the layout or pattern is unknown.
    """
    if layout == "jsrt":
        if dims != 2:
            raise ConfigError(
                "layout 'jsrt' holds 2-D images; give the frame's size as one number or [H, W]."
            )
        cases = _jsrt_cases(Path(root), labels)
    elif layout == "folders":
        values = list(range(1, len(labels) + 1)) if label_values is None else list(label_values)
        if len(values) != len(labels) or len({*values, 0}) != len(values) + 1:
            raise ConfigError(f"label_values={values} must be one number above 0 for each of {list(labels)}.")
        classes = dict(zip(values, labels, strict=True))
        cases = _folder_cases(Path(root), classes, dims, subject_rule(subject_pattern))
    else:
        raise ConfigError(f"layout={layout!r} is unknown; choose jsrt or folders.")
    check_subjects((case.subject, case.split) for case in cases)
    return cases


def _jsrt_cases(root: Path, labels: Sequence[str]) -> list[FrameCase]:
    needed = {organ for label in labels for organ in parts_of(label)}
    cases = [
        FrameCase(case.id, case.patient, case.split, partial(_read_chest, case, tuple(labels)), case.origin)
        for case in index_chest(root, "jsrt")
        if case.image is not None and case.split and needed <= {*case.masks, *case.landmarks}
    ]
    if not cases:
        raise DataError(
            f"{root}: no JSRT radiograph with {', '.join(sorted(needed)) or 'a split'} is in a split. "
            "`anatozoo doctor --data ROOT` shows what was found."
        )
    return cases


def _read_chest(case: ChestCase, labels: Sequence[str]) -> tuple[GridImage, np.ndarray | None]:
    image = read_grid_image(case.read_image(), 2)
    if not labels:
        return image, None
    drawn = np.zeros(image.pixels.shape, np.uint8)
    for value, label in enumerate(labels, 1):
        for organ in parts_of(label):
            drawn[_organ(case, organ, image.grid)] = value
    return image, drawn


def _organ(case: ChestCase, organ: str, grid: Grid) -> np.ndarray:
    size = (grid.size[0], grid.size[1])
    if organ not in case.masks:
        scale = np.asarray(size) / case.size
        return draw_organ_mask((case.landmarks[organ] + 0.5) * scale - 0.5, size)
    mask = case.read_mask(organ)
    if mask.shape == grid.shape:
        return mask
    height, width = mask.shape
    return Geometry.fit((width, height), size, mode="stretch").mask_to_target(mask)


def _folder_cases(
    root: Path, classes: Mapping[int, str], dims: int, subject_of: Callable[[str], str]
) -> list[FrameCase]:
    images, labels = _files(root, IMAGE_FOLDERS), _files(root, LABEL_FOLDERS) if classes else {}
    if not images:
        raise DataError(f"{root}: no images in {' or '.join(IMAGE_FOLDERS)}; put them there.")
    missing = sorted(set(images) - set(labels)) if classes else []
    if missing:
        raise DataError(
            f"{root}: {len(missing)} images have no label map of their name in {' or '.join(LABEL_FOLDERS)}, "
            f"first {missing[0]}."
        )
    assigned = splits_or_deal(root, {name: subject_of(name) for name in images}, "an image")
    return [
        FrameCase(
            name,
            subject_of(name),
            assigned.splits.get(name),
            partial(read_files, path, labels.get(name), classes, dims),
            assigned.origin,
        )
        for name, path in sorted(images.items())
    ]


def _files(root: Path, folders: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((root / folder).glob("*")):
            if path.is_file() and not path.name.startswith("."):
                name = composed(stem_of(path))
                if name in found:
                    raise DataError(f"{found[name]} and {path} have the same name; keep one of them.")
                found[name] = path
    return found


def read_files(
    image_path: Path, label_path: Path | None, classes: Mapping[int, str], dims: int
) -> tuple[GridImage, np.ndarray | None]:
    """An image, and its label map with the classes as 1, 2, ... in their order; None without a file of it.

    Raises:
        ImageError: a file cannot be read.
        DataError: the two lie on different grids, or a value is none of the classes.
    """
    image = read_grid_image(image_path, dims, allow_any_modality=True)
    if label_path is None:
        return image, None
    stored, grid = read_labels(label_path, dims)
    if difference := image.grid.differs_from(grid):
        raise DataError(f"{label_path} lies on another grid than its image: {difference}.")
    check_known(stored, classes, repr(str(label_path)), "give label_values")
    drawn = np.zeros(stored.shape, np.uint8)
    for label, value in enumerate(classes, 1):
        drawn[stored == value] = label
    return image, drawn


def subject_rule(pattern: str | None) -> Callable[[str], str]:
    """What gives the subject of a case's name: the first group of the pattern; None takes the whole name.

    Raises:
        ConfigError: it is no regular expression with a group; a name that does not fit is a `DataError`.
    """
    if pattern is None:
        return str
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"subject_pattern={pattern!r} is no regular expression: {error}.") from error
    if expression.groups < 1:
        raise ConfigError(f"subject_pattern={pattern!r} needs a group, such as '(patient\\d+)_.*'.")

    def subject(name: str) -> str:
        match = expression.match(name)
        if match is None:
            raise DataError(f"subject_pattern={pattern!r} does not fit the name {name!r}.")
        return match[1]

    return subject
