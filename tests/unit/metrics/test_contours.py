"""Self-intersections of closed contours."""

import numpy as np
import pytest

from anatozoo.metrics.contours import self_intersections


def crossings_one_by_one(points: np.ndarray) -> int:
    """Solve for the crossing point of each pair of edges that are no neighbours."""
    count, n = 0, len(points)
    for i in range(n):
        for j in range(i + 1, n):
            a, b = points[i], points[(i + 1) % n] - points[i]
            c, d = points[j], points[(j + 1) % n] - points[j]
            if j in (i, (i + 1) % n) or (j + 1) % n == i:
                continue
            matrix = np.stack([b, -d], 1)
            if abs(np.linalg.det(matrix)) > 1e-12:
                s, t = np.linalg.solve(matrix, c - a)
                count += int(0 < s < 1 and 0 < t < 1)
    return count


def test_a_square_has_none_and_a_bow_tie_one() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]])
    assert self_intersections(square) == 0
    assert self_intersections(square[[0, 2, 1, 3]]) == 1


def test_a_pentagram_has_five() -> None:
    angle = 2 * np.pi * 2 * np.arange(5) / 5
    assert self_intersections(np.stack([np.cos(angle), np.sin(angle)], 1)) == 5


@pytest.mark.parametrize("seed", range(20))
def test_random_contours_equal_brute_force(seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(4 + seed, 2))
    assert self_intersections(points) == crossings_one_by_one(points)


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least three"):
        self_intersections([[0, 0], [1, 1]])
