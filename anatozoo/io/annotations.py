"""Find and read the annotations of a folder, whatever they are: masks, label maps, landmarks, run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import AnatozooError, DataError, GeometryError, ImageError
from anatozoo.io.chest_folders import LANDMARK_FOLDERS, MASK_FOLDERS
from anatozoo.io.grid import Grid, read_labels
from anatozoo.io.label_codes import BACKGROUND, WHITE, LabelCodes, one_organ
from anatozoo.io.landmarks import CSV_HEADER, Points, check_points, read_landmarks
from anatozoo.io.rle import ChexmaskRow, is_chexmask, read_chexmask
from anatozoo.io.tables import composed
from anatozoo.io.untrusted import check_regular, read_json, read_npy
from anatozoo.metrics.cases import PAIRS, Annotation
from anatozoo.results import FORMATS, output_names

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
PICTURES = (".png", ".tif", ".tiff", ".bmp", ".gif")
LANDMARKS = (".npy", ".json", ".csv")
TABLES = (".csv.gz", ".csv")
ENDINGS = ("_mask", "_landmarks")
"""What `anatozoo predict` appends to an image's name, and what is left out where names are matched."""
KINDS = "masks and label maps (PNG, TIFF, BMP, NIfTI, MHA, NRRD), landmarks (CSV, NPY, JSON), CheXmask CSV"

_IMAGES = (*VOLUMES, *PICTURES, ".jpg", ".jpeg", ".dcm")
_FILES = (*VOLUMES, *PICTURES, *LANDMARKS)
_BESIDE_RESULTS = (
    "manifest.csv",
    "_overlay.png",
    "_repair.png",
    "_registration.png",
    "_quality.json",
    "_quality.png",
    "_warped.nii.gz",
    "_displacement.nii.gz",
    "_displacement.mha",
)
CHEXMASK = "chexmask.csv"
"""What a run of `anatozoo predict` calls its table of all images in the format of CheXmask."""
_DRAWN = ("lung_right", "lung_left", "lungs", "heart", "clavicle_right", "clavicle_left", "clavicles")
_MOST_VALUES = {2: 64, 3: 1024}
_FEWEST_POINTS = 3
_LONGEST_HEADER = 2**20
_MOST_JSON_BYTES = 2**24
_JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True, eq=False)
class Stored:
    """An annotation as files hold it: perhaps without a size, perhaps with values that nobody named.

    Attributes:
        grid: where its pixels lie; None where the files do not say, as landmarks without an image.
        landmarks: organ -> (N, 2) pixels.
        masks: organ -> bool, (H, W) or (D, H, W).
        labels: label map whose values have no names, 0 for background; None where there is none.
        row: of a CheXmask table, whose masks need a size before they can be read.
        white: whether the label map is stored with 255 in the place of 1, and no other value.
    """

    grid: Grid | None = None
    landmarks: Mapping[str, Points] = field(default_factory=dict)
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    labels: npt.NDArray[Any] | None = None
    row: ChexmaskRow | None = None
    white: bool = False

    def as_stored(self) -> Stored:
        """The same with 255 where the label map says so."""
        if not self.white or self.labels is None:
            return self
        return replace(self, labels=self.labels * np.uint8(WHITE), white=False)

    @cached_property
    def values(self) -> list[int]:
        """Values of the label map above 0."""
        return [] if self.labels is None else [int(v) for v in np.unique(self.labels) if v != 0]

    @property
    def organs(self) -> list[str]:
        """Organs that the files name."""
        return list(dict.fromkeys([*self.landmarks, *self.masks, *(self.row.runs if self.row else ())]))

    def annotation(
        self, size: tuple[int, ...], classes: Mapping[int, str], spacing_mm: tuple[float, ...] | None
    ) -> Annotation:
        """The annotation on a grid of `size`, with names for the values of its label map.

        Raises:
            DataError: run lengths do not fit the size.
            GeometryError: masks have another size, or landmarks would lie in a volume.
        """
        if len(size) != 2 and (self.landmarks or self.row):
            raise GeometryError("landmarks and run lengths are of 2-D images, and cannot mark a volume.")
        masks = dict(self.masks)
        if self.labels is not None:
            masks |= {name: self.labels == value for value, name in classes.items()}
        if self.row is not None:
            masks |= self.row.masks((size[0], size[1]))
        return Annotation(size, self.landmarks, masks, spacing_mm)


@dataclass(frozen=True)
class Entry:
    """The files that annotate one image, not read yet.

    Attributes:
        files: organ -> file that marks this organ alone, or None -> the one file of all organs.
        mask: label map beside the JSON of a result, for results without landmarks.
        row: of a CheXmask table.
    """

    files: Mapping[str | None, Path] = field(default_factory=dict)
    mask: Path | None = None
    row: ChexmaskRow | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files; none for the row of a table."""
        return (*self.files.values(), *(() if self.mask is None else (self.mask,)))

    def read(self, codes: LabelCodes | None = None) -> Stored:
        """Read the files.

        Args:
            codes: what the values of label maps without names mean, and where the mask of a single organ
                begins. None leaves values without names, and takes a mask of 0 and 255 for one of 0 and 1.

        Raises:
            DataError, GeometryError, ImageError: a file is damaged or of another kind.
        """
        if self.row is not None:
            return Stored(self.row.size and Grid(self.row.size), self.row.landmarks(), row=self.row)
        path = self.files.get(None)
        if path is None:
            return _read_organs({o: file for o, file in self.files.items() if o is not None}, codes)
        if path.suffix.lower() == ".json":
            return _read_json(path, self.mask)
        if _suffix(path.name, LANDMARKS):
            return Stored(landmarks=_checked_contours(read_landmarks(path), path))
        labels, grid = _read_label_map(path, coded=codes is not None)
        if codes is not None:
            return Stored(grid, masks=_coded(codes, labels, path))
        return _plain(labels, grid)


@dataclass(frozen=True)
class Found:
    """Annotations below a path.

    Attributes:
        entries: name of the image -> its annotation, in order of the names.
        ignored: files of other kinds.
    """

    entries: Mapping[str, Entry]
    ignored: tuple[Path, ...] = ()


def find_annotations(path: Path, classes: Sequence[str] = ()) -> Found:
    """Find annotations; nothing but tables is read yet.

    Args:
        path: a file, or a folder: of files named like their images, with or without the endings of
            `anatozoo predict`; or of one folder per organ, ``heart/NAME.png``, ``RL/NAME.npy``.
        classes: names of folders that are organs, besides those of the chest.

    Raises:
        DataError: there is nothing, or two files annotate one image.
    """
    if path.is_dir():
        return _find_in_folder(path, classes)
    if not path.is_file():
        raise DataError(f"{str(path)!r}: there is no such file or folder; check the path.")
    entries, ignored = _entries([path])
    if ignored and path.suffix.lower() in _JPEG:
        return Found({path.stem: Entry({None: path})})
    if ignored:
        raise DataError(f"{str(path)!r} is no annotation. What can be read: {KINDS}.")
    return Found(entries)


def _find_in_folder(folder: Path, classes: Sequence[str]) -> Found:
    children = _without_copies(_visible(folder))
    plain = [child for child in children if child.is_file()]
    entries, ignored = _entries(plain)
    organs = {child: _organ_of(child.name, classes) for child in children if child.is_dir()}
    by_organ: dict[str, dict[str | None, Path]] = {}
    # In the order in which organs are drawn, for later ones may cover earlier ones.
    drawn = [*classes, *(organ for organ in _DRAWN if organ not in classes)]
    for child, organ in sorted(organs.items(), key=lambda item: drawn.index(item[1]) if item[1] else -1):
        for path in _visible(child) if organ else ():
            if not path.is_file():
                continue
            if not _suffix(path.name, _FILES):
                ignored.append(path)
            elif (other := by_organ.setdefault(_image_of(path), {}).setdefault(organ, path)) != path:
                raise _doubled(other, path, f"{organ} of {_image_of(path)}")
    if entries and by_organ:
        raise DataError(
            f"{folder} holds annotations beside folders of organs, such as {next(iter(entries))} beside "
            f"{next(child.name for child, organ in organs.items() if organ)}/; move one of the two elsewhere."
        )
    entries |= {name: Entry(files) for name, files in by_organ.items()}
    if not entries and (blurred := [path for path in plain if path.suffix.lower() in _JPEG]):
        # JPEG is for images, which may lie beside masks; where there is nothing else, these are the masks.
        ignored = [path for path in ignored if path not in blurred]
        entries = {composed(path.stem): Entry({None: path}) for path in blurred}
    if not entries:
        seen = [path.name for path in ignored] + [f"{child.name}/" for child in organs]
        raise DataError(
            f"{folder} holds no annotation; {'there is ' + ', '.join(seen[:5]) if seen else 'it is empty'}. "
            f"Give the folder that holds {KINDS}; or one folder per organ (heart/, lung_left/, RL/, ...; "
            "--classes names others)."
        )
    return Found(dict(sorted(entries.items())), tuple(ignored))


def _without_copies(children: list[Path]) -> list[Path]:
    """Results in several formats without the tables of CheXmask, which hold what other files hold too."""
    names = {child.name for child in children}
    if "manifest.csv" not in names:
        return children
    [ending] = FORMATS["chexmask"]
    others = [child for child in children if not child.name.endswith((ending, CHEXMASK))]
    if any(child.is_file() and not child.name.endswith(_BESIDE_RESULTS) for child in others):
        return others
    return [child for child in children if CHEXMASK not in names or not child.name.endswith(ending)]


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}; check its permissions.") from error


def _organ_of(folder: str, classes: Sequence[str]) -> str | None:
    name = folder.lower().replace(" ", "_")
    if folder in classes or name in PAIRS:
        return folder if folder in classes else name
    return LANDMARK_FOLDERS.get(folder) or MASK_FOLDERS.get(name)


def _entries(paths: Sequence[Path]) -> tuple[dict[str, Entry], list[Path]]:
    """Files that mark all organs, rows of tables among them, by image; and the other files."""
    files: dict[str, list[Path]] = {}
    entries: dict[str, Entry] = {}
    ignored = []
    for path in paths:
        if path.name.endswith(_BESIDE_RESULTS):
            continue
        columns = _header(path) if _suffix(path.name, TABLES) else ()
        if columns and is_chexmask(path):
            for image, row in read_chexmask(path).items():
                name = composed(image[: len(image) - len(_suffix(image, _IMAGES))])
                if name in entries:
                    raise DataError(f"{path}: a second row for {name}; keep one of them.")
                entries[name] = Entry(row=row)
        elif _suffix(path.name, _FILES) and (not columns or set(CSV_HEADER[:4]) <= set(columns)):
            files.setdefault(_image_of(path), []).append(path)
        else:
            ignored.append(path)
    for name, found in files.items():
        if name in entries:
            raise DataError(f"{found[0]} and a row of a table annotate one image, {name}; keep one of them.")
        named = {composed(path.name): path for path in found}
        if len(named) < len(found):
            raise _doubled(found[0], found[1], name)
        entries[name] = _one_entry(name, named)
    return entries, ignored


def _one_entry(name: str, paths: Mapping[str, Path]) -> Entry:
    if len(paths) > 1 and not set(paths) <= set(output_names(name, tuple(FORMATS))):
        one, two, *_ = paths.values()
        raise _doubled(one, two, name)
    # One result in several formats: landmarks say more than the mask that was drawn from them, and a format
    # with a spacing more than one without.
    order = [name + ending for kind in ("json", "csv", "mha", "nifti", "png") for ending in FORMATS[kind]]
    chosen = [paths[file] for file in order if file in paths] or list(paths.values())
    masks = [path for path in chosen[1:] if composed(path.name).startswith(f"{name}_mask")]
    return Entry({None: chosen[0]}, mask=masks[0] if masks else None)


def _doubled(one: Path, two: Path, what: str) -> DataError:
    return DataError(f"{one} and {two} both annotate {what}; keep one of them.")


def _header(path: Path) -> tuple[str, ...]:
    """Names of a table's columns; empty where it is no text."""
    import csv
    import gzip
    import zlib

    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            return tuple(next(csv.reader([file.readline(_LONGEST_HEADER)]), ()))
    except (OSError, EOFError, ValueError, zlib.error, csv.Error):
        return ()  # reading it will say what is wrong with it


def _suffix(name: str, suffixes: Sequence[str]) -> str:
    """The end of a name that is one of the suffixes, in the name's spelling; empty where there is none."""
    found = next((s for s in suffixes if name.lower().endswith(s) and len(name) > len(s)), "")
    return name[len(name) - len(found) :]


def _image_of(path: Path) -> str:
    """Name of the image that a file annotates."""
    stem = path.name[: len(path.name) - len(_suffix(path.name, _FILES))]
    return composed(next((stem.removesuffix(e) for e in ENDINGS if stem.endswith(e) and stem != e), stem))


def _read_json(path: Path, mask: Path | None) -> Stored:
    """Landmarks of a JSON file, or the label map beside a result that has none."""
    value = read_json(path, DataError, _MOST_JSON_BYTES)
    result: dict[str, Any] = value if isinstance(value, dict) and "schema_version" in value else {}
    if result and not result.get("landmarks"):
        names = result.get("labels")
        if mask is None:
            advice = (
                "write it by `anatozoo predict --format png,json`"
                if names is not None
                else "a registration has one where its line in pairs.csv has a moving_mask"
            )
            raise DataError(f"{str(path)!r} describes a label map, which is in no file beside it; {advice}.")
        labels, own = _read_label_map(mask)
        if names is None:  # a registration's, which brings labels along and knows no names for them
            return _plain(labels, _known(own, result, path))
        masks = {organ: labels == value for organ, value in _label_values(names, path).items()}
        return Stored(_known(own, result, path), masks=masks)
    return Stored(_known(None, result, path), _checked_contours(read_landmarks(path), path))


def _label_values(names: Any, path: Path) -> dict[str, int]:
    """Organ -> its value, as a result states them."""
    try:
        return {str(organ): int(value) for organ, value in names.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{str(path)!r}: its labels are no organs with whole numbers; write it again."
        ) from error


def _known(grid: Grid | None, result: Mapping[str, Any], path: Path) -> Grid | None:
    """A grid with the spacing that a result states, or the result's own."""
    if not result:
        return grid
    try:
        spacing = result.get("spacing_mm")
        if grid is None:
            return Grid(tuple(result["size"]), spacing)
        return grid if grid.spacing_mm or not spacing else replace(grid, spacing_mm=tuple(spacing))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{str(path)!r} states no size, or one that is no two or three numbers; write it again."
        ) from error


def _plain(labels: npt.NDArray[Any], grid: Grid | None) -> Stored:
    """A label map without names, of which one of 0 and 255 is a mask."""
    white = bool(labels.any()) and np.isin(labels, (0, WHITE)).all()
    return Stored(grid, labels=(labels == WHITE).astype(np.uint8) if white else labels, white=bool(white))


def _coded(codes: LabelCodes, labels: npt.NDArray[Any], path: Path) -> dict[str, npt.NDArray[np.bool_]]:
    try:
        return codes.masks(labels)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from error


def _read_organs(files: Mapping[str, Path], codes: LabelCodes | None = None) -> Stored:
    """One file for each organ."""
    landmarks: dict[str, Points] = {}
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    grid: Grid | None = None
    for organ, path in files.items():
        if _suffix(path.name, LANDMARKS):
            landmarks[organ] = _read_contour(path, organ)
            continue
        coded = codes is not None and organ in codes.ranges
        labels, own = _read_label_map(path, coded=coded)
        if grid is not None and (difference := grid.differs_from(own)):
            raise GeometryError(f"{str(path)!r} lies on another grid than the other organs: {difference}.")
        grid = own
        if coded and codes is not None:
            masks[organ] = _coded(codes, labels, path)[organ]
        else:
            masks[organ] = one_organ(labels, repr(str(path)), organ)
    return Stored(grid, landmarks, masks)


def _read_contour(path: Path, organ: str) -> Points:
    if path.suffix.lower() != ".npy":
        found = read_landmarks(path)
        if len(found) != 1:
            raise DataError(f"{str(path)!r} marks {', '.join(found)}, but lies in the folder of {organ}.")
        return _checked_contours({organ: next(iter(found.values()))}, path)[organ]
    points = read_npy(path)
    return _checked_contours({organ: points.reshape(-1, 2) if points.ndim == 1 else points}, path)[organ]


def _checked_contours(landmarks: Mapping[str, npt.ArrayLike], path: Path) -> dict[str, Points]:
    try:
        checked = {organ: check_points(points, organ) for organ, points in landmarks.items()}
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    for organ, points in checked.items():
        if len(points) < _FEWEST_POINTS:
            raise GeometryError(f"{path}: {organ} has {len(points)} landmarks; a contour needs three.")
    return checked


def _read_label_map(path: Path, *, coded: bool = False) -> tuple[npt.NDArray[Any], Grid]:
    """A mask or label map, one value per pixel, as stored; any number of values where codes name them."""
    if not check_regular(path):
        raise ImageError(f"{str(path)!r} is empty (zero bytes); copy or export it again.")
    try:
        labels, grid = read_labels(path, _dimensions(path))
    except AnatozooError:
        raise
    except Exception as error:  # a hostile file makes decoders fail in any way they like
        raise ImageError(
            f"{str(path)!r} is damaged or truncated ({error}); copy or export it again."
        ) from error
    if labels.ndim == 3 and 1 in labels.shape:
        # A single slice that was saved as a volume: its surface is a line, not a sheet.
        thin = labels.shape.index(1)
        kept = [axis for axis in range(3) if axis != 2 - thin]
        spacing = grid.spacing_mm and tuple(grid.spacing_mm[axis] for axis in kept)
        size = tuple(grid.size[axis] for axis in kept)
        labels, grid = labels.squeeze(thin), Grid(size, spacing, remarks=grid.remarks)
    values = np.unique(labels)
    if values.min() < 0:
        raise DataError(f"{str(path)!r} holds {values.min()}; labels are 0 and above.")
    if len(values) > _MOST_VALUES[labels.ndim] and not coded:
        raise DataError(
            f"{str(path)!r} holds {len(values)} different values: a picture, or a mask that JPEG or "
            "interpolation blurred, and no label map. Of a blurred mask `anatozoo evaluate` takes the part "
            f"that --labels names, as mask=128-255,{BACKGROUND}=0-127."
        )
    return labels.astype(np.uint8) if labels.dtype == bool else labels, grid


def _dimensions(path: Path) -> int:
    """2 or 3; pictures must hold one value per pixel."""
    if _suffix(path.name, (*PICTURES, *_JPEG)):
        from anatozoo.io.decoded import check_largest
        from anatozoo.io.files import open_picture
        from anatozoo.io.picture_headers import pages_of

        label = repr(str(path))
        with open_picture(path, label) as picture:
            check_largest(*picture.size, label)
            if pages_of(picture, path) > 1:
                raise ImageError(f"{label} holds several pages; save a volume as NIfTI or MHA.")
            if len(picture.getbands()) > 2:
                colours = np.asarray(picture.convert("RGB"))
                if (colours != colours[..., :1]).any():
                    raise ImageError(
                        f"{label} is a colour picture ({picture.mode}); save the mask with one value "
                        "per pixel, grey or as a palette."
                    )
        return 2
    from anatozoo.io.volumes import read_itk

    return len(read_itk(path, repr(str(path)), values=False).size)
