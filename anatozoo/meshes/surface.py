"""Closed surfaces of triangles on the grid of an image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import Grid

Vertices = npt.NDArray[np.float64]
Faces = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Surfaces of several organs with common vertices.

    Attributes:
        vertices: (N, 3) x, y, z in the grid's pixels, whose centres are whole numbers.
        faces: organ -> (F, 3) triangles of its closed surface, anticlockwise seen from outside.
        parts: (N,) number of the sheet that a vertex belongs to.
        grid: of the image.

    Raises:
        GeometryError: a vertex is not finite, or a triangle has a vertex that does not exist.
    """

    vertices: Vertices
    faces: Mapping[str, Faces]
    parts: npt.NDArray[np.int64]
    grid: Grid

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3 or not np.isfinite(self.vertices).all():
            raise GeometryError("vertices must be (N, 3) finite numbers.")
        for organ, faces in self.faces.items():
            if faces.size and (faces.min() < 0 or faces.max() >= len(self.vertices)):
                raise GeometryError(f"a triangle of {organ} names a vertex beyond {len(self.vertices)}.")

    @property
    def physical(self) -> Vertices:
        """(N, 3) vertices in the space of the image: millimetres, or pixels where the spacing is unknown."""
        return self.grid.to_physical(self.vertices)

    def volume_ml(self) -> dict[str, float] | None:
        """Volume of each organ in millilitres; None where the grid has no spacing.

        By the divergence theorem, which needs closed surfaces.
        """
        if self.grid.spacing_mm is None:
            return None
        places = self.physical - self.physical.mean(axis=0)
        turned = np.sign(np.linalg.det(self.grid.axes))  # a grid may be left-handed
        return {organ: float(turned * enclosed(places, faces) / 1000) for organ, faces in self.faces.items()}

    def to_masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Organ -> (D, H, W), the pixels of the grid whose centres lie inside its surface."""
        return {organ: inside(self.vertices, faces, self.grid.shape) for organ, faces in self.faces.items()}


def enclosed(places: Vertices, faces: Faces) -> float:
    """Volume that a closed surface encloses, negative if its triangles are clockwise seen from outside."""
    a, b, c = (places[faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def open_edges(faces: Faces) -> int:
    """Edges that are not shared by two triangles in opposite directions; 0 for a closed surface."""
    edges = np.vstack([faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    most = int(faces.max()) + 1 if faces.size else 1
    there, back = edges[:, 0] * most + edges[:, 1], edges[:, 1] * most + edges[:, 0]
    return int(np.setdiff1d(there, back).size + len(there) - np.unique(there).size)


def inside(vertices: Vertices, faces: Faces, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Pixels whose centres lie inside a closed surface, by the even-odd rule along the rows.

    Args:
        vertices: (N, 3) x, y, z in pixels.
        faces: (F, 3).
        shape: (D, H, W).

    Returns:
        (D, H, W). A centre on the surface belongs to one side alone, so that surfaces that share a wall share
        no pixel.
    """
    depth, height, width = shape
    parity = np.zeros((depth, height, width + 1), np.int64)
    corners = vertices[faces]
    # A plane cuts what lies partly below it; what touches it from above is not below.
    low, high = _after(corners[..., 2].min(axis=1), depth), _after(corners[..., 2].max(axis=1), depth)
    for z in range(int(low.min(initial=depth)), int(high.max(initial=0))):
        ends = _cut(corners[(low <= z) & (z < high)], float(z), 2)
        if not len(ends):
            continue
        first, after = _after(ends[:, :, 1].min(axis=1), height), _after(ends[:, :, 1].max(axis=1), height)
        rows = np.concatenate([np.arange(a, b) for a, b in zip(first, after, strict=True)])
        which = np.repeat(np.arange(len(ends)), after - first)
        (x0, y0), (x1, y1) = ends[which, 0, :2].T, ends[which, 1, :2].T
        crossed = x0 + (rows - y0) / (y1 - y0) * (x1 - x0)
        columns = np.clip(np.ceil(crossed), 0, width).astype(int)
        np.add.at(parity[z], (rows, columns), 1)
    found: npt.NDArray[np.bool_] = np.cumsum(parity, axis=2)[..., :-1] % 2 == 1
    return found


def _after(places: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int64]:
    """The first whole numbers above places, at least 0 and at most `most`."""
    found: npt.NDArray[np.int64] = np.clip(np.floor(places) + 1, 0, most).astype(np.int64)
    return found


def _cut(corners: npt.NDArray[np.float64], at: float, axis: int) -> npt.NDArray[np.float64]:
    """(S, 2, 3) ends of the lines in which a plane cuts triangles (S, 3, 3), each of which it does cut."""
    above = corners[..., axis] >= at
    # The corner that is alone on its side comes first.
    alone = np.where(above.sum(axis=1) == 1, np.argmax(above, axis=1), np.argmin(above, axis=1))
    index = (alone[:, None] + np.arange(3)) % 3
    a, b, c = np.moveaxis(np.take_along_axis(corners, index[..., None], axis=1), 1, 0)

    def crossing(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        # From the lower corner, so that two triangles agree on their common edge to the last digit.
        swap = (p[:, axis] > q[:, axis])[:, None]
        p, q = np.where(swap, q, p), np.where(swap, p, q)
        return p + ((at - p[:, axis]) / (q[:, axis] - p[:, axis]))[:, None] * (q - p)

    return np.stack([crossing(a, b), crossing(a, c)], axis=1)
