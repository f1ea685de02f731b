"""Read images, volumes and label maps as users have them, with their place in space."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ImageError
from anatozoo.io.files import stem_of
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.memory import on_disk, without_files
from anatozoo.io.orientation import Orientation, coarsest_axis
from anatozoo.io.raw import place_2d, read_raw, read_raw_volume

MIN_VOLUME_SIDE = 4
MIN_SLICE_SIDE = 16
"""Pixels that a slice of a stack needs along each axis."""


def read_grid_image(
    x: Any,
    dims: int,
    *,
    spacing_mm: float | Sequence[float] | None = None,
    invert: bool | None = None,
    allow_any_modality: bool = False,
) -> GridImage:
    """Read a 2-D radiograph or a 3-D volume with its place in space.

    Args:
        x: in 2-D whatever `anatozoo.io.images.read_image` takes; in 3-D a path to NIfTI, MetaImage or NRRD,
            the folder of a DICOM series, bytes or a binary file object with one of these files, a pydicom
            data set or the list of those of one series, a SimpleITK image, an array or tensor (D, H, W); or a
            `GridImage`.
        dims: 2 or 3, what is wanted.
        spacing_mm: one number or (x, y[, z]), in place of what the source says.
        invert: as for `read_image`; 2-D only.
        allow_any_modality: as for `read_image`; 2-D only.

    Raises:
        ImageError: the input cannot be read, has another number of dimensions, is constant or not finite.
        GeometryError: `spacing_mm` is not positive.
    """
    if isinstance(x, GridImage):
        image = _of_dims(x, dims)
        return image if spacing_mm is None else image.with_spacing(spacing_mm)
    if dims == 3:
        if invert is not None:
            raise ImageError("invert is for radiographs; turn a volume's intensities round before giving it.")
        image = _read_volume(x)
        if min(image.grid.size) < MIN_VOLUME_SIDE:
            raise ImageError(
                f"{_label(image)} has {image.grid.size} voxels; every axis needs {MIN_VOLUME_SIDE}."
            )
        _check_values(image)
        return image if spacing_mm is None else image.with_spacing(spacing_mm)
    with on_disk(x) as (path, name):
        if name is not None:
            image = read_grid_image(
                path, dims, spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality
            )
            return replace(image, name=name, source=None, dicom=without_files(image.dicom))
    # Volumes need nothing of what reads radiographs.
    from anatozoo.io.images import read_image

    given: Any = (spacing_mm,) * 2 if isinstance(spacing_mm, int | float) else spacing_mm
    flat = read_image(x, spacing_mm=given, invert=invert, allow_any_modality=allow_any_modality)
    origin, direction = place_2d(x)
    grid = Grid(flat.size, flat.spacing_mm, origin, direction, aspect=flat.aspect)
    return GridImage(flat.pixels, grid, flat.name, flat.source, flat.flags, flat.black_white, flat.dicom)


def read_stack(
    x: Any, *, spacing_mm: float | Sequence[float] | None = None, slices: bool = True
) -> GridImage:
    """Read a volume with its place in space.

    Args:
        x: path to NIfTI, MetaImage or NRRD; folder of one DICOM series, or a DICOM file; bytes or a binary
            file object with one of these files; pydicom data set, or a list of those of one series; SimpleITK
            image; array or tensor (D, H, W), or (H, W) for a single slice, which is flagged
            ``"single_slice"``; or a `GridImage`.
        spacing_mm: one number or (x, y, z), in place of what the source says.
        slices: whether it is a stack of slices. They come first, unless spacing or directions tell across
            which axis they lie.

    Raises:
        ImageError: the source cannot be read, is a 4-D cine or in colour, seems to have its axes in another
            order, of which nothing tells more, is constant, not finite or too small.
        GeometryError: `spacing_mm` is not positive.
    """
    image = _of_dims(x, 3) if isinstance(x, GridImage) else _read_volume(x, one_slice=True)
    if spacing_mm is not None:
        image = image.with_spacing(spacing_mm)
    _check_values(image)
    what = _label(image)
    turn = (Orientation.of_slices if slices else Orientation.to_patient)(image.grid)
    width, height, depth = turn.size(image.grid.size)
    # A stack has fewer slices than a slice has rows and columns, unless its spacings say otherwise.
    if slices and coarsest_axis(image.grid) is None and depth > 2 * min(height, width):
        raise ImageError(
            f"{what} has the shape {image.pixels.shape}, in which the slices do not come first; give "
            "(D, H, W), of an array x with slices last numpy.moveaxis(x, -1, 0)."
        )
    if min(height, width) < MIN_SLICE_SIDE:
        raise ImageError(
            f"{what} has slices of {width} x {height} pixels; {MIN_SLICE_SIDE} a side are needed."
        )
    return image


def read_labels(x: Any, dims: int) -> tuple[npt.NDArray[Any], Grid]:
    """Read a label map, values as stored: whole numbers, 0 for background.

    Args:
        x: a path to a PNG or other picture (2-D; palette pictures give their indices), NIfTI, MetaImage or
            NRRD; bytes or a binary file object with one of these; or an array, tensor, PIL or SimpleITK image
            of integers or booleans.
        dims: 2 or 3, what is wanted.

    Returns:
        (H, W) or (D, H, W), booleans or integers, and its grid.

    Raises:
        ImageError: it cannot be read, has another number of dimensions, or holds fractions.
    """
    name, values, grid = read_raw(x)
    values = np.asarray(values)
    if values.ndim != dims:
        raise ImageError(_dims_words(f"the label map {name}", values, dims, f"{dims}-D is needed"))
    if values.dtype.kind == "f":
        # Label maps of some tools are stored as floating point.
        if not np.array_equal(values, np.floor(values)) or np.abs(values).max(initial=0) >= 2**31:
            raise ImageError(
                f"the label map {name} holds fractions, NaN or huge numbers; labels are whole numbers."
            )
        values = values.astype(np.int32)
    if values.dtype.kind not in "biu":
        raise ImageError(f"the label map {name} holds {values.dtype}; labels are whole numbers.")
    return values, grid if grid is not None else Grid(values.shape[::-1])


def _of_dims(image: GridImage, dims: int) -> GridImage:
    if image.grid.dims != dims:
        raise ImageError(f"{image.name!r} is {image.grid.dims}-D, but {dims}-D is needed.")
    return image


def _read_volume(x: Any, *, one_slice: bool = False) -> GridImage:
    """A volume, values as stored; a single slice (H, W) as a volume of one, where that may be."""
    with on_disk(x, series=True) as (path, called):
        if called is not None:
            image = _read_volume(path, one_slice=one_slice)
            return replace(image, name=called, source=None, dicom=without_files(image.dicom))
    name, values, grid, flags, dicom = read_raw_volume(x)
    values = np.asarray(values)
    if values.ndim == 2 and one_slice:
        # How far the next slice would be is unknown, and so is any volume.
        values, grid, flags = values[None], None, (*flags, "single_slice")
    if values.ndim != 3:
        raise ImageError(_dims_words(name, values, 3, "this model takes 3-D volumes (D, H, W)"))
    if values.dtype.kind not in "uif":
        raise ImageError(f"{name} holds values of type {values.dtype}; intensities are real numbers.")
    source = os.fsdecode(x) if isinstance(x, str | os.PathLike) else None
    with np.errstate(over="ignore"):  # what single precision cannot hold is refused as infinity
        pixels = np.ascontiguousarray(values, dtype=np.float32)
    where = grid if grid is not None else Grid(values.shape[::-1])
    return GridImage(pixels, where, _name_of(source), source, (*flags, *where.remarks), dicom=dicom)


def _name_of(source: str | None) -> str:
    """What an image from this path is called."""
    if source is None:
        return "array"
    path = Path(source)
    # A folder is often named by a UID, of which nothing is a suffix.
    return Path(os.path.abspath(path)).name if path.is_dir() else stem_of(path)


def _label(image: GridImage) -> str:
    if image.source or image.name != "array":
        return repr(image.source or image.name)
    return "the volume"


def _dims_words(name: str, values: npt.NDArray[Any], dims: int, what: str) -> str:
    """What to say of another number of dimensions than is wanted."""
    words = f"{name} is {values.ndim}-D, but {what}."
    if values.ndim == dims + 1 == 4:
        words += (
            " Save one frame, phase or echo as a file of its own, as SimpleITK does by image[:, :, :, 0]; of "
            "an array x with time first, give x[t]."
        )
    return words


def _check_values(image: GridImage) -> None:
    what = _label(image)
    low, high = float(image.pixels.min()), float(image.pixels.max())
    if not math.isfinite(high - low):
        raise ImageError(
            f"{what} holds NaN, infinity or numbers beyond 3e38; replace them by the value of the background."
        )
    if low == high:
        raise ImageError(f"{what}: every voxel has the value {low:g}; a constant image shows nothing.")
