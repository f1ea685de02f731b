"""Distances between corresponding landmarks."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from anatozoo.errors import GeometryError
from anatozoo.metrics.functional import (
    landmark_distances,
    landmark_error_mm,
    landmark_error_px,
    landmark_mse_mm2,
    landmark_mse_px2,
    landmark_percentile_mm,
    landmark_percentile_px,
)

TRUTH = np.array([[10.0, 20.0], [30.0, 40.0]])
MOVED = TRUTH + np.array([[3.0, 4.0], [0.0, 0.0]])


def test_in_pixels() -> None:
    np.testing.assert_allclose(landmark_distances(MOVED, TRUTH), [5.0, 0.0])
    assert landmark_error_px(MOVED, TRUTH) == 2.5
    assert landmark_mse_px2(MOVED, TRUTH) == 25 / 4
    assert [landmark_percentile_px(MOVED, TRUTH, p) for p in (0, 50, 95, 100)] == [0, 2.5, 4.75, 5]


def test_in_millimetres_x_comes_first() -> None:
    away = math.hypot(6, 2)
    np.testing.assert_allclose(landmark_distances(MOVED, TRUTH, (2.0, 0.5)), [away, 0.0])
    assert landmark_error_mm(MOVED, TRUTH, (2.0, 0.5)) == pytest.approx(away / 2)
    assert landmark_percentile_mm(MOVED, TRUTH, 100, (2.0, 0.5)) == pytest.approx(away)
    assert landmark_mse_mm2(MOVED, TRUTH, (2.0, 0.5)) == pytest.approx(away**2 / 4)
    assert landmark_error_mm(torch.from_numpy(MOVED), TRUTH, 0.35) == pytest.approx(0.875)


def test_points_in_space() -> None:
    away = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 4.0]])
    truth = np.arange(6.0).reshape(2, 3)
    assert landmark_error_px(truth + away, truth.tolist()) == 3.5
    assert landmark_mse_px2(truth + away, truth) == 25 / 6
    assert landmark_error_mm(truth + away, truth, (2.0, 1.0, 0.5)) == pytest.approx((3 + 2) / 2)


def test_one_landmark_and_integers() -> None:
    assert landmark_error_px([[3, 4]], [[0, 0]]) == 5.0
    assert landmark_percentile_px(torch.tensor([[200, 0]], dtype=torch.uint8), [[250, 0]], 30) == 50.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: landmark_error_px(np.zeros((3, 2)), np.zeros((4, 2))), "landmarks of shapes"),
        (lambda: landmark_error_px(np.zeros((0, 2)), np.zeros((0, 2))), "landmarks of shapes"),
        (lambda: landmark_mse_px2(np.zeros(4), np.zeros(4)), "landmarks of shapes"),
        (lambda: landmark_mse_px2(np.zeros((4, 4)), np.zeros((4, 4))), "landmarks of shapes"),
        (lambda: landmark_distances([[0, 0], [math.nan, 1]], TRUTH), "number 1 are not finite"),
        (lambda: landmark_error_px(TRUTH, TRUTH * math.inf), "number 0, 1 are not finite"),
        (lambda: landmark_mse_px2(TRUTH * math.nan, TRUTH * math.nan), "not finite"),
        (lambda: landmark_error_mm(MOVED, TRUTH, None), "give spacing_mm"),
        (lambda: landmark_percentile_mm(MOVED, TRUTH, 95, None), "give spacing_mm"),
        (lambda: landmark_mse_mm2(MOVED, TRUTH, None), "give spacing_mm"),
        (lambda: landmark_error_mm(MOVED, TRUTH, (1, 1, 1)), "2 positive numbers"),
        (lambda: landmark_error_mm(0.0, 0.0, 1.0), "landmarks of shapes"),
        (lambda: landmark_percentile_px(MOVED, TRUTH, -1), r"0\.\.100"),
        (lambda: landmark_percentile_mm(MOVED, TRUTH, math.nan, 1.0), r"0\.\.100"),
    ],
)
def test_wrong_input_is_refused(call: Callable, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        call()
