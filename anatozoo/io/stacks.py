"""Volumes and stacks of slices as users have them: files, DICOM series, arrays, SimpleITK images."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from anatozoo.errors import ImageError
from anatozoo.io.grid import Grid, GridImage, name_of
from anatozoo.io.orientation import Orientation, coarsest_axis
from anatozoo.io.raw import read_raw_volume

MIN_SIDE = 16
"""Pixels that a slice needs along each axis."""


def read_stack(
    x: Any, *, spacing_mm: float | Sequence[float] | None = None, slices: bool = True
) -> GridImage:
    """Read a volume with its place in space.

    Args:
        x: path to NIfTI, MetaImage or NRRD; folder of one DICOM series, or a DICOM file; SimpleITK image;
            array or tensor (D, H, W), or (H, W) for a single slice, which is flagged ``"single_slice"``; or
            a `GridImage`.
        spacing_mm: one number or (x, y, z), in place of what the source says.
        slices: whether it is a stack of slices. They come first, unless spacing or directions tell across
            which axis they lie.

    Raises:
        ImageError: the source cannot be read, is a 4-D cine or in colour, seems to have its axes in another
            order, of which nothing tells more, is constant, not finite or too small.
        GeometryError: `spacing_mm` is not positive.
    """
    image = x if isinstance(x, GridImage) else _read(x)
    if image.grid.dims != 3:
        raise ImageError(f"{image.name!r} is {image.grid.dims}-D, but a volume (D, H, W) is needed.")
    if spacing_mm is not None:
        given = (float(spacing_mm),) * 3 if isinstance(spacing_mm, int | float) else tuple(spacing_mm)
        image = replace(image, grid=replace(image.grid, spacing_mm=given))
    _check(image, slices)
    return image


def _read(x: Any) -> GridImage:
    source = os.fsdecode(x) if isinstance(x, str | os.PathLike) else None
    what, values, grid, flags = read_raw_volume(x)
    values = np.asarray(values)
    if values.dtype.kind not in "uif":
        raise ImageError(f"{what} holds values of type {values.dtype}; intensities are real numbers.")
    if values.ndim == 4:
        raise ImageError(
            f"{what} is 4-D, {values.shape}: a cine or a series of volumes. Give one volume, such as the "
            "frame of end-diastole (of an array x with time first, x[t])."
        )
    if values.ndim == 2:
        values, flags = values[None], (*flags, "single_slice")
        # How far the next slice would be is unknown, and so is any volume.
        grid = None
    if values.ndim != 3:
        raise ImageError(f"{what} is {values.ndim}-D, but a volume (D, H, W) is needed.")
    pixels = np.ascontiguousarray(values, dtype=np.float32)
    where = grid if grid is not None else Grid(values.shape[::-1])
    return GridImage(pixels, where, name_of(source), source, (*flags, *where.remarks))


def _check(image: GridImage, slices: bool) -> None:
    what = repr(image.source) if image.source else "the volume"
    low, high = float(image.pixels.min()), float(image.pixels.max())
    if not np.isfinite(high - low):
        raise ImageError(f"{what} holds NaN or infinity; replace them by the value of the background.")
    if low == high:
        raise ImageError(f"{what}: every voxel has the value {low:g}; a constant image shows nothing.")
    turn = (Orientation.of_slices if slices else Orientation.to_patient)(image.grid)
    width, height, depth = turn.size(image.grid.size)
    # A stack has fewer slices than a slice has rows and columns, unless its spacings say otherwise.
    if slices and coarsest_axis(image.grid) is None and depth > 2 * min(height, width):
        raise ImageError(
            f"{what} has the shape {image.pixels.shape}, in which the slices do not come first; give "
            "(D, H, W), of an array x with slices last numpy.moveaxis(x, -1, 0)."
        )
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"{what} has slices of {width} x {height} pixels; {MIN_SIDE} a side are needed.")
