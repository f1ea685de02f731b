import math

import numpy as np
import pytest
import torch

from anatozoo.errors import GeometryError
from anatozoo.metrics.functional import (
    assd,
    dice,
    hausdorff,
    iou,
    landmark_distances,
    landmark_error,
    landmark_mse_px2,
    mean_surface_distance,
    nsd,
    surface_distances,
)
from anatozoo.metrics.surface import surface_points

EMPTY = np.zeros((30, 45), bool)


def box(rows: slice, columns: slice, shape: tuple[int, int] = (30, 45)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


A = box(slice(5, 15), slice(10, 20))
SHIFTED = box(slice(5, 15), slice(13, 23))


def test_overlap_of_shifted_boxes() -> None:
    assert dice(A, SHIFTED) == 2 * 70 / 200
    assert iou(A, SHIFTED) == 70 / 130
    assert dice(A, A) == iou(A, A) == 1.0


def test_distances_of_shifted_boxes_follow_each_axis_spacing() -> None:
    assert hausdorff(A, SHIFTED) == 3.0
    assert hausdorff(A, SHIFTED, (0.5, 2.0)) == 1.5  # the shift is along x, the first spacing
    assert hausdorff(A.T, SHIFTED.T, (0.5, 2.0)) == 6.0
    assert hausdorff(A, SHIFTED, 0.35) == pytest.approx(1.05)


def test_distances_of_nested_boxes_differ_by_direction() -> None:
    large, small = box(slice(5, 25), slice(10, 40)), box(slice(10, 11), slice(15, 16))
    to_reference, to_prediction = mean_surface_distance(small, large)
    assert to_reference == 5.0
    assert to_prediction > 10.0
    assert hausdorff(small, large) == math.hypot(14, 24)
    assert hausdorff(small, large, percentile=0) == 5.0
    assert mean_surface_distance(large, small) == (to_prediction, to_reference)


def test_tolerance_is_inclusive() -> None:
    column, other = box(slice(0, 30), slice(10, 11)), box(slice(0, 30), slice(12, 13))
    assert nsd(column, other, 1.999) == 0.0
    assert nsd(column, other, 2.0) == 1.0
    assert nsd(column, other, 1.0, (0.5, 7.0)) == 1.0
    assert assd(column, other) == 2.0


def test_surface_of_a_full_image_is_its_border() -> None:
    points = surface_points(np.ones((6, 9), bool))
    assert len(points) == 2 * 9 + 2 * 4
    assert all(r in (0, 5) or c in (0, 8) for r, c in points)


def test_surface_has_neighbours_by_faces_only() -> None:
    cross = np.zeros((5, 5), bool)
    cross[2, 1:4] = cross[1:4, 2] = True
    assert len(surface_points(cross)) == 4  # the centre has all four face neighbours though no corner ones
    assert len(surface_points(np.ones((3, 3, 3), bool))) == 26


@pytest.mark.parametrize("pixel", [(0, 0), (29, 44), (12, 7)])
def test_single_pixels(pixel: tuple[int, int]) -> None:
    one = EMPTY.copy()
    one[pixel] = True
    other = EMPTY.copy()
    other[10, 10] = True
    expected = math.hypot(pixel[0] - 10, pixel[1] - 10)
    assert hausdorff(one, other) == assd(one, other) == expected
    assert hausdorff(one, one) == 0.0
    assert dice(one, one) == 1.0


def test_both_empty_is_nan_whatever_the_policy() -> None:
    values = [dice(EMPTY, EMPTY), iou(EMPTY, EMPTY), hausdorff(EMPTY, EMPTY), assd(EMPTY, EMPTY, missing=7.0)]
    assert all(math.isnan(v) for v in [*values, nsd(EMPTY, EMPTY, 1.0), *mean_surface_distance(EMPTY, EMPTY)])


@pytest.mark.parametrize("pair", [(A, EMPTY), (EMPTY, A)])
def test_one_empty_follows_the_policy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    diagonal = math.hypot(30, 45)
    assert dice(*pair) == iou(*pair) == 0.0
    assert hausdorff(*pair) == assd(*pair) == diagonal
    assert hausdorff(*pair, (2.0, 3.0)) == math.hypot(30 * 3, 45 * 2)
    assert mean_surface_distance(*pair) == (diagonal, diagonal)
    assert nsd(*pair, 5.0) == 0.0
    assert math.isnan(hausdorff(*pair, missing="nan"))
    assert math.isnan(nsd(*pair, 5.0, missing="nan"))
    assert hausdorff(*pair, missing=12.5) == 12.5
    distances = surface_distances(*pair)
    assert distances.missing
    assert not distances.absent


def test_no_distance_exceeds_the_worst() -> None:
    corners = EMPTY.copy()
    corners[0, 0] = True
    opposite = EMPTY.copy()
    opposite[-1, -1] = True
    assert hausdorff(corners, opposite) < surface_distances(corners, opposite).worst


def test_tensors_lists_and_integers_are_masks_too() -> None:
    assert hausdorff(torch.from_numpy(A), SHIFTED.astype(np.uint8)) == 3.0
    assert dice(torch.from_numpy(A).float(), A.tolist()) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dice(A, A.T), "different shapes"),
        (lambda: dice(A * 2, A), "only 0 and 1"),
        (lambda: dice(A * 0.4, A), "only 0 and 1"),
        (lambda: dice(np.zeros((0, 4)), np.zeros((0, 4))), "no pixels"),
        (lambda: hausdorff(A, A, (1.0, 1.0, 1.0)), "2 positive numbers"),
        (lambda: hausdorff(A, A, 0.0), "positive"),
        (lambda: hausdorff(A, A, (1.0, math.nan)), "positive"),
        (lambda: hausdorff(A, A, percentile=101), r"0\.\.100"),
        (lambda: hausdorff(A, EMPTY, missing="zero"), "'worst', 'nan' or a number"),
        (lambda: nsd(A, A, -1.0), "at least 0"),
        (lambda: nsd(A, A, math.nan), "at least 0"),
        (lambda: landmark_error(np.zeros((3, 2)), np.zeros((4, 2))), "landmarks of shapes"),
        (lambda: landmark_error(np.zeros((0, 2)), np.zeros((0, 2))), "landmarks of shapes"),
        (lambda: landmark_mse_px2(np.zeros(4), np.zeros(4)), "landmarks of shapes"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        call()


def test_landmarks() -> None:
    truth = np.array([[10.0, 20.0], [30.0, 40.0]])
    moved = truth + np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(landmark_distances(moved, truth), [5.0, 0.0])
    assert landmark_error(moved, truth) == 2.5
    assert landmark_mse_px2(moved, truth) == 25 / 4
    np.testing.assert_allclose(landmark_distances(moved, truth, (2.0, 0.5)), [math.hypot(6, 2), 0.0])
    assert landmark_error(torch.from_numpy(moved), truth, 0.35) == pytest.approx(0.875)
