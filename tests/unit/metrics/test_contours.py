"""Closed contours: distances between two, and self-intersections of one."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from anatozoo.errors import GeometryError
from anatozoo.metrics.contours import self_intersections
from anatozoo.metrics.functional import (
    contour_distance_mm,
    contour_distance_px,
    contour_distances,
    contour_hausdorff_mm,
    contour_hausdorff_px,
)

SQUARE = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 40.0], [0.0, 40.0]])


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


def ring(radius: float, nodes: int, centre: tuple[float, float] = (100.0, 100.0)) -> np.ndarray:
    angle = np.arange(nodes) * 2 * np.pi / nodes
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def test_rings_of_different_numbers_of_vertices() -> None:
    # Polygons of so many edges differ from circles by less than 2e-4 pixels.
    distances = contour_distances(ring(45, 2000), ring(40, 1501))
    for value in (distances.mean(), distances.mean_to_reference(), distances.mean_to_prediction()):
        assert value == pytest.approx(5, abs=1e-3)
    assert distances.hausdorff() == pytest.approx(5, abs=1e-3)
    assert distances.hausdorff(0) == pytest.approx(5, abs=1e-3)


def test_vertices_on_the_same_line_change_nothing() -> None:
    finer = np.concatenate(
        [np.linspace(a, b, 7)[:-1] for a, b in zip(SQUARE, np.roll(SQUARE, -1, 0), strict=True)]
    )
    assert contour_hausdorff_px(finer, SQUARE) == pytest.approx(0, abs=1e-12)
    assert contour_distance_px(finer[::-1], np.roll(SQUARE, 2, 0)) == pytest.approx(0, abs=1e-12)


def test_a_square_in_a_square_by_hand() -> None:
    inner = SQUARE / 2 + 10
    distances = contour_distances(SQUARE, inner)
    # From the outer square: 10 beside the inner one, and hypot(10, t) with t in 0..10 beyond its corners.
    beyond = (math.sqrt(2) + math.asinh(1)) / 2 * 10
    assert distances.mean_to_reference() == pytest.approx((20 * 10 + 20 * beyond) / 40, abs=1e-3)
    assert distances.mean_to_prediction() == pytest.approx(10)
    assert distances.mean() == pytest.approx((160 * distances.mean_to_reference() + 80 * 10) / 240)
    assert distances.hausdorff() == pytest.approx(math.hypot(10, 10))
    assert distances.hausdorff(50) == pytest.approx(10)
    # A tenth of the outer square lies within 2 pixels of its corners, 8 from where the inner square ends.
    assert distances.hausdorff(90) == pytest.approx(math.hypot(10, 8), abs=0.35)


def test_percentiles_count_length_and_not_vertices() -> None:
    crowded = np.concatenate([SQUARE, np.linspace([0, 40], [0, 0], 300)[1:-1]])
    spike = np.insert(crowded, 1, [[19, 0], [20, -9], [21, 0]], axis=0)
    assert contour_hausdorff_px(spike, SQUARE) == 9.0
    assert contour_hausdorff_px(spike, SQUARE, percentile=80) == 0.0
    assert contour_distance_px(spike, SQUARE) == pytest.approx(
        contour_distance_px(np.insert(SQUARE, 1, [[19, 0], [20, -9], [21, 0]], axis=0), SQUARE), abs=1e-6
    )


def test_a_coarser_step_misses_at_most_half_of_it() -> None:
    # The farthest point of the square is between its vertices, as far from the notch's one side as the other.
    bent = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 40.0], [27.3, 3.0], [0.0, 40.0]])
    exact = contour_distances(SQUARE, bent, step_px=0.01).hausdorff()
    assert exact > contour_distances(SQUARE, bent, step_px=100).hausdorff() + 1
    for step in (0.5, 1.0, 5.0, 100.0):
        coarse = contour_distances(SQUARE, bent, step_px=step).hausdorff()
        assert exact - step / 2 <= coarse <= exact + 0.005


def test_millimetres_follow_each_axis() -> None:
    right = SQUARE + [3.0, 0.0]
    assert contour_hausdorff_px(right, SQUARE) == 3.0
    assert contour_hausdorff_mm(right, SQUARE, (0.5, 2.0)) == 1.5
    assert contour_hausdorff_mm(right, SQUARE, (0.5, 2.0), percentile=100) == 1.5
    down = contour_distances(torch.from_numpy(SQUARE + [0.0, 3.0]), SQUARE.tolist(), (0.5, 2.0))
    assert (down.hausdorff(), down.unit) == (6.0, "mm")
    assert contour_distance_mm(right, SQUARE, 0.35) == pytest.approx(
        0.35 * contour_distance_px(right, SQUARE)
    )
    stretched = contour_distance_px(right * (0.5, 2.0), SQUARE * (0.5, 2.0))
    assert contour_distance_mm(right, SQUARE, (0.5, 2.0)) == pytest.approx(stretched, abs=5e-3)


def test_a_contour_that_shrank_to_a_point_lies_somewhere() -> None:
    point = np.full((5, 2), 20.0)
    distances = contour_distances(point, SQUARE)
    assert distances.mean_to_reference() == 20.0
    assert distances.hausdorff() == pytest.approx(math.hypot(20, 20))
    assert contour_hausdorff_px(point, point + [3, 4]) == contour_distance_px(point, point + [3, 4]) == 5.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: self_intersections([[0, 0], [1, 1]]), "at least three"),
        (lambda: self_intersections(np.zeros((4, 3))), "at least three"),
        (lambda: self_intersections(SQUARE * math.nan), "finite"),
        (lambda: contour_distances(SQUARE, SQUARE[:2]), "at least three"),
        (lambda: contour_distances(np.zeros((0, 2)), SQUARE), "at least three"),
        (lambda: contour_distance_px(SQUARE, [[0, 0], [1, math.inf], [2, 2]]), "finite"),
        (lambda: contour_distances(SQUARE, SQUARE, step_px=0), "step_px"),
        (lambda: contour_distances(SQUARE, SQUARE, step_px=math.inf), "step_px"),
        (lambda: contour_distances(SQUARE * 1e7, SQUARE), "too long"),
        (lambda: contour_distance_mm(SQUARE, SQUARE, None), "give spacing_mm"),
        (lambda: contour_hausdorff_mm(SQUARE, SQUARE, None), "give spacing_mm"),
        (lambda: contour_distances(SQUARE, SQUARE, (1.0, 0.0)), "positive"),
        (lambda: contour_hausdorff_px(SQUARE, SQUARE, percentile=101), r"0\.\.100"),
    ],
)
def test_wrong_input_is_refused(call: Callable, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        call()
