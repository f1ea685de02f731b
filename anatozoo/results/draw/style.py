"""Style of pictures: colours and names of organs, grey levels, lines around masks.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which people with the usual kinds of
colour blindness can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageFont

Color = tuple[int, int, int]

ORGAN_COLORS: dict[str, Color] = {
    "lung_right": (86, 180, 233),
    "lung_left": (0, 190, 140),
    "heart": (230, 100, 30),
    "clavicle_right": (240, 228, 66),
    "clavicle_left": (214, 130, 180),
    "lungs": (86, 180, 233),
    "clavicles": (240, 228, 66),
}
"""Red, green and blue (0..255) of the organs of the chest."""

_OTHER_COLORS: tuple[Color, ...] = ((230, 159, 0), (0, 130, 210), (204, 121, 167), (213, 94, 0))
PLANES = ("Axial", "Coronal", "Sagittal")
"""Names of the planes of a volume, by the axis of the array that is left out."""
_MIDDLE_GREY, _STRONGEST_GAMMA = 0.5, 2.0
HEAT: Color = (240, 40, 160)
"""Where the members of an ensemble differ; no organ has this colour."""
_HEAT_DENSITY = 0.8


def heat_layer(heat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A layer (H, W, 4) in 0..1 of `HEAT`, the denser, the more of it (H, W) in 0..1 there is."""
    color = np.broadcast_to(np.array(HEAT, np.float32) / 255, (*heat.shape, 3))
    return np.concatenate([color, np.float32(_HEAT_DENSITY) * heat[..., None]], axis=-1)


@cache
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font in a size; to read it anew takes longer than to write a line."""
    return ImageFont.load_default(size)


def organ_colors(organs: Sequence[str]) -> dict[str, Color]:
    """A colour for each organ, the same in every picture; other organs share the remaining colours."""
    others = [organ for organ in organs if organ not in ORGAN_COLORS]
    turns = {organ: _OTHER_COLORS[i % len(_OTHER_COLORS)] for i, organ in enumerate(others)}
    return {organ: ORGAN_COLORS[organ] if organ in ORGAN_COLORS else turns[organ] for organ in organs}


def label_palette(organs: Sequence[str]) -> list[int]:
    """Red, green, blue of black (label 0) and of each organ's label, one after another, for a palette PNG."""
    return [0, 0, 0, *(value for color in organ_colors(organs).values() for value in color)]


def display_name(organ: str) -> str:
    """Words for a legend: ``"lung_right"`` becomes ``"Right lung"``."""
    part, _, side = organ.rpartition("_")
    words = f"{side} {part}" if part and side in ("right", "left") else organ
    return words.replace("_", " ").capitalize()


def display_grey(pixels: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Pixels ``(H, W)`` as grey levels 0..255 for display.

    Stretched between percentiles; images that are mostly bright are darkened by a gamma of at most 2, so that
    contours stand out. Not used for models. Constant pixels become grey 64.
    """
    from anatozoo.io.intensity import stretch, stretched_range, whole_levels

    values = np.asarray(pixels, dtype=np.float32)
    minimum, maximum = float(values.min()), float(values.max())
    if minimum == maximum:
        return np.full(values.shape, 64, dtype=np.uint8)
    low, high = stretched_range(values)
    counted = whole_levels(values, minimum, maximum)
    if counted is None:
        stretched = stretch(values, low, high)
        return _darkened(stretched, float(np.median(stretched)))
    # Each level once: to look them up for each pixel takes a tenth of the time.
    stored, counts = counted
    stretched = stretch(np.arange(len(counts), dtype=np.float32), low, high)
    middle = np.searchsorted(counts.cumsum(), [(values.size - 1) // 2, values.size // 2], side="right")
    table = _darkened(stretched, float(np.median(stretched[middle])))
    if stored.dtype == np.uint8:
        return np.asarray(cv2.LUT(stored, np.resize(table, 256)), np.uint8)
    return table[stored]


def _darkened(stretched: npt.NDArray[np.float32], median: float) -> npt.NDArray[np.uint8]:
    """Values in 0..1 as grey levels 0..255, by a gamma that follows from their median."""
    bright = float(np.clip(median, _MIDDLE_GREY, 0.99))
    gamma = min(np.log(_MIDDLE_GREY) / np.log(bright), _STRONGEST_GAMMA)
    levels = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return levels[np.rint(stretched * np.float32(255)).astype(np.uint8)]


def mask_outlines(mask: npt.NDArray[Any]) -> list[npt.NDArray[np.float64]]:
    """Closed lines around the parts and holes of a mask (H, W), through the centres of its outermost pixels.

    Returns:
        (N, 2) each, x and y; an empty list for an empty mask.
    """
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [line.reshape(-1, 2).astype(np.float64) for line in lines]


def stretched(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Grey levels in 0 … 1 for display; constant planes become black."""
    from anatozoo.io.intensity import normalize_intensity

    if pixels.min() == pixels.max():
        return np.zeros(pixels.shape, np.float32)
    return normalize_intensity(pixels)
