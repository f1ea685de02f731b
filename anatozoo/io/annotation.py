"""Organs of one image, as contours or as masks, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.organs import PAIRS, annotated, parts_of, with_pairs
from anatozoo.text import alike


def misspelt(names: Collection[str], organs: Collection[str]) -> dict[str, str]:
    """Name that is none of the organs -> the organ that lacks and that it may be meant for."""
    lacking = [organ for organ in organs if not annotated(organ, names)]
    return {name: near for name in sorted({*names} - {*organs}) if (near := alike(name, lacking))}


def shown_box(*masks: npt.NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Slices around the pixels of all masks, along each axis; None where there is no pixel.

    Args:
        masks: of one shape.
    """
    if not masks:
        return None
    box = masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)
    found: list[slice] = []
    for axis in range(box.ndim):
        filled = np.flatnonzero(box.any(tuple(set(range(box.ndim)) - {axis})))
        if not filled.size:
            return None
        found.append(slice(int(filled[0]), int(filled[-1]) + 1))
        # What is left out now need not be looked at along the other axes.
        box = box[(*(slice(None),) * axis, found[-1])]
    return tuple(found)


def middle_x(mask: npt.NDArray[Any]) -> float:
    """Mean column of the pixels of a mask (H, W); NaN where it has none."""
    columns = np.count_nonzero(mask, axis=0)
    total = int(columns.sum())
    return float((columns * np.arange(len(columns))).sum() / total) if total else math.nan


def exchanged_sides(middles: Mapping[str, float]) -> dict[str, bool]:
    """Whether what is called right lies to the right in the image, which is the patient's left.

    Args:
        middles: organ -> where it lies from left to right, NaN where it does not.

    Returns:
        pair, such as ``"lungs"`` -> whether; pairs of which a side is not there are left out.
    """
    places = {pair: [middles.get(side, math.nan) for side in sides] for pair, sides in PAIRS.items()}
    return {pair: right > left for pair, (right, left) in places.items() if not math.isnan(right + left)}


def join_pairs(masks: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of organs, and of the pairs whose two organs are both there."""
    return {
        name: masks[name] if name in masks else np.logical_or(*(masks[part] for part in parts_of(name)))
        for name in with_pairs(masks)
    }


@dataclass(frozen=True, eq=False)
class Annotation:
    """Organs of one image, as contours, as masks, or both.

    Attributes:
        size: (width, height[, depth]) in pixels.
        landmarks: organ -> (N, 2), (x, y) in pixels.
        masks: organ -> bool, (H, W) or (D, H, W); organs may overlap.
        spacing_mm: (x, y[, z]) per pixel, or None where it is unknown.

    Raises:
        GeometryError: a mask has another shape than `size`.
    """

    size: tuple[int, ...]
    landmarks: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    spacing_mm: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for organ, mask in self.masks.items():
            if mask.shape != self.size[::-1]:
                raise GeometryError(
                    f"the mask of {organ} is {' x '.join(map(str, mask.shape[::-1]))} pixels, not "
                    f"{' x '.join(map(str, self.size))}."
                )

    @classmethod
    def from_labels(
        cls,
        labels: npt.ArrayLike,
        organs: Sequence[str],
        spacing_mm: tuple[float, ...] | None = None,
    ) -> Annotation:
        """Masks from a label map (H, W) or (D, H, W) in which organ number i, from 1, has the value i."""
        array = np.asarray(labels)
        masks = {organ: array == value for value, organ in enumerate(organs, start=1)}
        return cls(array.shape[::-1], masks=masks, spacing_mm=spacing_mm)

    @property
    def organs(self) -> list[str]:
        """Organs in order, those with landmarks first."""
        return list(dict.fromkeys([*self.landmarks, *self.masks]))
