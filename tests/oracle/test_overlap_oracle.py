"""Overlap and sizes against MONAI, torchmetrics, SciPy and counting one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

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

SHAPES = [(30, 45), (45, 30), (1, 60), (60, 1), (6, 9, 14)]


def counted(a: np.ndarray, b: np.ndarray) -> dict[str, int]:
    """True and false positives and false negatives, pixel by pixel."""
    names = {(True, True): "tp", (True, False): "fp", (False, True): "fn", (False, False): "tn"}
    counts = dict.fromkeys(names.values(), 0)
    for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        counts[names[x, y]] += 1
    return counts


@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_any_masks_match_counting(data: st.DataObject, shape: tuple[int, ...]) -> None:
    a, b = (data.draw(st.one_of(arrays(bool, shape, fill=st.just(False)), arrays(bool, shape))) for _ in "ab")
    n = counted(a, b)
    found, true, either = n["tp"] + n["fp"], n["tp"] + n["fn"], n["tp"] + n["fp"] + n["fn"]
    if not either:
        assert all(math.isnan(f(a, b)) for f in (dice, iou, sensitivity, precision, size_error_px))
        return
    assert dice(a, b) == pytest.approx(2 * n["tp"] / (found + true))
    assert iou(a, b) == pytest.approx(n["tp"] / either)
    assert sensitivity(a, b) == pytest.approx(n["tp"] / true if true else 0)
    assert precision(a, b) == pytest.approx(n["tp"] / found if found else 0)
    assert size_error_px(a, b) == n["fp"] - n["fn"]
    if true:
        assert relative_size_error(a, b) == pytest.approx(found / true - 1)
    else:
        assert math.isnan(relative_size_error(a, b))
    if len(shape) == 2:
        assert area_error_mm2(a, b, (0.7, 1.3)) == pytest.approx((found - true) * 0.91)
    else:
        assert volume_error_ml(a, b, (0.7, 1.3, 2.0)) == pytest.approx((found - true) * 1.82e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_libraries_give_the_same(shape: tuple[int, ...]) -> None:
    monai = pytest.importorskip("monai.metrics")
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    distance = pytest.importorskip("scipy.spatial.distance")
    rng = np.random.default_rng(len(shape))
    a, b = rng.random((2, *shape)) < 0.4
    x, y = (torch.from_numpy(m) for m in (a, b))
    assert dice(a, b) == pytest.approx(1 - distance.dice(a.ravel(), b.ravel()))
    assert iou(a, b) == pytest.approx(1 - distance.jaccard(a.ravel(), b.ravel()))
    assert dice(a, b) == pytest.approx(metrics.binary_f1_score(x, y).item(), abs=1e-6)
    assert iou(a, b) == pytest.approx(metrics.binary_jaccard_index(x, y).item(), abs=1e-6)
    assert sensitivity(a, b) == pytest.approx(metrics.binary_recall(x, y).item(), abs=1e-6)
    assert precision(a, b) == pytest.approx(metrics.binary_precision(x, y).item(), abs=1e-6)
    matrix = monai.get_confusion_matrix(x[None, None].float(), y[None, None].float())
    for ours, name in ((sensitivity, "sensitivity"), (precision, "precision")):
        theirs = monai.compute_confusion_matrix_metric(name, matrix).item()
        assert ours(a, b) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_class_of_label_maps_matches_one_hot(shape: tuple[int, ...]) -> None:
    monai = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 4, (2, *shape))
    hot = [torch.from_numpy(np.stack([m == v for v in (1, 2, 3)]))[None].float() for m in (a, b)]
    theirs = monai.compute_dice(*hot, include_background=True)[0].tolist()
    assert list(per_class(dice, a, b, ["x", "y", "z"]).values()) == pytest.approx(theirs, abs=1e-6)
