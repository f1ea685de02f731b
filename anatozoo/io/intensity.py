"""How stored grey values become a network's input in [0, 1]: one function for each way.

Which of them a network learned with is its setting ``intensity``.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, ImageError

Intensity = Literal["percentiles", "bits"]
"""``"percentiles"`` stretches what an image holds, ``"bits"`` divides by what its format can hold."""
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
_MEGAPIXEL, _PERCENTILE_SAMPLE = 2**20, 2**19
_LEVELS = 2**16
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
    minimum, maximum = _extremes(values)
    step = math.ceil(math.sqrt(values.size / _PERCENTILE_SAMPLE)) if values.size > _MEGAPIXEL else 1
    low, high = _percentiles(values[::step, ::step], minimum, maximum)
    if high <= low:
        low, high = minimum, maximum
    stretched = values - np.float32(low)
    stretched /= np.float32(high - low)
    return np.clip(stretched, 0.0, 1.0, out=stretched)


def _percentiles(values: npt.NDArray[np.float32], minimum: float, maximum: float) -> Range:
    """Percentiles 0.5 and 99.5 as `numpy.percentile` gives them; minimum and maximum bound the values.

    Whole numbers, as files hold them, are counted instead of sorted, which takes a seventh of the time.
    """
    shares = np.array([LOW_PERCENTILE, HIGH_PERCENTILE]) / 100
    counts = _counts(values) if minimum >= 0 and maximum < _LEVELS else None
    if counts is None:
        low, high = np.percentile(values, 100 * shares)
        return float(low), float(high)
    places = (values.size - 1) * shares
    first = np.floor(places)
    up_to = counts.cumsum()
    below, above = (np.searchsorted(up_to, k, side="right").astype(float) for k in (first, np.ceil(places)))
    weight, gap = places - first, above - below
    low, high = np.where(weight < 0.5, below + gap * weight, above - gap * (1 - weight))
    return float(low), float(high)


def _counts(values: npt.NDArray[np.float32]) -> npt.NDArray[np.intp] | None:
    """How often each level of 16 bits is there; None of values between them."""
    import cv2

    levels = values.astype(np.uint16)
    if not np.array_equal(levels, values):
        return None
    # As floats, the counts are exact for so many pixels as percentiles are taken from.
    found: npt.NDArray[np.intp] = (
        cv2.calcHist([levels], [0], None, [_LEVELS], [0, _LEVELS]).ravel().astype(np.intp)
    )
    return found


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
