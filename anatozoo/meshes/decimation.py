"""Coarser meshes of any surface, by quadric edge collapse, for networks on meshes of any anatomy.

Garland and Heckbert, "Surface simplification using quadric error metrics", SIGGRAPH 1997, as VTK implements
it, which keeps the ends of open surfaces. As in CoMA (Ranjan et al., ECCV 2018) each coarse vertex is one of
the fine ones, so that pooling picks, and unpooling interpolates on the coarse triangles.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported where they are used first: predictions of images need none

from anatozoo.errors import ConfigError, DataError
from anatozoo.meshes.pyramid import Pyramid, Step, graph
from anatozoo.meshes.surface import Faces, Vertices, open_edges

FEWEST = 8
"""Vertices of a part of the coarsest mesh: with fewer it has no shape."""
MILLIMETRES = (2.0, 3000.0)
"""Extents, in millimetres, of what is measured in patients."""
UNLIKE_MILLIMETRES = "unlike_millimetres"
"""Flag of a template whose extent is beyond `MILLIMETRES`: another unit, such as metres or micrometres?"""


def decimate(vertices: Vertices, faces: Faces, steps: int, factor: float = 2.0) -> Pyramid:
    """A surface and coarser ones.

    Each part is decimated by itself, so that none disappears and none grows into another.

    Args:
        vertices: (N, 3) in millimetres, see `check_template`.
        faces: (F, 3) triangles, of one part or several, closed or open.
        steps: how many coarser meshes, at least 1.
        factor: how many times fewer vertices each has than the one before, above 1 and at most 8.

    Raises:
        DataError: the surface is not sound.
        ConfigError: the numbers are not possible, a part has too few vertices for so many steps, or PyVista
            is missing.
    """
    if steps < 1 or not 1 < factor <= 8:
        raise ConfigError(
            f"{steps} coarser meshes with {factor:g} times fewer vertices are not possible; use "
            "at least 1, and a factor above 1 and at most 8."
        )
    check_template(vertices, faces)
    parts = parts_of(faces, len(vertices))
    least = int(np.bincount(parts).min())
    if least / factor**steps < FEWEST:
        possible = int(np.log(least / FEWEST) / np.log(factor)) if least > FEWEST else 0
        raise ConfigError(
            f"the smallest of {parts.max() + 1} parts has {least} vertices, too few for {steps} coarser "
            f"meshes: {FEWEST} are the fewest, so that at most {possible} are possible; ask for fewer, or "
            "take the part out of all meshes alike."
        )
    levels, found, places = [faces], [], vertices
    for _ in range(steps):
        step, coarse = _coarser(places, levels[-1], parts, factor)
        found.append(step)
        levels.append(coarse)
        places, parts = step.down @ places, (step.down @ parts).astype(np.int64)
    return Pyramid(tuple(levels), tuple(found), vertices)


def check_template(vertices: Vertices, faces: Faces) -> None:
    """Refuse a surface that cannot be decimated as it stands.

    Raises:
        DataError: there are no triangles, or a triangle has a corner twice; more than two triangles share an
            edge; vertices belong to no triangle, lie at one place, or are not finite.
    """
    if not len(faces) or not np.isfinite(vertices).all():
        raise DataError("the surface has no triangles, or a vertex that is no finite number.")
    if flat := int((np.diff(np.sort(faces, axis=1), axis=1) == 0).any(axis=1).sum()):
        raise DataError(f"{flat} triangles have a corner twice; remove them from all meshes alike.")
    if apart := len(vertices) - len(np.unique(faces)):
        raise DataError(
            f"{apart} of {len(vertices)} vertices belong to no triangle: the file is cut off, or holds "
            "points beside the surface; remove them from all meshes alike."
        )
    if same := len(vertices) - len(np.unique(vertices, axis=0)):
        raise DataError(
            f"{same} of {len(vertices)} vertices lie where another one does, so that the surface falls "
            "apart; merge them in all meshes alike."
        )
    edges = np.sort(np.vstack([faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    if many := int((np.unique(edges, axis=0, return_counts=True)[1] > 2).sum()):
        raise DataError(
            f"the surface is not manifold: {many} edges are shared by more than two triangles; repair the "
            "template, and all meshes alike."
        )


def remarks(vertices: Vertices, faces: Faces) -> list[str]:
    """Flags of a sound template: `UNLIKE_MILLIMETRES`, and ``open_surface``, which has no volume."""
    extent = float(np.ptp(vertices, axis=0).max())
    unlike = not MILLIMETRES[0] <= extent <= MILLIMETRES[1]
    return [UNLIKE_MILLIMETRES] * unlike + ["open_surface"] * (open_edges(faces) > 0)


def parts_of(faces: Faces, count: int) -> npt.NDArray[np.int64]:
    """(N,) number of the connected part that each vertex belongs to, from 0."""
    labels = scipy.sparse.csgraph.connected_components(graph(faces, count), directed=False)[1]
    return np.asarray(labels, np.int64)


def _coarser(
    vertices: Vertices, faces: Faces, parts: npt.NDArray[np.int64], factor: float
) -> tuple[Step, Faces]:
    """One step, and the triangles after it; vertices stay in their order."""
    picked, triangles = [], []
    for part in range(parts.max() + 1):
        own = np.flatnonzero(parts == part)
        inner = np.searchsorted(own, faces[parts[faces[:, 0]] == part])
        kept, coarse = _decimated(vertices[own], inner, max(round(len(own) / factor), FEWEST))
        picked.append(own[kept])
        triangles.append(own[kept][coarse])
    chosen = np.sort(np.concatenate(picked))
    coarse = np.searchsorted(chosen, np.concatenate(triangles))
    down = scipy.sparse.csr_matrix(
        (np.ones(len(chosen)), (np.arange(len(chosen)), chosen)), (len(chosen), len(vertices))
    )
    corners, weights = np.empty((len(vertices), 3), np.int64), np.empty((len(vertices), 3))
    for part in range(parts.max() + 1):
        own, near = parts == part, coarse[parts[chosen][coarse[:, 0]] == part]
        corners[own], weights[own] = _on_surface(vertices[own], vertices[chosen], near)
    # A vertex that stays is itself, whatever rounding says.
    corners[chosen], weights[chosen] = np.arange(len(chosen))[:, None], (1.0, 0.0, 0.0)
    rows = np.repeat(np.arange(len(vertices)), 3)
    up = scipy.sparse.csr_matrix((weights.ravel(), (rows, corners.ravel())), down.shape[::-1])
    up.eliminate_zeros()
    return Step(down, up), coarse


def _decimated(vertices: Vertices, faces: Faces, count: int) -> tuple[npt.NDArray[np.int64], Faces]:
    """About so many of the vertices of one part, by number, and triangles between them.

    Raises:
        ConfigError: PyVista is missing, or the part cannot be made coarser.
    """
    try:
        import pyvista
    except ImportError as error:
        raise ConfigError('decimation needs PyVista: python3 -m pip install "anatozoo[mesh]".') from error
    surface = pyvista.PolyData.from_regular_faces(vertices, faces)
    # Each collapse takes one vertex and two triangles, at an open end one, so that a second look corrects.
    share = 2 * (len(vertices) - count) / len(faces)
    found, used, coarse = _collapsed(surface, share)
    if abs(len(used) - count) > 0.02 * count:
        share *= (len(vertices) - count) / max(len(vertices) - len(used), 1)
        found, used, coarse = _collapsed(surface, share)
    if not FEWEST / 2 <= len(used) < len(vertices):
        raise ConfigError(f"a part of {len(vertices)} vertices cannot be made coarser; ask for fewer meshes.")
    return _nearest_distinct(found[used], vertices), coarse


def _collapsed(surface: Any, share: float) -> tuple[Vertices, npt.NDArray[np.int64], Faces]:
    """A surface of fewer triangles by a share: its points, those in use, and triangles between these."""
    found = surface.decimate(min(share, 0.99))
    used, coarse = np.unique(found.regular_faces, return_inverse=True)
    return np.asarray(found.points, np.float64), used, coarse.reshape(-1, 3)


def _nearest_distinct(places: Vertices, vertices: Vertices) -> npt.NDArray[np.int64]:
    """(M,) a vertex for each place, none twice: the nearest pairs first."""
    tree, taken = scipy.spatial.cKDTree(vertices), np.zeros(len(vertices), bool)
    found = np.full(len(places), -1)
    near = min(8, len(vertices))
    while len(left := np.flatnonzero(found < 0)):
        away, which = tree.query(places[left], k=near)
        away = np.where(taken[which], np.inf, away)
        best = away.argmin(axis=1)
        rows = np.flatnonzero(np.isfinite(away.min(axis=1)))
        wished, far = which[rows, best[rows]], away[rows, best[rows]]
        order = np.lexsort((rows, far))
        winners = rows[order[np.unique(wished[order], return_index=True)[1]]]
        found[left[winners]] = which[winners, best[winners]]
        taken[found[left[winners]]] = True
        if len(rows) < len(left):  # all vertices near by are taken
            near = min(2 * near, len(vertices))
    return found


def _on_surface(
    places: Vertices, vertices: Vertices, faces: Faces
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Corners (P, 3) of the triangle nearest to each place, and (P, 3) the nearest point in their weights."""
    import pyvista

    used, local = np.unique(faces, return_inverse=True)
    surface = pyvista.PolyData.from_regular_faces(vertices[used], local.reshape(-1, 3))
    cells, points = surface.find_closest_cell(places, return_closest_point=True)
    corners = faces[cells]
    a, b, c = (vertices[corners[:, k]] - points for k in range(3))
    weights = np.stack([np.linalg.norm(np.cross(*pair), axis=1) for pair in ((b, c), (c, a), (a, b))], axis=1)
    total = weights.sum(axis=1, keepdims=True)
    nearest = np.argmin([np.linalg.norm(each, axis=1) for each in (a, b, c)], axis=0)
    # A triangle without an area: the nearest of its corners.
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), np.eye(3)[nearest])
    weights[weights < 1e-9] = 0  # rounding
    return corners, weights / weights.sum(axis=1, keepdims=True)
