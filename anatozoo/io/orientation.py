"""One order of axes for all volumes, whatever the order in which their voxels are stored.

The patient's axes are ITK's: x runs to the left, y to the back, z to the head. Sizes, positions and axes are
``(x, y[, z])``; arrays have them the other way round, (D, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from anatozoo.io.grid import Grid

Array = npt.NDArray[np.float64]

APEX = (1 / 3**0.5, -1 / 3**0.5, -1 / 3**0.5)
"""Where the apex of a heart lies, seen from its base: to the patient's left, front and feet."""
TOWARDS_APEX = 0.3
"""From what cosine to `APEX` on the axis across the slices tells base from apex."""
COARSER = 1.5
"""From what ratio to both others on the coarsest axis is certainly the one across the slices."""
FEWER = 2.0
"""How many times as many voxels than along the axis across the slices the others have at least."""
_SCREEN = np.array([[1.0, 0.0, 0.5], [0.5, 0.5, 0.5], [0.0, -1.0, 1.0]])
"""What slices look like on a screen: x to the left or back, y to the back or feet."""
_ALIGNED = 1e-3
"""How far from 0 and 1 the directions may be of axes that are along the patient's."""
_TIE = 1e-4
"""What is nearer by less than this is told apart by a fixed rule."""


@dataclass(frozen=True)
class Orientation:
    """A way to exchange the axes of an array and to turn them round; nothing is interpolated.

    Attributes:
        axes: for each axis of what it gives which one of the given array it is.
        flips: whether it runs the other way.
    """

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    @classmethod
    def unchanged(cls, dims: int) -> Self:
        """The one that leaves everything as it is."""
        return cls(tuple(range(dims)), (False,) * dims)

    @classmethod
    def of_turn(cls, turn: npt.ArrayLike) -> Self:
        """The one of a signed permutation (n, n), see `turn`; factors do not matter."""
        given = np.asarray(turn)
        axes = np.abs(given).argmax(1)
        flips = given[np.arange(len(given)), axes] < 0
        return cls(tuple(axes.tolist()), tuple(flips.tolist()))

    @classmethod
    def to_patient(cls, grid: Grid) -> Self:
        """The one that makes x, y and z run to the patient's left, back and head, as nearly as it can.

        Oblique angles stay. Planes stay as they are stored, for directions of radiographs say nothing about
        the patient's sides, and so do volumes without directions.
        """
        if grid.dims == 2 or grid.direction is None:
            return cls.unchanged(grid.dims)
        return _nearest(cls._all(), np.eye(3), grid)

    @classmethod
    def of_slices(cls, grid: Grid) -> Self:
        """That of `to_patient`, but with the slices one after another along z, whatever their plane.

        Where this is another axis than the patient's nearest, x and y run within slices as on any screen.
        Without directions, the axis across the slices is all that moves, if the spacing tells it.
        """
        if grid.direction is None:
            across = 2 if (coarsest := coarsest_axis(grid)) is None else coarsest
            return cls((*(axis for axis in range(3) if axis != across), across), (False,) * 3)
        nearest = cls.to_patient(grid)
        if (known := axis_across(grid)) is None or nearest.axes[2] == known:
            return nearest
        return _nearest(cls._with_slices(known), _SCREEN, grid)

    @classmethod
    def of_heart(cls, grid: Grid) -> Self:
        """That of slices across the long axis of a heart, from base to apex where directions tell.

        Then x is the axis within slices that is nearest to the patient's left, and y is such that a viewer at
        the apex sees it run down, as on any screen. Else it is that of `of_slices`.
        """
        if not tells_apex(grid):
            return cls.of_slices(grid)
        fitting = [
            each
            for each in cls._with_slices(_long_axis(grid))
            if each.axes_of(grid)[:, 2] @ APEX > 0 and np.linalg.det(each.axes_of(grid)) < 0
        ]
        return _nearest(fitting, np.diag([1.0, 0.0, 0.0]), grid)

    @classmethod
    def _all(cls) -> list[Self]:
        turns = product((False, True), repeat=3)
        return [cls(axes, flips) for flips in turns for axes in permutations(range(3))]

    @classmethod
    def _with_slices(cls, across: int) -> list[Self]:
        return [each for each in cls._all() if each.axes[2] == across]

    @property
    def is_unchanged(self) -> bool:
        """Whether it leaves everything as it is."""
        return self == self.unchanged(len(self.axes))

    @property
    def turn(self) -> Array:
        """Signed permutation (n, n) from indices, as seen from the middle, to those of what it gives."""
        table = np.zeros((len(self.axes),) * 2)
        table[np.arange(len(self.axes)), self.axes] = np.where(self.flips, -1.0, 1.0)
        return table

    @property
    def inverse(self) -> Self:
        """The way back."""
        return self.of_turn(self.turn.T)

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array (..., H, W) or (..., D, H, W) in the new order, contiguous."""
        dims = len(self.axes)
        ahead = values.ndim - dims
        # Axes of an array run the other way round than x, y, z.
        order = [ahead + dims - 1 - axis for axis in reversed(self.axes)]
        moved = values.transpose(*range(ahead), *order)
        turned = tuple(ahead + dims - 1 - axis for axis, flip in enumerate(self.flips) if flip)
        return np.ascontiguousarray(np.flip(moved, turned))

    def undo(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What `apply` gave, as it was."""
        return self.inverse.apply(values)

    def grid(self, grid: Grid) -> Grid:
        """The grid of the array in the new order: each voxel stays at its place in space."""
        if self.is_unchanged:
            return grid
        size = self.size(grid.size)
        first = self.inverse.points(np.zeros(len(size)), size)
        return Grid(
            size,
            None if grid.spacing_mm is None else tuple(grid.spacing_mm[axis] for axis in self.axes),
            tuple(grid.to_physical(first).tolist()) if any(self.flips) else grid.origin,
            tuple((self.axes_of(grid) + 0.0).ravel().tolist()),
        )

    def size(self, size: Sequence[int]) -> tuple[int, ...]:
        """The size (x, y[, z]) of an array in the new order."""
        return tuple(size[axis] for axis in self.axes)

    def points(self, points: npt.ArrayLike, size: Sequence[int]) -> Array:
        """Where positions (..., n) in an array of a size (x, y[, z]) are in the new order."""
        middle, there = ((np.asarray(each) - 1) / 2 for each in (size, self.size(size)))
        return self.vectors(np.asarray(points) - middle) + there

    def vectors(self, vectors: npt.ArrayLike) -> Array:
        """Components (..., n), (x, y[, z]), of vectors along the new axes."""
        return np.asarray(vectors) @ self.turn.T

    def axes_of(self, grid: Grid) -> Array:
        """Directions (n, n) of the new axes, one column each."""
        return grid.axes @ self.turn.T


def coarsest_axis(grid: Grid) -> int | None:
    """The axis of a volume along which voxels are by far the largest, 0 to 2 for x to z, or None."""
    return None if grid.spacing_mm is None else _outlier(np.asarray(grid.spacing_mm), COARSER)


def axis_across(grid: Grid) -> int | None:
    """The axis of a volume across its slices, 0 to 2 for x to z, or None where nothing tells.

    It is the axis along which voxels are by far the largest, or, where spacings are unknown or alike, the one
    with by far the fewest of them.
    """
    coarsest = coarsest_axis(grid)
    return _outlier(1 / np.asarray(grid.size), FEWER) if coarsest is None else coarsest


def tells_apex(grid: Grid) -> bool:
    """Whether the directions of slices across a heart tell its base from its apex.

    Directions along the patient's own axes do not: no heart lies like that, so that they are those of a copy
    that has lost its own.
    """
    if grid.dims == 2 or grid.direction is None:
        return False
    axes = np.abs(grid.axes)
    if (np.minimum(axes, np.abs(axes - 1)) < _ALIGNED).all():
        return False
    return bool(_cosines(grid)[_long_axis(grid)] > TOWARDS_APEX)


def _long_axis(grid: Grid) -> int:
    """The axis across the slices, which is that of the heart: where nothing else tells, the nearest to it."""
    known = axis_across(grid)
    return int(_cosines(grid).argmax()) if known is None else known


def _cosines(grid: Grid) -> Array:
    """Of each axis, without its sign, to a heart's."""
    cosines: Array = np.abs(np.asarray(APEX) @ grid.axes) / np.linalg.norm(grid.axes, axis=0)
    return cosines


def _outlier(values: Array, ratio: float) -> int | None:
    """The one of three values that is more than this many times as large as both others."""
    order = np.argsort(values)
    return int(order[2]) if values[order[2]] > ratio * values[order[1]] else None


_Choice = TypeVar("_Choice", bound=Orientation)


def _nearest(choices: Sequence[_Choice], wanted: Array, grid: Grid) -> _Choice:
    """The choice whose axes are nearest to the wanted ones, columns of weights of the patient's axes.

    Of several that are, always the same one in space, however the volume is stored.
    """
    axes = [each.axes_of(grid) for each in choices]
    near = np.array([(each * wanted).sum() for each in axes])
    best: list[int] = np.flatnonzero(near > near.max() - _TIE).tolist()
    return choices[max(best, key=lambda at: np.round(axes[at] / _TIE).ravel().tolist())]
