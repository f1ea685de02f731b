"""A root system: a main root and its laterals as lines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Root:
    """A root from its base to its tip.

    Attributes:
        points: (N, 2) x and y in pixels, N at least 2, finite.
        parent: number of the root in its system from which it grows; None for one that begins at the seed.
        name: of the root; a lateral that is followed over frames keeps it.

    Raises:
        DataError: the points are none of that.
    """

    points: Points
    parent: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check the points."""
        shape = np.shape(self.points)
        if len(shape) != 2 or shape[0] < 2 or shape[1] != 2 or not np.isfinite(self.points).all():
            raise DataError(f"root {self.name!r} needs at least two finite points (x, y), not {shape}.")

    @property
    def length_px(self) -> float:
        """Length of the line."""
        return length_of(self.points)


@dataclass(frozen=True, eq=False)
class RootSystem:
    """The roots of a plant.

    Attributes:
        roots: the main root, then laterals; a parent stands before its children.
        flags: what is doubtful: ``loop`` (roots touch, and the way of one was chosen), ``leaves_picture`` (a
            root ends at the border), ``fills_picture`` (over a fifth of the picture is root), ``seed_moved``
            (the seed is not on a root; the nearest place is taken), ``tip_lost`` (nothing is near the tip of
            the frame before; the lowest one is taken).
        name: of the plant.

    Raises:
        DataError: there is no root, or a parent is none before it.
    """

    roots: tuple[Root, ...]
    flags: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        """Check the parents."""
        if not self.roots:
            raise DataError(f"the root system {self.name!r} has no root.")
        for number, root in enumerate(self.roots):
            if root.parent is not None and not 0 <= root.parent < number:
                raise DataError(
                    f"root {root.name or number!r} of {self.name!r} grows from root {root.parent}, which "
                    "does not stand before it."
                )

    @property
    def main(self) -> Root:
        """The main root."""
        return self.roots[0]

    @property
    def laterals(self) -> tuple[Root, ...]:
        """All other roots."""
        return self.roots[1:]

    @property
    def laterals_px(self) -> float:
        """Total length of the laterals."""
        return sum(root.length_px for root in self.laterals)

    @property
    def total_px(self) -> float:
        """Total length."""
        return self.main.length_px + self.laterals_px

    def scaled(self, factor: float) -> "RootSystem":
        """The same system in another unit of length."""
        roots = (Root(root.points * factor, root.parent, root.name) for root in self.roots)
        return RootSystem(tuple(roots), self.flags, self.name)


def length_of(points: Sequence[Sequence[float]] | Points) -> float:
    """Length of a line through points (N, 2)."""
    return float(np.linalg.norm(np.diff(np.asarray(points, float), axis=0), axis=1).sum())


def along(points: Points, distances: Sequence[float] | Points) -> Points:
    """Places (len(distances), 2) on a line at distances from its begin; beyond an end, the end.

    Args:
        points: (N, 2).
        distances: from the begin, in the unit of the points.
    """
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    return np.stack([np.interp(np.asarray(distances, float), at, points[:, axis]) for axis in (0, 1)], -1)


def until(points: Points, length: float) -> Points:
    """The first part of a line, up to a length of at least a hundredth of a pixel."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    length = min(max(length, 0.01), float(at[-1]))
    return np.concatenate([points[at < length], along(points, [length])])
