"""Overlap, sizes, and metrics of each class of label maps."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from anatozoo.errors import GeometryError
from anatozoo.metrics.functional import (
    area_error_mm2,
    dice,
    iou,
    per_class,
    precision,
    relative_size_error,
    sensitivity,
    size_error_px,
    volume_error_ml,
)

EMPTY = np.zeros((30, 45), bool)
OVERLAPS = [dice, iou, sensitivity, precision]
Metric = Callable[[np.ndarray, np.ndarray], float]


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = EMPTY.copy()
    mask[rows, columns] = True
    return mask


A = box(slice(5, 15), slice(10, 20))
B = box(slice(5, 15), slice(13, 18))  # half of A


def test_a_mask_that_is_twice_too_large() -> None:
    assert dice(A, B) == 100 / 150
    assert iou(A, B) == 0.5
    assert sensitivity(A, B) == 1.0
    assert precision(A, B) == 0.5
    assert size_error_px(A, B) == 50.0
    assert relative_size_error(A, B) == 1.0
    assert area_error_mm2(A, B, (0.5, 4.0)) == 100.0
    assert area_error_mm2(A, B, 0.1) == pytest.approx(0.5)


def test_a_mask_that_is_twice_too_small() -> None:
    assert sensitivity(B, A) == 0.5
    assert precision(B, A) == 1.0
    assert size_error_px(B, A) == -50.0
    assert relative_size_error(B, A) == -0.5
    assert area_error_mm2(B, A, (0.5, 4.0)) == -100.0


def test_volumes_are_in_millilitres() -> None:
    found, true = np.zeros((2, 20, 30, 40), bool)
    found[:10, :10, :10] = True
    assert volume_error_ml(found, true, 1.0) == 1.0
    assert volume_error_ml(true, found, (0.5, 2.0, 3.0)) == -3.0
    assert size_error_px(found, true) == 1000.0


@pytest.mark.parametrize("metric", [*OVERLAPS, size_error_px, relative_size_error])
def test_both_empty_is_nan(metric: Metric) -> None:
    assert math.isnan(metric(EMPTY, EMPTY))


def test_both_empty_is_nan_with_a_spacing() -> None:
    assert math.isnan(area_error_mm2(EMPTY, EMPTY, 0.5))
    assert math.isnan(volume_error_ml(EMPTY[None], EMPTY[None], 0.5))


@pytest.mark.parametrize("metric", OVERLAPS)
@pytest.mark.parametrize("pair", [(A, EMPTY), (EMPTY, A)])
def test_overlap_is_0_where_one_is_empty(metric: Metric, pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert metric(*pair) == 0.0


def test_sizes_where_one_is_empty() -> None:
    assert (size_error_px(A, EMPTY), size_error_px(EMPTY, A)) == (100.0, -100.0)
    assert relative_size_error(EMPTY, A) == -1.0
    assert math.isnan(relative_size_error(A, EMPTY))


@pytest.mark.parametrize("metric", OVERLAPS)
def test_single_pixels_full_images_and_borders(metric: Metric) -> None:
    corner, other = EMPTY.copy(), EMPTY.copy()
    corner[-1, -1] = other[0, 0] = True
    assert metric(corner, corner) == metric(~EMPTY, ~EMPTY) == 1.0
    assert metric(corner, other) == 0.0


LABELS = np.zeros((30, 45), np.uint8)
LABELS[A] = 1
LABELS[20:28, 30:44] = 3


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.from_numpy, lambda x: torch.from_numpy(x).float(), np.int64]
)
def test_each_class_of_label_maps(kind: Callable) -> None:
    truth = LABELS.copy()
    truth[truth == 1] = 0
    truth[B] = 1
    found = per_class(dice, kind(LABELS), kind(truth), ["lung", "liver", "heart"])
    assert list(found) == ["lung", "liver", "heart"]
    assert found["lung"] == 100 / 150
    assert math.isnan(found["liver"])
    assert found["heart"] == 1.0
    assert per_class(size_error_px, kind(LABELS), kind(truth), {"heart": 3, "lung": 1}) == {
        "heart": 0,
        "lung": 50,
    }


def test_each_class_of_volumes() -> None:
    labels = np.stack([LABELS, 0 * LABELS])
    assert per_class(volume_error_ml, labels, 0 * labels, {"lung": 1, "heart": 3}, spacing_mm=10.0) == {
        "lung": 100.0,
        "heart": 112.0,
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: per_class(dice, LABELS, LABELS, ["lung", "liver"]), "holds 3, but its classes"),
        (lambda: per_class(dice, LABELS * 0, LABELS, ["lung", "liver"]), "holds 3, but its classes"),
        (lambda: per_class(dice, LABELS - 0.5, LABELS, ["a", "b", "c"]), r"holds -0\.5, 0\.5, 2\.5"),
        (lambda: per_class(dice, np.where(A, np.nan, 0), LABELS, ["a", "b", "c"]), "holds nan"),
        (lambda: per_class(dice, np.arange(30)[None], np.arange(30)[None], ["a"]), r"8, 9, \.\.\., but"),
        (lambda: per_class(dice, LABELS, LABELS.T, ["a", "b", "c"]), "different shapes"),
        (lambda: per_class(dice, LABELS, LABELS, {"a": 1, "b": 1, "c": 3}), "different values"),
        (lambda: per_class(dice, LABELS, LABELS, {"background": 0, "a": 1, "c": 3}), "none of them 0"),
        (
            lambda: per_class(area_error_mm2, LABELS, LABELS, ["a", "b", "c"], spacing_mm=None),
            "give spacing_mm",
        ),
        (lambda: area_error_mm2(A[None], A[None], 1.0), "an area is of"),
        (lambda: volume_error_ml(A, A, 1.0), "a volume is of"),
        (lambda: area_error_mm2(A, A, (1.0, -1.0)), "positive"),
        (lambda: sensitivity(A, A.T), "different shapes"),
        (lambda: precision(A * 3, A), "only 0 and 1"),
        (lambda: size_error_px(A * np.nan, A), "only 0 and 1"),
    ],
)
def test_wrong_input_is_refused(call: Callable, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        call()
