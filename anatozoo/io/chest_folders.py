"""Where the public chest data sets keep their files: one walk below a folder, every layout recognised."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from anatozoo.errors import DataError, ImageError
from anatozoo.io.annotation import exchanged_sides, middle_x
from anatozoo.io.decoded import check_largest
from anatozoo.io.files import open_picture
from anatozoo.io.landmarks import split_landmarks
from anatozoo.io.split_lists import DEPTH, SPLITS, Table, Tables, walk
from anatozoo.io.tables import clean, read_records, read_text_table
from anatozoo.io.untrusted import read_npy
from anatozoo.organs import CHEST_ORGANS, PAIRS

FRAME = 1024
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
IMAGE_FOLDERS = ("images", "jsrt", "cxr_png", "chest-xray")
COVID_COLUMNS = ("image", "mask", "patient")
COVID_LABELS = {"lung_right": 1, "lung_left": 2}
LANDMARK_FOLDERS = dict(zip(("RL", "LL", "H", "RCLA", "LCLA"), CHEST_ORGANS, strict=True))
MASK_FOLDERS = {
    "right_lung": "lung_right",
    "left_lung": "lung_left",
    "heart": "heart",
    "right_clavicle": "clavicle_right",
    "left_clavicle": "clavicle_left",
}
MASK_FOLDERS |= {organ: organ for organ in CHEST_ORGANS}
_JSRT = re.compile(r"JPC[LN]N\d{3}", re.IGNORECASE)


@dataclass(frozen=True)
class CovidRow:
    """One line of covid-cxr's ``metadata.csv``; the files need not exist."""

    image: Path
    mask: Path
    patient: str
    metadata: dict[str, Any]


@dataclass
class Found:
    """What lies below a folder, keyed by case name (file name without suffix).

    Attributes:
        images: case -> radiograph.
        doubles: case -> a second radiograph of the same name; an error once the case is used.
        masks: case -> organ -> file.
        landmarks: case -> organ -> (N, 2) pixels of the 1024 x 1024 frame.
        separate: cases with one landmark file per organ.
        vectors: cases with one landmark vector.
        tables: the lists of splits in files.
        folders: those that folders ``Train``, ``Val`` and ``Test`` are.
        clinical: case -> metadata.
        covid: rows of covid-cxr's table.
    """

    images: dict[str, Path] = field(default_factory=dict)
    doubles: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, dict[str, Path]] = field(default_factory=dict)
    landmarks: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    separate: set[str] = field(default_factory=set)
    vectors: set[str] = field(default_factory=set)
    tables: Tables = field(default_factory=Tables)
    folders: list[Table] = field(default_factory=list)
    clinical: dict[str, dict[str, Any]] = field(default_factory=dict)
    covid: list[CovidRow] = field(default_factory=list)

    @property
    def splits(self) -> Tables:
        """All lists of splits."""
        return replace(self.tables, found=[*self.tables.found, *self.folders])

    @property
    def listed(self) -> set[str]:
        """Names of cases in the lists of splits."""
        tables = self.splits.found
        return {_case_name(name) for table in tables for names in table.lists.values() for name in names}

    def describe(self) -> str:
        """What was looked for and how much of it was found, for error messages."""
        jsrt = sum(map(is_jsrt, self.images))
        return (
            f"Looked {DEPTH} levels deep and found: {jsrt} JSRT radiographs (JPCLN001.IMG anywhere, or .png "
            f"in the folder itself or in one named images/), {len(self.masks)} cases with masks "
            f"(masks/heart/NAME.png or .gif), {len(self.separate)} with landmarks (landmarks/RL/NAME.npy), "
            f"{len(self.vectors)} with landmark vectors (Train/landmarks/NAME.npy), {len(self.listed)} names "
            f"in split lists (splits/train.txt, train_files.txt or splits.json), {len(self.covid)} rows of a "
            f"metadata.csv with the columns {', '.join(COVID_COLUMNS)}."
        )


def is_jsrt(name: str) -> bool:
    """Whether a name is a JSRT case, JPCLN001 to JPCLN154 or JPCNN001 to JPCNN093."""
    return _JSRT.fullmatch(name) is not None


def scan(root: Path) -> Found:
    """Collect the files of every known layout below `root`.

    Raises:
        DataError: files contradict one another or are not as documented.
    """
    found = Found()
    for folder, files in walk(root):
        metadata = folder / "metadata.csv"
        if metadata.name in files and (rows := _read_covid(metadata)):
            found.covid += rows
        _add_images(folder, files, root, found)
        _add_masks(folder, files, found)
        _add_landmarks(folder, files, found)
        found.tables.add(folder, files)
        _add_clinical(folder, files, found)
    _check_sides(found)
    return found


def _case_name(file: str) -> str:
    name = Path(file).stem
    return name.upper() if is_jsrt(name) else name


def _add_images(folder: Path, files: list[str], root: Path, found: Found) -> None:
    # A mask or a prediction carries the radiograph's name too, so that pictures count only in known folders.
    named = folder == root or folder.name.lower() in IMAGE_FOLDERS
    for file in files:
        name, original = _case_name(file), _is_original(file)
        if not (original and is_jsrt(name)) and not (named and Path(file).suffix.lower() in PICTURES):
            continue
        other = found.images.get(name)
        if other is None or (original and not _is_original(other.name)):
            found.images[name] = folder / file
            found.doubles.pop(name, None)
        elif original == _is_original(other.name):
            found.doubles[name] = folder / file


def _is_original(file: str) -> bool:
    """Whether a file is as JSRT distributes it; it wins over a picture made from it."""
    return Path(file).suffix.lower() == ".img"


def _add_masks(folder: Path, files: list[str], found: Found) -> None:
    organ = MASK_FOLDERS.get(folder.name.lower().replace(" ", "_"))
    if organ is None or folder.parent.name.lower() != "masks":
        return
    for file in files:
        if Path(file).suffix.lower() in (".png", ".gif", ".bmp"):
            organs = found.masks.setdefault(_case_name(file), {})
            other = organs.setdefault(organ, folder / file)
            if other != folder / file:
                raise DataError(f"{other} and {folder / file} both are the {organ} of one case; keep one.")


def _add_landmarks(folder: Path, files: list[str], found: Found) -> None:
    if folder.parent.name == "landmarks" and folder.name in LANDMARK_FOLDERS:
        organ = LANDMARK_FOLDERS[folder.name]
        count = CHEST_ORGANS[organ]
        for file in files:
            if file.endswith(".npy"):
                points = _read_array(folder / file)
                if points.shape != (count, 2):
                    raise DataError(f"{folder / file}: shape {points.shape}, but {organ} has ({count}, 2).")
                found.separate.add(_case_name(file))
                _add_points(found, folder / file, {organ: points})
    elif folder.name == "landmarks" and (split := folder.parent.name.lower()) in SPLITS:
        names = [_case_name(file) for file in files if file.endswith(".npy")]
        if names:
            found.folders.append(Table(folder, {split: names}))
        for file in files:
            if file.endswith(".npy"):
                try:
                    parts = split_landmarks(_read_array(folder / file))
                except DataError as error:
                    raise DataError(f"{folder / file}: {error}") from error
                found.vectors.add(_case_name(file))
                _add_points(found, folder / file, parts)


def _read_array(path: Path) -> np.ndarray:
    array = read_npy(path)
    if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
        raise DataError(f"{path}: landmarks must be finite numbers.")
    return array.astype(np.float64)


def _add_points(found: Found, path: Path, parts: dict[str, np.ndarray]) -> None:
    organs = found.landmarks.setdefault(_case_name(path.name), {})
    for organ, points in parts.items():
        if organ in organs and np.abs(organs[organ] - points).max() > 1e-3:
            raise DataError(f"{path}: its {organ} differs from another file of this name; keep one of them.")
        organs[organ] = points


def _add_clinical(folder: Path, files: list[str], found: Found) -> None:
    if "clinical.csv" in files:
        stated: dict[str, dict[str, Any]] = {}
        for row in _read_csv(folder / "clinical.csv", ("File", "Sex", "Age")):
            known = {
                "dataset": row.get("Dataset") or "unknown",
                "sex": row["Sex"] or None,
                # The data set writes 0 where JSRT does not know the age.
                "age": _number(row["Age"]) or None,
                "condition": row.get("Condition") or None,
            }
            name = _case_name(row["File"])
            if stated.setdefault(name, known) != known:
                raise DataError(
                    f"{folder / 'clinical.csv'}: {name} is there twice, and not alike ({stated[name]} and "
                    f"{known}); correct one."
                )
        found.clinical |= stated
    if "JSRT_clinical.csv" in files:
        for row in _read_csv(folder / "JSRT_clinical.csv", ("Img", "Age", "Sex")):
            sex = {"male": "M", "female": "F"}.get(row["Sex"].lower())
            known = {"dataset": "JSRT", "sex": sex, "age": _number(row["Age"]) or None}
            found.clinical.setdefault(_case_name(row["Img"]), known)


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    table = read_text_table(path)
    absent = [c for c in columns if c not in table.header]
    if absent:
        raise DataError(f"{path}: lacks the column(s) {', '.join(absent)}; it has {', '.join(table.header)}.")
    return table.records()


def _read_covid(path: Path) -> list[CovidRow]:
    """Rows of a covid-cxr table; none if the table is another data set's."""
    found = read_records(path).records
    if not found or not set(COVID_COLUMNS) <= {clean(name) for name in found[0][1]}:
        return []
    readers: dict[str, Callable[[str], Any]] = {"age": _number}
    return [
        CovidRow(
            image=path.parent / "images" / Path(row["image"]).name,
            mask=path.parent / "masks" / Path(row["mask"]).name,
            patient=row["patient"],
            metadata={
                k: readers.get(k, str)(v) if v else None for k, v in row.items() if k not in COVID_COLUMNS
            },
        )
        for row in _read_csv(path, COVID_COLUMNS)
    ]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _check_sides(found: Found) -> None:
    """Refuse masks whose right lung lies on the image's right: some copies name the viewer's side."""
    for organs in found.masks.values():
        if {"lung_right", "lung_left"} <= set(organs):
            lungs = {organ: _middle_x(organs[organ]) for organ in PAIRS["lungs"]}
            if exchanged_sides(lungs)["lungs"]:
                raise DataError(
                    f"{organs['lung_right']} lies on the right of the picture, but the patient's right "
                    "lung is on its left; exchange the names of the right and left folders."
                )
            return


@contextmanager
def opened(path: Path, what: str) -> Iterator[PIL.Image.Image]:
    """Open a picture of a data set with Pillow; `what` names it in messages.

    Raises:
        DataError: it cannot be read, or has a size that no radiograph has.
    """
    try:
        with open_picture(path, repr(str(path))) as file:
            check_largest(*file.size, repr(str(path)))
            yield file
    except (ImageError, PIL.UnidentifiedImageError) as error:
        raise DataError(f"{path}: unreadable {what} ({error}); download it again or remove it.") from error


def _middle_x(path: Path) -> float:
    with opened(path, "mask") as file:
        found = middle_x(np.asarray(file.convert("L")))
    if math.isnan(found):
        raise DataError(f"{path}: the mask is empty; download it again.")
    return found
