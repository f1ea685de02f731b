"""Topology of sheets: rings of points, one above the other, closed at the far end by one point.

A sheet of L rings of A points has ``L * A + 1`` vertices: ring by ring, the tip at last. All sheets of one
size have the same triangles, so that their vertices correspond, and coarser sheets of the same form: a
pyramid for networks on meshes.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported where they are used first: predictions of images need none

from anatozoo.errors import ConfigError
from anatozoo.meshes.pyramid import Step
from anatozoo.meshes.surface import Faces

MOST_POINTS = 20_000
"""Of a sheet; with so many, looking for triangles that cross takes minutes and 5 GB."""


@dataclass(frozen=True)
class SheetSize:
    """Size of a sheet.

    Args:
        rings: at least 2.
        angles: points of a ring, even, at least 4.

    Raises:
        ConfigError: it is smaller, the angles are odd, or there are more than `MOST_POINTS`.
    """

    rings: int = 16
    angles: int = 32

    def __post_init__(self) -> None:
        if self.rings < 2 or self.angles < 4 or self.angles % 2:
            raise ConfigError(
                f"a sheet needs 2 rings or more, and an even number of at least 4 points in each, not "
                f"{self.rings} and {self.angles}."
            )

        if self.rings * self.angles > MOST_POINTS:
            raise ConfigError(
                f"a sheet has at most {MOST_POINTS} points, and {self.rings} rings of {self.angles} are "
                f"{self.rings * self.angles}; its quality could not be measured."
            )

    @property
    def vertices(self) -> int:
        """How many vertices it has."""
        return self.rings * self.angles + 1

    def coarser(self) -> "SheetSize | None":
        """Half as many points in a ring if they are more than the rings, else half the rings.

        None at the least size.
        """
        if self.angles > self.rings and self.angles % 4 == 0 and self.angles >= 8:
            return SheetSize(self.rings, self.angles // 2)
        return SheetSize(self.rings // 2, self.angles) if self.rings >= 4 and self.rings % 2 == 0 else None


def wall(size: SheetSize) -> Faces:
    """Triangles (F, 3) of a sheet without its open end, seen anticlockwise from outside.

    Outside is where a ring's normal points if x turns towards y along it, and the tip lies at larger z.
    """
    ring, angle = np.mgrid[: size.rings - 1, : size.angles]
    here, beside = ring * size.angles + angle, ring * size.angles + (angle + 1) % size.angles
    beyond, across = here + size.angles, beside + size.angles
    quads = np.stack([here, beside, across, here, across, beyond], axis=-1).reshape(-1, 3)
    last = (size.rings - 1) * size.angles + np.arange(size.angles)
    tip = np.column_stack([last, np.roll(last, -1), np.full(size.angles, size.vertices - 1)])
    return np.vstack([quads, tip])


def lid(size: SheetSize) -> Faces:
    """Triangles that close the first ring: a strip between the two sides of it."""
    half = size.angles // 2
    side = np.arange(half + 1)  # 0 .. half on one side, 0, A - 1 .. half on the other
    other = -side % size.angles
    quads = [(side[k], side[k + 1], other[k + 1], other[k]) for k in range(half)]
    faces = [face for a, b, c, d in quads for face in ((a, c, b), (a, d, c)) if len(set(face)) == 3]
    return np.asarray(faces, dtype=np.int64)


def rim(inner: int, outer: int, angles: int) -> Faces:
    """Triangles between the first rings of two sheets, whose vertices begin at these numbers."""
    here = np.arange(angles)
    beside = (here + 1) % angles
    a, b, c, d = outer + here, outer + beside, inner + beside, inner + here
    return np.vstack([np.column_stack([a, c, b]), np.column_stack([a, d, c])])


@dataclass(frozen=True, eq=False)
class SheetStep(Step):
    """One step of a pyramid of a mesh that consists of sheets.

    Attributes:
        size: of each sheet after it.
    """

    size: SheetSize


def pyramid(size: SheetSize, sheets: int, steps: int) -> list[SheetStep]:
    """Matrices that lead to coarser sheets and back, the finest first.

    Args:
        size: of each sheet.
        sheets: of the mesh, whose vertices follow one another.
        steps: how many.

    Raises:
        ConfigError: the sheets cannot be halved so often.
    """
    found: list[SheetStep] = []
    for _ in range(steps):
        coarse = size.coarser()
        if coarse is None:
            raise ConfigError(f"a sheet of {size.rings} x {size.angles} cannot be halved any more.")
        down, up = _down(size, coarse), _up(size, coarse)
        found.append(
            SheetStep(
                scipy.sparse.block_diag([down] * sheets, format="csr"),
                scipy.sparse.block_diag([up] * sheets, format="csr"),
                coarse,
            )
        )
        size = coarse
    return found


def _down(fine: SheetSize, coarse: SheetSize) -> "scipy.sparse.csr_matrix":
    rings, angles = fine.rings // coarse.rings, fine.angles // coarse.angles
    ring, angle = np.mgrid[: coarse.rings, : coarse.angles]
    picked = np.r_[(ring * rings * fine.angles + angle * angles).ravel(), fine.vertices - 1]
    ones = np.ones(coarse.vertices)
    shape = (coarse.vertices, fine.vertices)
    return scipy.sparse.csr_matrix((ones, (np.arange(coarse.vertices), picked)), shape)


def _up(fine: SheetSize, coarse: SheetSize) -> "scipy.sparse.csr_matrix":
    tip = coarse.vertices - 1
    ring, angle = (part.ravel() / ratio for part, ratio in zip(
        np.mgrid[: fine.rings, : fine.angles],
        (fine.rings // coarse.rings, fine.angles // coarse.angles),
        strict=True,
    ))  # fmt: skip
    rows, columns, values = [[fine.vertices - 1]], [[tip]], [[1.0]]
    for r, of_ring in ((np.floor(ring), 1 - ring % 1), (np.floor(ring) + 1, ring % 1)):
        for a, of_angle in ((np.floor(angle), 1 - angle % 1), (np.floor(angle) + 1, angle % 1)):
            # Beyond the last ring stands the tip.
            column = np.where(r >= coarse.rings, tip, r * coarse.angles + a % coarse.angles)
            rows.append(list(range(fine.vertices - 1)))
            columns.append(column.astype(int).tolist())
            values.append((of_ring * of_angle).tolist())
    found = scipy.sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        (fine.vertices, coarse.vertices),
    )
    found.eliminate_zeros()
    return found
