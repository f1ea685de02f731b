"""Find and read the annotations of a folder, whatever they are: masks, label maps, landmarks, run lengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatozoo.errors import DataError
from anatozoo.io.annotation_files import (
    JPEG,
    LANDMARKS,
    PICTURES,
    VOLUMES,
    Stored,
    by_codes,
    checked_contours,
    read_label_map,
    read_organs,
    read_result,
    suffix_among,
    without_names,
)
from anatozoo.io.chest_folders import IMAGE_FOLDERS, LANDMARK_FOLDERS, MASK_FOLDERS
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.landmarks import CSV_HEADER, read_landmarks
from anatozoo.io.rle import ChexmaskRow, is_chexmask, read_chexmask
from anatozoo.io.tables import composed
from anatozoo.organs import CHEST_ORGANS, PAIRS

TABLES = (".csv.gz", ".csv")
ENDINGS = ("_mask", "_landmarks")
"""What `anatozoo predict` appends to an image's name, and what is left out where names are matched."""
KINDS = "masks and label maps (PNG, TIFF, BMP, NIfTI, MHA, NRRD), landmarks (CSV, NPY, JSON), CheXmask CSV"

_IMAGES = (*VOLUMES, *PICTURES, ".jpg", ".jpeg", ".dcm")
_FILES = (*VOLUMES, *PICTURES, *LANDMARKS)
_MASKS = (*VOLUMES, *PICTURES, ".npy")
_NO_ORGANS = (*IMAGE_FOLDERS, "imagestr", "imagests")
_BESIDE_RESULTS = (
    "manifest.csv",
    "measurements.csv",
    "_overlay.png",
    "_label_map.png",
    "_label_map.nii.gz",
    "_label_map.mha",
    "_repair.png",
    "_translated.png",
    "_translated.nii.gz",
    "_translated.mha",
    "_translation.png",
    "_registration.png",
    "_quality.json",
    "_quality.png",
    "_warped.nii.gz",
    "_displacement.nii.gz",
    "_displacement.mha",
    "_seg.dcm",
    "_probability.dcm",
    "_rtstruct.dcm",
    "_sr.dcm",
    "_gsps.dcm",
)
_OF_A_RESULT = (".json", "_landmarks.csv", "_mask.mha", "_mask.nii.gz", "_mask.png", "_overlay.png")
"""What the formats of one segmented radiograph append to its name: what says most comes first."""
_ROW_OF_CHEXMASK = "_chexmask.csv"
CHEXMASK = "chexmask.csv"
"""What a run of `anatozoo predict` calls its table of all images in the format of CheXmask."""
_DRAWN = tuple(
    name
    for organ in CHEST_ORGANS
    for name in (organ, *(pair for pair, two in PAIRS.items() if two[1] == organ))
)
"""Organs in the order in which they are drawn, pairs after their parts."""
_LONGEST_HEADER = 2**20


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
            return read_organs({o: file for o, file in self.files.items() if o is not None}, codes)
        if path.suffix.lower() == ".json":
            return read_result(path, self.mask)
        if suffix_among(path.name, LANDMARKS):
            return Stored(landmarks=checked_contours(read_landmarks(path), path))
        labels, grid = read_label_map(path, coded=codes is not None)
        if codes is not None:
            return Stored(grid, masks=by_codes(codes, labels, path))
        return without_names(labels, grid)


@dataclass(frozen=True)
class Found:
    """Annotations below a path.

    Attributes:
        entries: name of the image -> its annotation, in order of the names.
        ignored: files of other kinds.
        strangers: name of the image -> name of a folder that is no known organ -> the file there; images
            that only such folders have are here alone.
    """

    entries: Mapping[str, Entry]
    ignored: tuple[Path, ...] = ()
    strangers: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def find_annotations(path: Path, classes: Sequence[str] = (), *, others: bool = False) -> Found:
    """Find annotations; nothing but tables is read yet.

    Args:
        path: a file, or a folder: of files named like their images, with or without the endings of
            `anatozoo predict`; or of one folder per organ, ``heart/NAME.png``, ``RL/NAME.npy``.
        classes: names of folders that are organs, besides those of the chest.
        others: whether to list strangers too, folders of masks with any other name. Where files mark all
            organs there are none, and folders of images are none.

    Raises:
        DataError: there is nothing, or two files annotate one image.
    """
    if path.is_dir():
        return _find_in_folder(path, classes, others)
    if not path.is_file():
        raise DataError(f"{str(path)!r}: there is no such file or folder; check the path.")
    entries, ignored = _entries([path])
    if ignored and path.suffix.lower() in JPEG:
        return Found({path.stem: Entry({None: path})})
    if ignored:
        raise DataError(f"{str(path)!r} is not an annotation. What can be read: {KINDS}.")
    return Found(entries)


def _find_in_folder(folder: Path, classes: Sequence[str], others: bool) -> Found:
    children = _without_copies(_visible(folder))
    plain = [child for child in children if child.is_file()]
    entries, ignored = _entries(plain)
    folders = [child for child in children if child.is_dir()]
    organs = {child: organ for child in folders if (organ := _organ_of(child.name, classes))}
    others = others and not entries
    strangers = _strangers(child for child in folders if others and child not in organs)
    by_organ: dict[str, dict[str | None, Path]] = {}
    # In the order in which organs are drawn, for later ones may cover earlier ones.
    drawn = list(dict.fromkeys([*classes, *_DRAWN]))
    for child, organ in sorted(organs.items(), key=lambda item: drawn.index(item[1])):
        for path in _visible(child):
            if not path.is_file():
                continue
            if not suffix_among(path.name, _FILES):
                ignored.append(path)
            elif (other := by_organ.setdefault(_image_of(path), {}).setdefault(organ, path)) != path:
                raise _doubled(other, path, f"{organ} of {_image_of(path)}")
    if entries and by_organ:
        raise DataError(
            f"{folder} holds annotations beside folders of organs, such as {next(iter(entries))} beside "
            f"{next(iter(organs)).name}/; move one of the two elsewhere."
        )
    entries |= {name: Entry(files) for name, files in by_organ.items()}
    if not entries and not strangers and (blurred := [path for path in plain if path.suffix.lower() in JPEG]):
        # JPEG is for images, which may lie beside masks; where there is nothing else, these are the masks.
        ignored = [path for path in ignored if path not in blurred]
        entries = {composed(path.stem): Entry({None: path}) for path in blurred}
    if not entries and not strangers:
        seen = [path.name for path in ignored] + [f"{child.name}/" for child in folders]
        more = "" if others else "; --classes names others"
        raise DataError(
            f"{folder} holds no annotation; {'there is ' + ', '.join(seen[:5]) if seen else 'it is empty'}. "
            f"Give the folder that holds {KINDS}; or one folder per organ (heart/, lung_left/, RL/, "
            f"...{more})."
        )
    return Found(dict(sorted(entries.items())), tuple(ignored), dict(sorted(strangers.items())))


def _without_copies(children: list[Path]) -> list[Path]:
    """Results in several formats without the tables of CheXmask, which hold what other files hold too."""
    names = {child.name for child in children}
    if "manifest.csv" not in names:
        return children
    others = [child for child in children if not child.name.endswith((_ROW_OF_CHEXMASK, CHEXMASK))]
    if any(child.is_file() and not child.name.endswith(_BESIDE_RESULTS) for child in others):
        return others
    return [child for child in children if CHEXMASK not in names or not child.name.endswith(_ROW_OF_CHEXMASK)]


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


def _strangers(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Image -> name of a folder -> its mask there, of folders that are no known organs."""
    found: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for path in _visible(folder) if folder.name.lower() not in _NO_ORGANS else ():
            if path.is_file() and suffix_among(path.name, _MASKS):
                found.setdefault(_image_of(path), {}).setdefault(folder.name, path)
    return found


def _entries(paths: Sequence[Path]) -> tuple[dict[str, Entry], list[Path]]:
    """Files that mark all organs, rows of tables among them, by image; and the other files."""
    files: dict[str, list[Path]] = {}
    entries: dict[str, Entry] = {}
    ignored = []
    for path in paths:
        if path.name.endswith(_BESIDE_RESULTS):
            continue
        columns = _header(path) if suffix_among(path.name, TABLES) else ()
        if columns and is_chexmask(path):
            for image, row in read_chexmask(path).items():
                name = composed(image[: len(image) - len(suffix_among(image, _IMAGES))])
                if name in entries:
                    raise DataError(f"{path}: a second row for {name}; keep one of them.")
                entries[name] = Entry(row=row)
        elif suffix_among(path.name, _FILES) and (not columns or set(CSV_HEADER[:4]) <= set(columns)):
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
    if len(paths) > 1 and not set(paths) <= {name + ending for ending in (*_OF_A_RESULT, _ROW_OF_CHEXMASK)}:
        one, two, *_ = paths.values()
        raise _doubled(one, two, name)
    # One result in several formats: landmarks say more than the mask that was drawn from them, and a format
    # with a spacing more than one without.
    order = [name + ending for ending in _OF_A_RESULT]
    chosen = [paths[file] for file in order if file in paths] or list(paths.values())
    masks = [path for path in chosen[1:] if composed(path.name).startswith(f"{name}_mask")]
    return Entry({None: chosen[0]}, mask=masks[0] if masks else None)


def _doubled(one: Path, two: Path, what: str) -> DataError:
    return DataError(f"{one} and {two} both annotate {what}; keep one of them.")


def _header(path: Path) -> tuple[str, ...]:
    """Names of a table's columns; empty where it is not text."""
    import csv
    import gzip
    import zlib

    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            return tuple(next(csv.reader([file.readline(_LONGEST_HEADER)]), ()))
    except (OSError, EOFError, ValueError, zlib.error, csv.Error):
        return ()  # reading it will say what is wrong with it


def _image_of(path: Path) -> str:
    """Name of the image that a file annotates."""
    stem = path.name[: len(path.name) - len(suffix_among(path.name, _FILES))]
    return composed(next((stem.removesuffix(e) for e in ENDINGS if stem.endswith(e) and stem != e), stem))
