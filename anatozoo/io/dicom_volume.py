"""Volumes in DICOM: a folder with the slices of one series, or one file of one or more slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from anatozoo.errors import ImageError
from anatozoo.io.dicom import header_of, read_dataset, stored_pixels
from anatozoo.io.dicom_bits import mend_bits
from anatozoo.io.dicom_file import read_dicom
from anatozoo.io.dicom_grey import is_palette, modality_values, polarity_of, stored_numbers
from anatozoo.io.dicom_header import frames_of, values_of
from anatozoo.io.dicom_source import DicomFrame, DicomSource, source_of, uid_of
from anatozoo.io.dicom_spacing import spacing_of
from anatozoo.io.files import dicom_files, is_dicom
from anatozoo.io.grid import Grid
from anatozoo.io.limits import MAX_VOXELS
from anatozoo.io.quiet import quiet

_TAGS = ["SeriesInstanceUID", "SeriesDescription", "Rows", "Columns", "NumberOfFrames"]
_DESCRIPTION = (
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
_SAME_PLACE_MM = 1e-2
_UNEVEN = 0.1
"""By what share of their distance slices may differ from it: scanners round, a missing slice doubles."""
_OFF_AXIS = 1e-3


@dataclass(frozen=True)
class _Slice:
    """One slice: where it was read, its pixels (H, W) in the units of the file, and its place if known."""

    header: Dataset
    frame: DicomFrame
    pixels: npt.NDArray[Any]
    origin: npt.NDArray[np.float64] | None
    axes: npt.NDArray[np.float64] | None  # (2, 3): direction of x and y
    spacing: tuple[float, float] | None  # (x, y)


@dataclass(frozen=True)
class _Stored:
    """One file: its path, its header, its frames (N, H, W) as stored, its name for messages, and flags."""

    path: Path
    header: Dataset
    words: npt.NDArray[Any]
    label: str
    flags: tuple[str, ...]

    @property
    def description(self) -> Any:
        """What says how words become numbers; files that share it are read by the same rule."""
        attributes = tuple(str(self.header.get(keyword)) for keyword in _DESCRIPTION)
        return (self.words.dtype.str, self.words.shape[1:], *attributes)


def read_dicom_volume(
    path: Path,
) -> tuple[str, npt.NDArray[np.float32], Grid | None, tuple[str, ...], DicomSource]:
    """Read a volume from DICOM, its slices in the order of their places.

    Args:
        path: folder with the files of one series, of which other files and folders are passed over, or one
            file, with one slice or with several.

    Returns:
        What it is, for messages; (D, H, W) after the Modality LUT, MONOCHROME1 turned round; its grid, None
        where the files do not say how large their pixels are, or of a single slice; flags, see
        `anatozoo.io.dicom_grey`; and what was read for each slice.

    Raises:
        ImageError: no DICOM or several series; files that are damaged, in colour or of different sizes;
            several slices at one place, as in a cine, or at unknown places; slices that are not parallel or
            not evenly apart; more than 2**27 voxels.
    """
    label = repr(str(path))
    files = dicom_files(path) if path.is_dir() else [path]
    with quiet():
        # pydicom warns of every breach of the standard; what matters here is checked below.
        _check_one_series(files, label)
        with header_of(label):
            slices, flags = _slices([_stored(file) for file in files])
    if len({each.pixels.shape for each in slices}) > 1:
        raise ImageError(f"{label} holds slices of different sizes; give the files of exactly one volume.")
    slices, grid = _in_order(slices, label)
    pixels = np.stack([each.pixels for each in slices]).astype(np.float32, copy=False)
    return label, pixels, grid, flags, source_of([(each.header, each.frame) for each in slices])


def _check_one_series(files: Sequence[Path], label: str) -> None:
    """Refuse folders of no series, of several, or of too many voxels, before pixels are decoded."""
    series: dict[str, list[str]] = {}
    voxels = 0
    for file in files:
        if not is_dicom(file):
            raise ImageError(f"{str(file)!r} is empty or no DICOM; copy or export it again, or take it away.")
        try:
            header = read_dicom(file, stop_before_pixels=True, specific_tags=_TAGS)
            text = str(header.get("SeriesDescription") or "without a description")
            series.setdefault(str(header.get("SeriesInstanceUID")), []).append(text)
            voxels += int(header.get("Rows") or 0) * int(header.get("Columns") or 0) * frames_of(header)
        except ImageError:
            raise
        except Exception as error:  # a hostile file makes the parser fail in any way it likes
            raise ImageError(
                f"{str(file)!r} is damaged or truncated DICOM; copy or export it again."
            ) from error
    if len(series) != 1:
        each = "; ".join(f"{texts[0]} ({len(texts)} files)" for texts in series.values())
        raise ImageError(
            f"{label} holds {len(series)} DICOM series{': ' + each if each else ''}; give a folder with the "
            "slices of exactly one volume."
        )
    if voxels > MAX_VOXELS:
        raise ImageError(f"{label} has over {MAX_VOXELS} (2**27) voxels; shrink it first.")


def _stored(file: Path) -> _Stored:
    """The frames of a file as stored."""
    label = repr(str(file))
    dataset = read_dataset(file, label)
    flags = mend_bits(dataset)
    words = stored_pixels(dataset, label)
    count = frames_of(dataset)
    colours = is_palette(dataset) or int(dataset.get("SamplesPerPixel") or 1) != 1
    if colours or words.ndim != 2 + (count > 1):
        raise ImageError(f"{label} is in colour; an image with one value per pixel is needed.")
    return _Stored(file, dataset, words if count > 1 else words[None], label, flags)


def _slices(files: Sequence[_Stored]) -> tuple[list[_Slice], tuple[str, ...]]:
    """All slices with their values, and flags; files that are described alike are judged as one image."""
    alike: dict[Any, list[_Stored]] = {}
    for file in files:
        alike.setdefault(file.description, []).append(file)
    slices, hidden, flags = [], [], [flag for file in files for flag in file.flags]
    for group in alike.values():
        words = np.concatenate([file.words for file in group])
        numbers, background, found = stored_numbers(words, group[0].header)
        flags += found
        frames = [(file, number) for file in group for number in range(len(file.words))]
        for at, (file, number) in enumerate(frames):
            each, found = _slice_of(file, number, numbers[at])
            slices.append(each)
            hidden.append(None if background is None else background[at])
            flags += found
    return _without_padding(slices, hidden), tuple(dict.fromkeys(flags))


def _without_padding(slices: list[_Slice], hidden: Sequence[npt.NDArray[np.bool_] | None]) -> list[_Slice]:
    """Slices whose padding, which is not tissue, has the darkest value of the rest of them all."""
    if all(padding is None for padding in hidden):
        return slices
    kept = [each.pixels if p is None else each.pixels[~p] for each, p in zip(slices, hidden, strict=True)]
    low = min(values.min() for values in kept if values.size)
    return [
        each if padding is None else replace(each, pixels=np.where(padding, low, each.pixels))
        for each, padding in zip(slices, hidden, strict=True)
    ]


def _slice_of(file: _Stored, number: int, numbers: npt.NDArray[Any]) -> tuple[_Slice, tuple[str, ...]]:
    dataset = file.header
    transformation = group_of(dataset, number, "PixelValueTransformationSequence")
    values, flags = modality_values(numbers, transformation, file.label, dataset)
    inverted, polarity_flags = polarity_of(dataset)
    if inverted:
        values = -values.astype(np.float32)
    place = group_of(dataset, number, "PlanePositionSequence")
    plane = group_of(dataset, number, "PlaneOrientationSequence")
    measures = group_of(dataset, number, "PixelMeasuresSequence")
    axes = numbers_in(plane, "ImageOrientationPatient", 6)
    found = _Slice(
        dataset,
        DicomFrame(file.path, uid_of(dataset, "SOPInstanceUID"), number + 1),
        values,
        numbers_in(place, "ImagePositionPatient", 3),
        None if axes is None else axes.reshape(2, 3),
        spacing_of(measures),
    )
    return found, (*flags, *polarity_flags)


def _in_order(slices: list[_Slice], label: str) -> tuple[list[_Slice], Grid | None]:
    """Slices from the first to the last along their normal, and the grid where all is known."""
    first = slices[0]
    if len(slices) == 1:
        return slices, None
    if any(each.origin is None or each.axes is None for each in slices):
        raise ImageError(
            f"{label} does not say where its {len(slices)} slices lie, so that it may be a cine; give its "
            "array (D, H, W) with spacing_mm."
        )
    axes = np.stack([each.axes for each in slices])  # type: ignore[misc]  # all are known
    if np.abs(axes - axes[0]).max() > _OFF_AXIS:
        raise ImageError(f"{label} holds slices that are not parallel; give the files of exactly one volume.")
    normal = np.cross(axes[0, 0], axes[0, 1])
    along = np.stack([each.origin for each in slices]) @ normal  # type: ignore[misc]
    order = np.argsort(along, kind="stable")
    slices, along = [slices[at] for at in order], along[order]
    gaps = np.diff(along)
    if gaps.min() < _SAME_PLACE_MM:
        raise ImageError(
            f"{label} holds {len(slices)} slices at {1 + int((gaps >= _SAME_PLACE_MM).sum())} places: a cine "
            "or several volumes. Give the files of one volume, such as those of one heart phase."
        )
    gap = float(np.median(gaps))
    if np.abs(gaps - gap).max() > _UNEVEN * gap:
        raise ImageError(
            f"{label} holds slices that are {gaps.min():.3g} to {gaps.max():.3g} mm apart: one is missing, "
            "or there are several volumes. Give all files of one volume, or its array with spacing_mm."
        )
    if first.spacing is None or any(each.spacing != first.spacing for each in slices):
        return slices, None
    height, width = first.pixels.shape
    spacing = (*first.spacing, float(along[-1] - along[0]) / (len(slices) - 1))
    directions = np.stack([*axes[0], normal], axis=1)
    origin: Any = slices[0].origin
    return slices, Grid((width, height, len(slices)), spacing, tuple(origin), tuple(directions.ravel()))


def group_of(dataset: Dataset, frame: int, name: str) -> Dataset:
    """What holds a group of attributes of a frame: its functional group, that of all, or the data set."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (*frames[frame : frame + 1], *shared[:1]):
        if sequence := groups.get(name):
            found: Dataset = sequence[0]
            return found
    return dataset


def numbers_in(group: Dataset, keyword: str, count: int) -> npt.NDArray[np.float64] | None:
    """The numbers of an attribute; None where they are not so many finite ones."""
    try:
        values = np.asarray([float(value) for value in values_of(group, keyword)])
    except ValueError:
        return None
    return values if len(values) == count and np.isfinite(values).all() else None
