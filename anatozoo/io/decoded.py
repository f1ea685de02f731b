"""What every decoder hands over, and the checks that all of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ImageError
from anatozoo.io.dicom_source import DicomSource
from anatozoo.io.limits import MAX_PIXELS, MAX_SIDE

Metadata = dict[str, str | float | int | bool | None]

MIN_SIDE = 16
MAX_ASPECT = 20
_SQUARE, _LARGEST_PIXEL_ASPECT = 1e-3, 4.0
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Decoded:
    """One grey plane as stored, before polarity and finiteness are settled.

    Attributes:
        pixels: ``(H, W)``, any real dtype.
        spacing_mm: ``(x, y)``, ``None`` where unknown.
        metadata: JSON values.
        flags: remarks on the input.
        inverted: the source says that air is bright.
        background: bool ``(H, W)``, pixels that the source calls padding.
        aspect: height over width of a pixel, where the source states no spacing.
        dicom: the DICOM instance that it was read from.
    """

    pixels: npt.NDArray[Any]
    spacing_mm: tuple[float, float] | None = None
    metadata: Metadata = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    inverted: bool = False
    background: npt.NDArray[np.bool_] | None = None
    aspect: float = 1.0
    dicom: DicomSource | None = None


def check_size(width: int, height: int, label: str) -> None:
    """Refuse sizes that no X-ray has; called on headers too, before anything is decoded.

    Raises:
        ImageError: a side is under 16 or over 16,384 pixels, the whole over 2**26, or one side over 20 times
            the other.
    """
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{label} is {width} x {height} pixels; an X-ray needs at least {MIN_SIDE} on each side."
        )
    check_largest(width, height, label)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{label} is {width} x {height} pixels; an X-ray is not over {MAX_ASPECT} times as long as "
            "wide. Crop it, or check which axis is which."
        )


def check_largest(width: int, height: int, label: str) -> None:
    """Refuse sizes that no radiograph or mask has, and that would take too much memory.

    Raises:
        ImageError: a side is over 16,384 pixels, or the whole over 2**26.
    """
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{label} is {width} x {height} pixels, over the limit of {MAX_SIDE} a side or {MAX_PIXELS} "
            "(2**26) in all; shrink it first."
        )


def grey_plane(array: npt.NDArray[Any], label: str) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Reduce ``(H, W)`` or ``(H, W, 1|2|3|4)`` to one plane ``(H, W)``; two and four include alpha, dropped.

    Returns:
        the plane, and ``("colour",)`` if the channels differ.

    Raises:
        ImageError: the values are not real numbers, or a mask.
    """
    if array.dtype.kind == "b":
        raise ImageError(f"{label} holds only true and false; that is a mask, not an X-ray.")
    if array.dtype.kind not in "uif":
        raise ImageError(f"{label} holds values of type {array.dtype}; real numbers are needed.")
    if array.ndim == 2:
        return array, ()
    first = array[..., 0]
    if array.shape[2] < 3 or all(np.array_equal(first, array[..., k]) for k in (1, 2)):
        return first, ()
    return array[..., :3].astype(np.float32) @ _LUMINANCE, ("colour",)


def valid_spacing(xy: Sequence[Any] | None) -> tuple[float, float] | None:
    """Give ``(x, y)`` in mm if both are positive finite numbers, else ``None``: 1 mm is never assumed."""
    try:
        x, y = (float(value) for value in xy) if xy is not None else (0.0, 0.0)
    except (TypeError, ValueError):
        return None
    return (x, y) if x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y) else None


def height_over_width(spacing_mm: Sequence[float]) -> float:
    """Height over width of a pixel of this spacing ``(x, y)``, which may be in any unit.

    1 where they differ by no more than rounding (0.1 %), or by a factor over 4, which no radiograph has.
    """
    ratio = spacing_mm[1] / spacing_mm[0]
    if abs(ratio - 1) <= _SQUARE or not 1 / _LARGEST_PIXEL_ASPECT <= ratio <= _LARGEST_PIXEL_ASPECT:
        return 1.0
    return ratio
