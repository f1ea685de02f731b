"""How stored grey values become a network's input in [0, 1]: one function for each way.

Which of them a network learned with is its setting ``intensity``.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, ImageError

Intensity = Literal["percentiles", "bits"]
"""``"percentiles"`` stretches what an image holds, ``"bits"`` divides by what its format can hold."""
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
_MEGAPIXEL, _PERCENTILE_SAMPLE = 2**20, 2**19
_FULL_SCALES = (1.0, 255.0, 4096.0, 65535.0)
"""White of fractions and of values of 8, 12 and 16 bits; of 12 bits as HybridGNet's authors have it."""
Range = tuple[float, float]


def check_intensity(intensity: str) -> None:
    """Refuse a way that there is not.

    Raises:
        ConfigError: it is unknown.
    """
    if intensity not in ("percentiles", "bits"):
        raise ConfigError(f"intensity={intensity!r} is unknown; choose percentiles or bits.")


def full_scale(low: float, high: float) -> Range:
    """What stands for black and white in stored values from `low` to `high`.

    0 and the first of 1, 255, 4,096 and 65,535 that holds them all; of values that none holds, such as
    negative ones, the two themselves.
    """
    white = next((top for top in _FULL_SCALES if low >= 0 and high <= top), None)
    return (low, high) if white is None else (0.0, white)


def to_unit_range(
    pixels: npt.ArrayLike, intensity: Intensity = "percentiles", black_white: Range | None = None
) -> npt.NDArray[np.float32]:
    """Bring intensities to [0, 1]; clip beyond.

    Args:
        pixels: ``(H, W)`` or ``(D, H, W)``, any real dtype, finite.
        intensity: ``"percentiles"``: percentiles 0.5 and 99.5 become 0 and 1, see `normalize_intensity`.
            ``"bits"``: black and white become 0 and 1, as in the code of HybridGNet and AC-RegNet, which
            divides 8-bit pictures by 255.
        black_white: for ``"bits"``; None finds them from the values by `full_scale`.

    Returns:
        float32 of the same shape.

    Raises:
        ImageError: the image is empty, constant or not finite.
        ConfigError: the way is unknown.
    """
    check_intensity(intensity)
    values = np.asarray(pixels)
    flat = values.reshape(len(values), -1) if values.ndim == 3 else values
    if intensity == "percentiles":
        return normalize_intensity(flat).reshape(values.shape)
    low, high = _extremes(flat)
    black, white = black_white or full_scale(low, high)
    stretched = (values.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    return np.clip(stretched, 0.0, 1.0, out=stretched)


def normalize_intensity(pixels: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Stretch intensities linearly so that percentiles 0.5 and 99.5 become 0 and 1; clip beyond.

    Invariant to scale and offset of the input. Percentiles of images over a megapixel are taken on a regular
    grid of pixels. Where the two percentiles coincide, as in images of few grey levels,
    minimum and maximum take their place.

    Args:
        pixels: ``(H, W)``, any real dtype, finite.

    Returns:
        ``(H, W)`` float32 in [0, 1].

    Raises:
        ImageError: the image is empty, constant or not finite.
    """
    values = np.asarray(pixels).astype(np.float32, copy=False)
    return stretch(values, *stretched_range(values))


def stretched_range(values: npt.NDArray[np.float32]) -> Range:
    """What `normalize_intensity` makes 0 and 1 of.

    Raises:
        ImageError: the image is empty, constant or not finite.
    """
    minimum, maximum = _extremes(values)
    step = math.ceil(math.sqrt(values.size / _PERCENTILE_SAMPLE)) if values.size > _MEGAPIXEL else 1
    low, high = _percentiles(values[::step, ::step], minimum, maximum)
    return (low, high) if high > low else (minimum, maximum)


def stretch(values: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.float32]:
    """Values so that `low` and `high` become 0 and 1, clipped beyond."""
    stretched = values - np.float32(low)
    stretched /= np.float32(high - low)
    return np.clip(stretched, 0.0, 1.0, out=stretched)


def _percentiles(values: npt.NDArray[np.float32], minimum: float, maximum: float) -> Range:
    """What `numpy.percentile` gives; of whole numbers by counting, which takes a tenth of the time."""
    counted = whole_levels(values, minimum, maximum)
    if counted is None:
        low, high = (float(p) for p in np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE)))
        return low, high
    below = counted[1].cumsum()
    at = (values.size - 1) * (np.array([LOW_PERCENTILE, HIGH_PERCENTILE]) / 100)
    before = np.floor(at)
    # The sorted values on both sides of each place, and numpy's way between them, to the last bit.
    first, second = (np.searchsorted(below, before + k, side="right") for k in (0, 1))
    share = at - before
    between = np.where(share < 0.5, first + (second - first) * share, second - (second - first) * (1 - share))
    return float(between[0]), float(between[1])


def whole_levels(
    values: npt.NDArray[np.float32], minimum: float, maximum: float
) -> tuple[npt.NDArray[np.uint8 | np.uint16], npt.NDArray[np.int64]] | None:
    """Whole numbers from 0 to 65,535 as such, and how many there are of each; None if there are others.

    Args:
        values: (H, W), up to 2**24 of them: the counts of more are not exact.
        minimum: the smallest one.
        maximum: the largest one.
    """
    if minimum < 0 or maximum > 65535 or values.size > 2**24:
        return None
    stored = np.ascontiguousarray(values.astype(np.uint8 if maximum <= 255 else np.uint16))
    if not np.array_equal(stored, values):
        return None
    size = int(maximum) + 1
    counts = cv2.calcHist([stored], [0], None, [size], [0, size])
    return stored, np.asarray(counts).ravel().astype(np.int64)


def _extremes(values: npt.NDArray[np.generic]) -> Range:
    if values.ndim != 2 or values.size == 0:
        raise ImageError(f"intensities have shape (H, W), not {values.shape}.")
    minimum, maximum = float(values.min()), float(values.max())
    if not math.isfinite(maximum - minimum):
        raise ImageError("intensities are not finite; replace NaN and infinity first.")
    if minimum == maximum:
        raise ImageError(f"every pixel has the value {minimum:g}; a constant image shows nothing.")
    return minimum, maximum


def intensity_range(pixels: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Percentiles 0.5 and 99.5, or where they coincide minimum and maximum.

    Args:
        pixels: of any shape, finite and not constant.
    """
    low, high = (float(p) for p in np.percentile(pixels, (LOW_PERCENTILE, HIGH_PERCENTILE)))
    return (low, high) if high > low else (float(pixels.min()), float(pixels.max()))
