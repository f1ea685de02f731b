"""Calibration error, Brier score and negative log-likelihood."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from anatozoo.errors import AnatozooError
from anatozoo.metrics.functional import brier, ece, nll

METRICS = [ece, brier, nll]
LABELS = np.array([[0, 1, 1], [2, 0, 2]])
SURE = np.moveaxis(np.eye(3)[LABELS], -1, 0)
"""(3, 2, 3), certain and right."""


def test_four_binary_pixels_by_hand() -> None:
    p, truth = np.array([0.1, 0.1, 0.8, 0.6]), np.array([0, 1, 1, 1])
    assert ece(p, truth, bins=10) == pytest.approx((2 * abs(0.1 - 0.5) + 0.2 + 0.4) / 4)
    assert ece(p, truth, bins=2) == pytest.approx((2 * abs(0.1 - 0.5) + 2 * abs(0.7 - 1)) / 4)
    assert ece(p, truth, bins=1) == pytest.approx(abs(0.4 - 0.75))
    assert brier(p, truth) == pytest.approx((0.01 + 0.81 + 0.04 + 0.16) / 4)
    assert nll(p, truth) == pytest.approx(-np.log([0.9, 0.1, 0.8, 0.6]).mean())


def test_two_pixels_of_three_classes_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).T
    truth = np.array([0, 1])
    assert ece(p, truth, bins=10) == pytest.approx((abs(0.7 - 1) + abs(0.4 - 0)) / 2)
    assert brier(p, truth) == pytest.approx((0.09 + 0.04 + 0.01 + 0.09 + 0.49 + 0.16) / 2)
    assert nll(p, truth) == pytest.approx(-np.log([0.7, 0.3]).mean())


@pytest.mark.parametrize("metric", METRICS)
def test_certain_and_right_is_0(metric: Callable) -> None:
    assert metric(SURE, LABELS) == 0
    assert metric(SURE[1], LABELS == 1) == 0


def test_certain_and_wrong_is_the_worst() -> None:
    wrong = np.roll(SURE, 1, axis=0)
    assert ece(wrong, LABELS) == 1
    assert brier(wrong, LABELS) == 2
    assert brier(SURE[1], LABELS != 1) == 1
    assert nll(wrong, LABELS) == pytest.approx(-math.log(1e-7))
    assert nll(wrong, LABELS, floor=0.01) == pytest.approx(-math.log(0.01))
    assert nll(wrong, LABELS, floor=0) == math.inf


def test_two_classes_score_twice_what_one_scores() -> None:
    rng = np.random.default_rng(0)
    p, truth = rng.random((4, 5, 6)), rng.integers(0, 2, (4, 5, 6))
    both = np.stack([1 - p, p])
    assert brier(both, truth) == pytest.approx(2 * brier(p, truth))
    assert nll(both, truth) == pytest.approx(nll(p, truth))


@pytest.mark.parametrize("metric", METRICS)
def test_tensors_and_half_precision(metric: Callable) -> None:
    logits = torch.randn(5, 30, 45, generator=torch.Generator().manual_seed(0)).mul(3)
    truth = torch.randint(0, 5, (30, 45), generator=torch.Generator().manual_seed(1))
    exact = metric(logits.double().softmax(0), truth)
    assert metric(logits.softmax(0).requires_grad_(), truth.numpy()) == pytest.approx(exact, abs=1e-6)
    for dtype in (torch.float16, torch.bfloat16):
        assert metric(logits.softmax(0).to(dtype), truth) == pytest.approx(exact, abs=5e-3)
    assert metric(torch.sigmoid(logits[0]), truth == 0) == pytest.approx(
        metric(torch.sigmoid(logits[0]).tolist(), (truth == 0).float()), abs=1e-6
    )


@pytest.mark.parametrize("metric", METRICS)
def test_ignored_pixels_may_hold_anything(metric: Callable) -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(3), (6, 7)).transpose(2, 0, 1)
    truth, ignore = rng.integers(0, 3, (6, 7)), rng.random((6, 7)) < 0.3
    clean = metric(p[:, ~ignore], truth[~ignore])
    p[:, ignore], truth[ignore] = np.nan, 255
    assert metric(p, truth, ignore=ignore) == clean
    assert metric(torch.from_numpy(p), truth, ignore=torch.from_numpy(truth == 255)) == clean
    assert metric(p[0], truth == 0, ignore=ignore) == metric(p[0][~ignore], truth[~ignore] == 0)
    assert math.isnan(metric(p, truth, ignore=np.ones((6, 7), bool)))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (3, 1, 2)])
@pytest.mark.parametrize("metric", METRICS)
def test_any_number_of_pixels_and_dimensions(metric: Callable, shape: tuple[int, ...]) -> None:
    p = np.full((4, *shape), 0.25)
    expected = {ece: 0.75, brier: 0.75, nll: math.log(4)}[metric]
    assert metric(p, np.zeros(shape, int)) == pytest.approx(expected)


def test_bins_hold_their_lower_edge_and_the_last_one_1() -> None:
    assert ece([0.5, 0.499], [1, 0], bins=2) == pytest.approx((0.5 + 0.499) / 2)
    assert ece([1.0, 0.9], [1, 0], bins=2) == pytest.approx(abs(0.95 - 0.5))


@pytest.mark.parametrize(
    ("probabilities", "labels", "options", "message"),
    [
        (SURE * 3 - 1, LABELS, {}, r"from -1 to 2 are not all in 0\.\.1"),
        (SURE[0] + 0.01, LABELS == 0, {}, "sigmoid"),
        (np.where(SURE > 0, np.nan, 0), LABELS, {}, r"not all in 0\.\.1"),
        (SURE * 0.9, LABELS, {}, "sum to 1 ± 0.1"),
        (SURE[:2], np.minimum(LABELS, 1), {}, "sum to 1"),
        (SURE, LABELS + 1, {}, "labels hold 3"),
        (SURE, LABELS - 1, {}, "labels hold -1"),
        (SURE, LABELS + 0.5, {}, "classes 0 to 2"),
        (SURE, LABELS * np.nan, {}, "labels hold nan"),
        (SURE[0], LABELS, {}, "labels hold 2, but there are classes 0 to 1"),
        (SURE, LABELS.T, {}, "class first"),
        (SURE[:1], LABELS, {}, "class first"),
        (SURE[None], LABELS, {}, "class first"),
        (0.5, [1], {}, "class first"),
        (SURE, LABELS, {"ignore": LABELS}, "booleans"),
        (SURE, LABELS, {"ignore": (LABELS == 0).T}, "booleans of the labels' shape"),
    ],
)
@pytest.mark.parametrize("metric", METRICS)
def test_wrong_input_is_refused(metric: Callable, probabilities, labels, options: dict, message: str) -> None:
    with pytest.raises(AnatozooError, match=message):
        metric(probabilities, labels, **options)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(AnatozooError, match="at least one"):
        ece(SURE, LABELS, bins=0)
    for floor in (-0.1, 1.0, math.nan):
        with pytest.raises(AnatozooError, match="floor"):
            nll(SURE, LABELS, floor=floor)
