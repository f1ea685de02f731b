"""Quality of a closed surface: the shape of its triangles, whether it is closed, whether it cuts itself.

Scaled Jacobian and aspect ratio of triangles are those of Verdict (Knupp et al., SAND2007-1751, 2006), which
VTK and PyVista report too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anatozoo.meshes.surface import Faces, Vertices, open_edges


@dataclass(frozen=True)
class SurfaceQuality:
    """Quality of one closed surface.

    Attributes:
        triangles: how many there are.
        scaled_jacobian: mean, 0 .. 1; 1 of equilateral triangles.
        lowest_jacobian: of the worst triangle, 0 where it has no area.
        aspect: median of the aspect ratios, from 1; 1 of equilateral triangles.
        open_edges: edges that are not shared by two triangles in opposite directions; 0 if closed.
        crossings: pairs of triangles without a common corner that cut each other.
    """

    triangles: int
    scaled_jacobian: float
    lowest_jacobian: float
    aspect: float
    open_edges: int
    crossings: int

    @property
    def closed(self) -> bool:
        """Whether the surface has no open edge."""
        return self.open_edges == 0


def surface_quality(places: Vertices, faces: Faces) -> SurfaceQuality:
    """Measure a surface.

    Args:
        places: (N, 3) vertices in a space in which lengths compare, such as millimetres.
        faces: (F, 3), at least one.
    """
    jacobian = scaled_jacobian(places, faces)
    return SurfaceQuality(
        triangles=len(faces),
        scaled_jacobian=float(jacobian.mean()),
        lowest_jacobian=float(jacobian.min()),
        aspect=float(np.median(aspect_ratio(places, faces))),
        open_edges=open_edges(faces),
        crossings=crossings(places, faces),
    )


def _edges(places: Vertices, faces: Faces) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(F, 3) lengths of the edges, each opposite its corner, and (F,) twice the areas."""
    a, b, c = (places[faces[:, corner]] for corner in range(3))
    lengths = np.linalg.norm(np.stack([c - b, a - c, b - a], axis=1), axis=2)
    return lengths, np.linalg.norm(np.cross(b - a, c - a), axis=1)


def scaled_jacobian(places: Vertices, faces: Faces) -> npt.NDArray[np.float64]:
    """(F,) the least sine of a triangle's angles over that of 60 degrees."""
    lengths, doubled = _edges(places, faces)
    largest = (lengths * np.roll(lengths, 1, axis=1)).max(axis=1)
    found: npt.NDArray[np.float64] = doubled / np.maximum(largest, np.finfo(float).tiny) * 2 / np.sqrt(3)
    return found


def aspect_ratio(places: Vertices, faces: Faces) -> npt.NDArray[np.float64]:
    """(F,) longest edge times perimeter over 4 √3 areas; infinite where there is no area."""
    lengths, doubled = _edges(places, faces)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = lengths.max(axis=1) * lengths.sum(axis=1) / (2 * np.sqrt(3) * doubled)
    return np.where(doubled > 0, found, np.inf)


def crossings(places: Vertices, faces: Faces) -> int:
    """Pairs of triangles without a common corner of which an edge of one runs through the other.

    Triangles that only touch, or lie in one plane, do not count.
    """
    corners = places[faces]
    low, high = corners.min(axis=1), corners.max(axis=1)
    order = np.argsort(low[:, 0])
    # Of triangles in the order of their lower ends, those between a triangle and its upper end may meet it.
    ends = np.searchsorted(low[order, 0], high[order, 0], side="right")
    counts = np.maximum(ends - np.arange(len(faces)) - 1, 0)
    first = np.repeat(np.arange(len(faces)), counts)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    one, two = order[first], order[second]
    near = (low[one, 1:] <= high[two, 1:]).all(axis=1) & (low[two, 1:] <= high[one, 1:]).all(axis=1)
    both = np.column_stack([one, two])[near]
    apart = ~(faces[both[:, 0]][:, :, None] == faces[both[:, 1]][:, None, :]).any(axis=(1, 2))
    both = both[apart]
    these, those = corners[both[:, 0]], corners[both[:, 1]]
    return int((_pierced(these, those) | _pierced(those, these)).sum())


def _pierced(lines: Vertices, triangles: Vertices) -> npt.NDArray[np.bool_]:
    """Whether an edge of each triangle (P, 3, 3) runs through its partner (Möller and Trumbore, 1997)."""
    first = triangles[:, 0]
    u, v = triangles[:, 1] - first, triangles[:, 2] - first
    found = np.zeros(len(lines), bool)
    for corner in range(3):
        start = lines[:, corner]
        along = lines[:, (corner + 1) % 3] - start
        across = np.cross(along, v)
        level = np.einsum("ij,ij->i", u, across)
        with np.errstate(divide="ignore", invalid="ignore"):
            away = start - first
            at_u = np.einsum("ij,ij->i", away, across) / level
            turned = np.cross(away, u)
            at_v = np.einsum("ij,ij->i", along, turned) / level
            at = np.einsum("ij,ij->i", v, turned) / level
            inside = (at_u > 0) & (at_v > 0) & (at_u + at_v < 1)
            found |= (level != 0) & inside & (at > 0) & (at < 1)
    return found
