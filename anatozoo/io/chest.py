"""Readers of the public chest radiograph data sets: JSRT with SCR, the landmark data set, covid-cxr.

`index_chest` finds the files and pairs them; nothing but small landmark arrays and image headers is read
until a case's `read_image` or `read_mask` is called.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anatozoo.errors import DataError, ImageError
from anatozoo.io.chest_folders import COVID_LABELS, FRAME, Found, is_jsrt, opened, scan
from anatozoo.io.label_codes import one_organ
from anatozoo.io.split_lists import Tables
from anatozoo.io.splits import Assigned, Origin, check_subjects, dealt, find_splits
from anatozoo.io.untrusted import read_bytes
from anatozoo.organs import CHEST_ORGANS

if TYPE_CHECKING:
    from anatozoo.io.images import Image

LAYOUTS = ("auto", "jsrt", "landmarks", "hybridgnet", "covid")
JSRT_SIDE = 2048
JSRT_SPACING_MM = 0.175
COVID_FRACTIONS = {"train": 0.7, "val": 0.3}


@dataclass(frozen=True, eq=False)
class ChestCase:
    """One radiograph of a public data set with whatever is known about it.

    Attributes:
        id: name without suffix, e.g. ``JPCLN001``.
        image: file of the radiograph; None where the data set does not hold it.
        size: (width, height) of the frame that `landmarks` refer to: the image's, else (1024, 1024).
        landmarks: organ -> (N, 2) float64, (x, y) in pixels of that frame; empty where there are none.
        masks: organ -> file; organs may share one file, see `mask_values`. A mask may have another size than
            the image, but shows the same field of view.
        mask_values: organ -> grey value of the organ in its file; others are any value above 0.
        split: ``"train"``, ``"val"``, ``"test"``, or None where no list names the case.
        patient: cases of one patient share it; the case's id where the data set has one image per patient.
        spacing_mm: (x, y) millimetres per pixel of `size`, where the data set states it.
        metadata: plain JSON values; always ``dataset``; where known ``sex`` (M or F), ``age``, ``view``.
        origin: where the split comes from.
    """

    id: str
    image: Path | None
    size: tuple[int, int]
    landmarks: Mapping[str, np.ndarray]
    masks: Mapping[str, Path]
    split: str | None
    patient: str
    spacing_mm: tuple[float, float] | None = None
    mask_values: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None

    def read_image(self) -> "Image":
        """Read the radiograph, bone white.

        Raises:
            DataError: the case has no image.
            ImageError: the file is damaged.
        """
        from anatozoo.io.images import read_image

        if self.image is None:
            raise DataError(f"case {self.id} has no image; choose cases whose `image` is not None.")
        if self.image.suffix.lower() == ".img":
            image = read_image(read_jsrt_img(self.image), spacing_mm=self.spacing_mm)
            return replace(image, name=self.id, source=str(self.image))
        return read_image(self.image, spacing_mm=self.spacing_mm)

    def read_mask(self, organ: str) -> np.ndarray:
        """Read one organ's mask: (H, W) bool.

        Raises:
            DataError: the case has no mask of this organ, its file cannot be read, or has soft edges.
        """
        if organ not in self.masks:
            raise DataError(
                f"case {self.id} has no mask of {organ}; it has {', '.join(self.masks) or 'none'}."
            )
        with opened(self.masks[organ], "mask") as file:
            values = np.asarray(file if organ in self.mask_values else file.convert("L"))
        if organ in self.mask_values:
            return values == self.mask_values[organ]
        return one_organ(values, repr(str(self.masks[organ])), organ)


def read_jsrt_img(path: str | Path) -> np.ndarray:
    """Read a radiograph as JSRT distributes it: headerless 2048 x 2048 big-endian uint16, 12 bits, inverted.

    Returns:
        (2048, 2048) float32 in 0..4095, bone white.

    Raises:
        ImageError: the file has another size, or values above 4095.
    """
    path = Path(path)
    data = read_bytes(path)
    expected = JSRT_SIDE * JSRT_SIDE * 2
    if len(data) != expected:
        raise ImageError(
            f"{path}: {len(data)} bytes, but a JSRT .IMG file has {expected}; download it again."
        )
    raw = np.frombuffer(data, dtype=">u2").reshape(JSRT_SIDE, JSRT_SIDE)
    if raw.max() > 4095:
        raise ImageError(
            f"{path}: holds {raw.max()}, but JSRT .IMG files have 12 bits (at most 4095), big-endian; "
            "was the file converted?"
        )
    return (4095 - raw.astype(np.int32)).astype(np.float32)


def index_chest(
    root: str | Path, layout: str = "auto", split: str | None = None, *, found: Found | None = None
) -> list[ChestCase]:
    """Find the cases of the public chest data sets below a folder.

    Args:
        root: folder of one data set, or one that holds several; looked through five levels deep.
        layout: which cases to list:

            * ``"jsrt"``: every JSRT case. Images ``JPCLN001.IMG`` anywhere, or ``.png`` in `root` or a folder
              ``images``; masks ``masks/ORGAN/`` or SCR's ``fold1/masks/left lung/*.gif``; splits as
              `anatozoo.io.splits` finds them. Landmarks of the two layouts below are added where
              they are found.
            * ``"landmarks"``: every file of ``landmarks/{RL,LL,H,RCLA,LCLA}/NAME.npy``; images of that name
              in a folder ``images``, or JSRT's.
            * ``"hybridgnet"``: ``{Train,Val,Test}/landmarks/NAME.npy`` with all organs in one vector.
            * ``"covid"``: ``metadata.csv`` with ``images/`` and ``masks/`` (1 = the patient's right lung,
              2 = left; both include what lies behind the heart), split by lists, else by patient.
            * ``"auto"``: all that are there.
        split: keep only the cases of this split.
        found: what `anatozoo.io.chest_folders.scan` finds below `root`, if it is known already.

    Returns:
        Cases sorted by id. A case whose image or annotation is absent is listed all the same, with ``None``
        or empty fields: `missing_pairs` names them.

    Raises:
        DataError: nothing of the layout is there, files contradict one another, or the split is empty. The
            message says what was looked for and what was found.
    """
    root = Path(root)
    if layout not in LAYOUTS:
        raise DataError(f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder; --root or data.root names the folder with the downloaded data."
        )
    found = scan(root) if found is None else found
    names = {
        "jsrt": {n for n in (*found.images, *found.masks, *found.landmarks, *found.listed) if is_jsrt(n)},
        "landmarks": found.separate,
        "hybridgnet": found.vectors,
        "covid": set(),
    }
    wanted = set().union(*names.values()) if layout == "auto" else names[layout]
    assigned = find_splits(root, {name: (name,) for name in wanted}, tables=found.splits) if wanted else None
    cases = _in_splits([_landmark_case(name, found) for name in wanted], assigned)
    if layout in ("auto", "covid") and found.covid:
        cases += _covid_cases(root, found)
    check_subjects((case.patient, case.split) for case in cases)
    if not cases:
        raise DataError(f"{root}: nothing of layout {layout!r}. {found.describe()}")
    cases.sort(key=lambda case: case.id)
    if split is None:
        return cases
    chosen = [case for case in cases if case.split == split]
    if not chosen:
        known = sorted({case.split for case in cases if case.split})
        raise DataError(
            f"{root}: none of the {len(cases)} cases of layout {layout!r} is in split {split!r}; the splits "
            f"here are {', '.join(known) or 'none: put lists into splits/train.txt, val.txt, test.txt'}."
        )
    return chosen


def missing_pairs(cases: Iterable[ChestCase]) -> dict[str, list[str]]:
    """Names of the incomplete cases: ``image``, ``annotation`` (no landmarks, no masks) and ``split``."""
    lacking: dict[str, list[str]] = {"image": [], "annotation": [], "split": []}
    for case in cases:
        if case.image is None:
            lacking["image"].append(case.id)
        if not case.landmarks and not case.masks:
            lacking["annotation"].append(case.id)
        if case.split is None:
            lacking["split"].append(case.id)
    return lacking


def _image_size(path: Path) -> tuple[int, int]:
    if path.suffix.lower() == ".img":
        return JSRT_SIDE, JSRT_SIDE
    with opened(path, "image") as file:
        return file.size


def _landmark_case(name: str, found: Found) -> ChestCase:
    image = found.images.get(name)
    if name in found.doubles:
        raise DataError(f"{image} and {found.doubles[name]} are both called {name}; keep one of them.")
    size = _image_size(image) if image is not None else (FRAME, FRAME)
    # JSRT's radiographs are square and were only resized; the other centres' were cropped and padded too, and
    # what was cut is not published.
    if size[0] != size[1] or (size[0] != FRAME and not is_jsrt(name)):
        raise DataError(
            f"{image}: {size[0]} x {size[1]} pixels, but its landmarks refer to the {FRAME} x {FRAME} "
            "preprocessed image (black border cropped, padded to a square, resized); store that one here."
        )
    scale = size[0] / FRAME
    points, masks = found.landmarks.get(name, {}), found.masks.get(name, {})
    spacing = JSRT_SPACING_MM * JSRT_SIDE / size[0] if is_jsrt(name) else None
    return ChestCase(
        id=name,
        image=image,
        size=size,
        landmarks={organ: (points[organ] + 0.5) * scale - 0.5 for organ in CHEST_ORGANS if organ in points},
        masks={organ: masks[organ] for organ in CHEST_ORGANS if organ in masks},
        split=None,
        patient=name,
        spacing_mm=None if spacing is None else (spacing, spacing),
        metadata={"dataset": "JSRT" if is_jsrt(name) else "unknown"} | found.clinical.get(name, {}),
    )


def _covid_cases(root: Path, found: Found) -> list[ChestCase]:
    cases = []
    for row in found.covid:
        image = row.image if row.image.is_file() else None
        masks = dict.fromkeys(COVID_LABELS, row.mask) if row.mask.is_file() else {}
        cases.append(
            ChestCase(
                id=row.image.stem,
                image=image,
                size=(FRAME, FRAME) if image is None else _image_size(image),
                landmarks={},
                masks=masks,
                mask_values=COVID_LABELS if masks else {},
                split=None,
                patient=row.patient,
                metadata={"dataset": "covid-cxr"} | row.metadata,
            )
        )
    names = {case.id: (case.id, case.patient) for case in cases}
    listed = find_splits(root, names, tables=found.splits)
    # No list of splits is published with these data, and those of other data sets may lie beside them.
    return deal_cases(root, cases, found.tables) if listed is None else _in_splits(cases, listed)


def deal_cases(root: Path, cases: Sequence[ChestCase], tables: Tables | None = None) -> list[ChestCase]:
    """Cases that no list names, dealt to 70 % train and 30 % val by patient.

    Args:
        root: the folder of the data.
        cases: the cases.
        tables: the lists in and below `root`, if they are known already.
    """
    subjects = {case.id: case.patient for case in cases}
    return _in_splits(cases, dealt(root, subjects, COVID_FRACTIONS, tables=tables))


def _in_splits(cases: Sequence[ChestCase], assigned: Assigned | None) -> list[ChestCase]:
    if assigned is None:
        return list(cases)
    return [replace(case, split=assigned.splits.get(case.id), origin=assigned.origin) for case in cases]
