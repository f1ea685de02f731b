"""Outlines of masks between pixels, holes joined to what surrounds them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Line = npt.NDArray[np.float64]


def planar_contours(mask: npt.NDArray[Any]) -> list[Line]:
    """Closed outlines of a mask (H, W), half-way between the pixels inside and those outside.

    Each part of the mask is one line. Where it has holes, the line runs to them and back by the same way, a
    keyhole, as DICOM asks of CLOSED_PLANAR. Filled by either rule, the lines hold the centres of exactly the
    pixels of the mask.

    Returns:
        (N, 2) each, x and y, whole numbers being centres of pixels, without a repeated end.
    """
    import contourpy  # comes with Matplotlib

    if not mask.any():
        return []
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    y, x = int(rows[0]), int(columns[0])
    padded = np.pad(mask[y : rows[-1] + 1, x : columns[-1] + 1].astype(np.float64), 1)
    lines = contourpy.contour_generator(z=padded, fill_type="OuterOffset").filled(0.5, 2.0)
    found = []
    for points, offsets in zip(*lines, strict=True):
        rings = [_corners(points[a : b - 1] + (x - 1, y - 1)) for a, b in pairwise(offsets)]
        found.append(with_keyholes(rings[0], rings[1:]))
    return found


def with_keyholes(outer: Line, holes: list[Line]) -> Line:
    """One closed line around a part with holes; each hole is reached by the shortest way between corners."""
    rest = list(holes)
    while rest:
        ways = [((outer[:, None] - hole[None]) ** 2).sum(-1) for hole in rest]
        which = int(np.argmin([way.min() for way in ways]))
        at, to = np.unravel_index(int(ways[which].argmin()), ways[which].shape)
        ring = np.roll(rest.pop(which), -int(to), axis=0)
        outer = np.concatenate([outer[: at + 1], ring, ring[:1], outer[at:]])
    return outer


def _corners(ring: Line) -> Line:
    """A closed line without the points on its straight stretches."""
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept = ring[np.abs(turns) > 1e-9]
    return kept if len(kept) > 2 else ring
