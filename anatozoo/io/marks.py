"""What people draw on one image by hand: outlines, points and run lengths, whatever the program.

Programs for drawing count from the corner of the first pixel, so that its centre is (0.5, 0.5). The readers
of their files take half a pixel away: here, as everywhere, a whole number is the centre of a pixel.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.io.chest_folders import MASK_FOLDERS
from anatozoo.io.landmarks import Points
from anatozoo.io.limits import MAX_PIXELS

CORNER_PX = 0.5
"""From the corner of the first pixel to its centre."""
_MOST_POINTS = 2**20
_FARTHEST_PX = 2.0**24
_BLANKS = re.compile(r"[\s\-]+")


@dataclass(frozen=True, eq=False)
class Marks:
    """What was drawn on one image.

    Attributes:
        size: (width, height) of the image as the file states it, None where it does not.
        outlines: organ -> its closed outlines, (N, 2) pixels each. Their points stand anywhere on them.
        points: organ -> (N, 2) pixels, single points in the order in which they were set.
        masks: organ -> (H, W) bool of `size`.
    """

    size: tuple[int, int] | None = None
    outlines: Mapping[str, list[Points]] = field(default_factory=dict)
    points: Mapping[str, Points] = field(default_factory=dict)
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What was drawn, in order."""
        return list(dict.fromkeys([*self.outlines, *self.points, *self.masks]))


def organ_named(text: str, organs: Collection[str] = ()) -> str:
    """The organ that a label means: ``"Right Lung"`` is ``lung_right``, ``"Left-Kidney"`` ``left_kidney``.

    Args:
        text: the label.
        organs: names that count as they are, whatever their capitals.
    """
    name = _BLANKS.sub("_", text.strip()).lower()
    for organ in organs:
        if organ == text or organ.lower() == name:
            return organ
    return MASK_FOLDERS.get(name, name)


def points_of(value: Any, what: str, fewest: int = 1) -> Points:
    """Points (N, 2) of a list of pairs, or of a list x, y, x, y, ..., as a file holds them.

    Raises:
        DataError: they are not finite numbers, too few, too many, or farther away than any image reaches.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{what}: its points are not pairs of numbers ({error}).") from error
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or array.size % 2:
        raise DataError(f"{what}: its points are not pairs of numbers; draw it again.")
    if array.ndim == 2 and array.shape[1] != 2:
        raise DataError(f"{what}: its points have {array.shape[1]} numbers each; two are needed.")
    points = array.reshape(-1, 2).astype(np.float64)
    if not fewest <= len(points) <= _MOST_POINTS:
        raise DataError(f"{what} has {len(points)} points; it needs {fewest}, and at most {_MOST_POINTS}.")
    if not (np.abs(points) <= _FARTHEST_PX).all():  # false for NaN too
        raise DataError(f"{what} has points that are not finite or far outside any image; draw it again.")
    return points


def size_of(width: Any, height: Any, what: str) -> tuple[int, int] | None:
    """(width, height) as a file states them; None where it states neither.

    Raises:
        DataError: they are not whole numbers that an image can have.
    """
    if width is None and height is None:
        return None
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (width, height))
    if not whole or width * height > MAX_PIXELS:
        raise DataError(f"{what}: the size {width!r} x {height!r} is that of no image; export it again.")
    return int(width), int(height)


def mask_of_runs(counts: Sequence[int], shape: tuple[int, int], what: str) -> npt.NDArray[np.bool_]:
    """A mask of this shape of lengths of runs, off and on in turn along the last axis.

    Raises:
        DataError: they do not fill the shape.
    """
    try:
        lengths = np.asarray(counts)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{what}: its run lengths are not whole numbers.") from error
    needed = shape[0] * shape[1]
    # Each within the mask before they are added, for a sum may run over.
    if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or (lengths < 0).any() or (lengths > needed).any():
        raise DataError(f"{what}: its run lengths are not whole numbers within the mask.")
    if int(lengths.sum()) != needed:
        raise DataError(f"{what}: its run lengths fill {lengths.sum()} pixels, not {shape[0]} x {shape[1]}.")
    on = np.arange(len(lengths)) % 2 == 1
    return np.repeat(on, lengths).reshape(shape)


def joined(masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    """The union of masks of one shape."""
    union = masks[0].copy()
    for mask in masks[1:]:
        union |= mask
    return union
