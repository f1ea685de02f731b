"""The VOI LUT or window of a DICOM image, where it can be believed.

The rules and their thresholds are in the table of `anatozoo.io.dicom_grey`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from anatozoo.io.dicom_header import values_of
from anatozoo.io.dicom_tables import Table

IGNORED = "window_ignored"
_SAMPLE = 2**18
_DEPTH = 16
"""Bits of what a window shows, where the file does not say how many its values have."""
_PERCENTILES = (0.5, 99.5)
_MOST_CLIPPED = 0.5
"""A window that turns more than this share of the image into black or white ..."""
_LEAST_KEPT = 1 / 3
"""... and shows less than this share of the range that its values span, is left over from another image."""
_FLAT_SIGMOID = math.log(99) / 4
"""How many widths from its centre a sigmoid has come within a hundredth of black or white."""
# What reading a malformed attribute or table raises.
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, OverflowError)


@dataclass(frozen=True)
class Window:
    """A window of a known function, centre and width.

    Raises:
        ValueError: the function is unknown, or the width is not positive (LINEAR: is below 1).
    """

    function: str
    centre: float
    width: float

    def __post_init__(self) -> None:
        least = 1.0 if self.function == "LINEAR" else np.nextafter(0.0, 1.0)
        if self.function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            raise ValueError(f"VOI LUT function {self.function!r} is unknown.")
        if not (math.isfinite(self.centre) and least <= self.width < math.inf):
            raise ValueError(f"a window of {self.centre} and {self.width} is none.")

    @property
    def interval(self) -> tuple[float, float]:
        """The values between which the window shows differences."""
        if self.function == "LINEAR":
            middle, half = self.centre - 0.5, (self.width - 1) / 2
        elif self.function == "LINEAR_EXACT":
            middle, half = self.centre, self.width / 2
        else:
            middle, half = self.centre, self.width * _FLAT_SIGMOID
        return middle - half, middle + half

    def apply(self, values: npt.NDArray[Any], white: float) -> npt.NDArray[np.float32]:
        """The values as shown, float32, from 0 for black to `white`."""
        shown = values.astype(np.float32)
        if self.function == "SIGMOID":
            scaled = np.clip((shown - self.centre) * (-4 / self.width), -80, 80)
            return np.divide(np.float32(white), 1 + np.exp(scaled), dtype=np.float32)
        low, high = self.interval
        shown -= np.float32(low)
        shown *= np.float32(white / (high - low))
        return np.clip(shown, 0, np.float32(white), out=shown)


def shown_values(
    values: npt.NDArray[Any],
    header: Dataset,
    background: npt.NDArray[np.bool_] | None = None,
    *,
    is_little: bool = True,
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Apply the first VOI LUT, else the first window, where it is there and shows the image.

    Args:
        values: (H, W) after the Modality LUT.
        header: what holds the VOI LUT or window.
        background: padding, which nothing is concluded from.
        is_little: the byte order of the file.

    Returns:
        The values as shown, or as they were, and flags.
    """
    sample = _sample(values, background)
    try:
        sequence = values_of(header, "VOILUTSequence")
        if sequence and sequence[0].get("LUTData") is not None:
            table = Table.of(sequence[0], sample, is_little=is_little)
            if not table.covers(sample) or _clips(sample, table.interval):
                return values, (IGNORED,)
            return table.apply(values), table.flags
        window = _first_window(header)
    except MALFORMED:
        return values, (IGNORED,)
    if window is None:
        return values, ()
    if _clips(sample, window.interval):
        return values, (IGNORED,)
    bits = header.get("BitsStored")
    return window.apply(values, 2.0 ** (bits if isinstance(bits, int) else _DEPTH) - 1), ()


def _first_window(header: Dataset) -> Window | None:
    centres, widths = values_of(header, "WindowCenter"), values_of(header, "WindowWidth")
    if not centres or not widths:
        return None
    function = str((values_of(header, "VOILUTFunction") or ["LINEAR"])[0]).strip().upper()
    return Window(function or "LINEAR", float(centres[0]), float(widths[0]))


def _clips(sample: npt.NDArray[Any], interval: tuple[float, float]) -> bool:
    """Whether a window hides the image: see `_MOST_CLIPPED` and `_LEAST_KEPT`."""
    low, high = interval
    if low >= high:
        return True
    first, last = (float(value) for value in np.percentile(sample, _PERCENTILES))
    if first == last:
        first, last = float(sample.min()), float(sample.max())
    if first == last:
        return False  # a constant image, which no window makes worse
    clipped = float(np.mean((sample <= low) | (sample >= high)))
    kept = max(0.0, min(high, last) - max(low, first)) / (last - first)
    return clipped > _MOST_CLIPPED and kept < _LEAST_KEPT


def _sample(values: npt.NDArray[Any], background: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    """Values on a regular grid of pixels, without padding where something else is left."""
    step = math.ceil(math.sqrt(values.size / _SAMPLE))
    sample = values[::step, ::step]
    if background is not None and not (hidden := background[::step, ::step]).all():
        return sample[~hidden]
    return sample.ravel()
