"""Plausibility of contours that are given by landmarks."""

import numpy as np
import numpy.typing as npt


def self_intersections(points: npt.ArrayLike) -> int:
    """How often a closed contour crosses itself.

    Args:
        points: (N, 2) vertices x, y in order; the last is joined to the first.

    Returns:
        Number of pairs of edges that cross in their interiors. Edges that share an end do not count, nor do
        edges that only touch.

    Raises:
        ValueError: `points` are not (N, 2) with N of at least 3.
    """
    start = np.asarray(points, dtype=np.float64)
    if start.ndim != 2 or start.shape[1] != 2 or len(start) < 3:
        raise ValueError(f"a closed contour is (N, 2) with at least three points, not {start.shape}.")
    end = np.roll(start, -1, axis=0)

    def side(point: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """On which side of edge i (rows) point j (columns) lies."""
        edge, to = (end - start)[:, None], point[None] - start[:, None]
        return np.sign(edge[..., 0] * to[..., 1] - edge[..., 1] * to[..., 0])

    separated = side(start) * side(end) < 0
    return int((separated & separated.T).sum()) // 2
