"""Read the files of an annotation: masks, label maps, landmarks and results, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import AnatozooError, DataError, GeometryError, ImageError
from anatozoo.io.annotation import Annotation
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import BACKGROUND, WHITE, LabelCodes, one_organ
from anatozoo.io.landmarks import Points, check_points, read_landmarks
from anatozoo.io.read import read_labels
from anatozoo.io.rle import ChexmaskRow
from anatozoo.io.untrusted import check_regular, read_json, read_npy

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
PICTURES = (".png", ".tif", ".tiff", ".bmp", ".gif")
LANDMARKS = (".npy", ".json", ".csv")
_MOST_VALUES = {2: 64, 3: 1024}
_FEWEST_POINTS = 3
_MOST_JSON_BYTES = 2**24
JPEG = (".jpg", ".jpeg")


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


def suffix_among(name: str, suffixes: Sequence[str]) -> str:
    """The end of a name that is one of the suffixes, in the name's spelling; empty where there is none."""
    found = next((s for s in suffixes if name.lower().endswith(s) and len(name) > len(s)), "")
    return name[len(name) - len(found) :]


def read_result(path: Path, mask: Path | None) -> Stored:
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
        labels, own = read_label_map(mask)
        if names is None:  # a registration's, which brings labels along and knows no names for them
            return without_names(labels, _known(own, result, path))
        masks = {organ: labels == value for organ, value in _label_values(names, path).items()}
        return Stored(_known(own, result, path), masks=masks)
    return Stored(_known(None, result, path), checked_contours(read_landmarks(path), path))


def _label_values(names: Any, path: Path) -> dict[str, int]:
    """Organ -> its value, as a result states them."""
    try:
        return {str(organ): int(value) for organ, value in names.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{str(path)!r}: its labels are not organs with whole numbers; write it again."
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
            f"{str(path)!r} states no size, or one that is not two or three numbers; write it again."
        ) from error


def without_names(labels: npt.NDArray[Any], grid: Grid | None) -> Stored:
    """A label map without names, of which one of 0 and 255 is a mask."""
    white = bool(labels.any()) and np.isin(labels, (0, WHITE)).all()
    return Stored(grid, labels=(labels == WHITE).astype(np.uint8) if white else labels, white=bool(white))


def by_codes(codes: LabelCodes, labels: npt.NDArray[Any], path: Path) -> dict[str, npt.NDArray[np.bool_]]:
    """Organ -> where it is in a label map; what is wrong is told of the file.

    Raises:
        DataError: a value has no name.
    """
    try:
        return codes.masks(labels)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from error


def read_organs(files: Mapping[str, Path], codes: LabelCodes | None = None) -> Stored:
    """One file for each organ."""
    landmarks: dict[str, Points] = {}
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    grid: Grid | None = None
    for organ, path in files.items():
        if suffix_among(path.name, LANDMARKS):
            landmarks[organ] = _read_contour(path, organ)
            continue
        coded = codes is not None and organ in codes.ranges
        labels, own = read_label_map(path, coded=coded)
        if grid is not None and (difference := grid.differs_from(own)):
            raise GeometryError(f"{str(path)!r} lies on another grid than the other organs: {difference}.")
        grid = own
        if coded and codes is not None:
            masks[organ] = by_codes(codes, labels, path)[organ]
        else:
            masks[organ] = one_organ(labels, repr(str(path)), organ)
    return Stored(grid, landmarks, masks)


def _read_contour(path: Path, organ: str) -> Points:
    if path.suffix.lower() != ".npy":
        found = read_landmarks(path)
        if len(found) != 1:
            raise DataError(f"{str(path)!r} marks {', '.join(found)}, but lies in the folder of {organ}.")
        return checked_contours({organ: next(iter(found.values()))}, path)[organ]
    points = read_npy(path)
    return checked_contours({organ: points.reshape(-1, 2) if points.ndim == 1 else points}, path)[organ]


def checked_contours(landmarks: Mapping[str, npt.ArrayLike], path: Path) -> dict[str, Points]:
    """Contours of at least three points.

    Raises:
        GeometryError: they are not points, or fewer.
    """
    try:
        checked = {organ: check_points(points, organ) for organ, points in landmarks.items()}
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    for organ, points in checked.items():
        if len(points) < _FEWEST_POINTS:
            raise GeometryError(f"{path}: {organ} has {len(points)} landmarks; a contour needs three.")
    return checked


def read_label_map(path: Path, *, coded: bool = False) -> tuple[npt.NDArray[Any], Grid]:
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
            "interpolation blurred, not a label map. Of a blurred mask, `anatozoo evaluate` and `anatozoo "
            f"landmarks` take the part that --labels names, as mask=128-255,{BACKGROUND}=0-127."
        )
    return labels.astype(np.uint8) if labels.dtype == bool else labels, grid


def _dimensions(path: Path) -> int:
    """2 or 3; pictures must hold one value per pixel."""
    if suffix_among(path.name, (*PICTURES, *JPEG)):
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
