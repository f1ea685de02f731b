"""Calibration against torchmetrics, torch and sums over bins and pixels one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from anatozoo.metrics.functional import brier, ece, nll


def looped_ece(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    """Pixel by pixel into the bin whose edges enclose it, its lower edge included."""
    held: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for c, r in zip(confidence.tolist(), right.tolist(), strict=True):
        fits = [i for i in range(bins) if i <= c * bins < i + 1] or [bins - 1]
        held[fits[0]].append((c, r))
    total = 0.0
    for inside in filter(None, held):
        mean_confidence, accuracy = (sum(column) / len(inside) for column in zip(*inside, strict=True))
        total += len(inside) / len(confidence) * abs(mean_confidence - accuracy)
    return total


def drawn(seed: int, classes: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(classes, *shape, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, shape, generator=generator)


@pytest.mark.parametrize("shape", [(30, 45), (45, 30), (1, 60), (5, 6, 7)])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_classes_match_torchmetrics_and_torch(shape: tuple[int, ...], bins: int) -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, truth = drawn(bins, 4, shape)
    p = logits.softmax(0)
    theirs = metrics.multiclass_calibration_error(
        p.reshape(4, -1).T, truth.reshape(-1), num_classes=4, n_bins=bins, norm="l1"
    ).item()
    assert ece(p, truth, bins=bins) == pytest.approx(theirs, abs=1e-6)
    assert ece(p, truth, bins=bins) == pytest.approx(
        looped_ece(p.amax(0).flatten().numpy(), (p.argmax(0) == truth).flatten().numpy(), bins)
    )
    assert nll(p, truth) == pytest.approx(F.cross_entropy(logits[None], truth[None]).item())
    hot = F.one_hot(truth, 4).movedim(-1, 0)
    assert brier(p, truth) == pytest.approx(4 * F.mse_loss(p, hot.double()).item())


@pytest.mark.parametrize("shape", [(30, 45), (45, 30), (1, 60), (5, 6, 7)])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_one_class_matches_torchmetrics_and_torch(shape: tuple[int, ...], bins: int) -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, truth = drawn(bins, 2, shape)
    p = logits[0].sigmoid()
    theirs = metrics.binary_calibration_error(p, truth, n_bins=bins, norm="l1").item()
    assert ece(p, truth, bins=bins) == pytest.approx(theirs, abs=1e-6)
    assert nll(p, truth) == pytest.approx(F.binary_cross_entropy(p, truth.double()).item())
    assert brier(p, truth) == pytest.approx(F.mse_loss(p, truth.double()).item())


@given(
    pixels=st.lists(st.tuples(st.integers(0, 64), st.booleans()), min_size=1, max_size=40),
    bins=st.sampled_from([1, 2, 4, 16, 64]),
)
@settings(deadline=None, max_examples=150)
def test_probabilities_on_the_edges_of_bins(pixels: list[tuple[int, bool]], bins: int) -> None:
    """Multiples of 1/64 lie on edges, 0 and 1 among them, and are exact."""
    p, truth = (np.array(column) for column in zip(*pixels, strict=True))
    p = p / 64
    assert ece(p, truth, bins=bins) == pytest.approx(looped_ece(p, truth, bins), abs=1e-12)
    assert ece(p.astype(np.float32), truth, bins=bins) == pytest.approx(looped_ece(p, truth, bins), abs=1e-6)
    true = [q if t else 1 - q for q, t in zip(p, truth, strict=True)]
    expected = sum(-math.log(max(q, 1e-7)) for q in true) / len(true)
    assert nll(p, truth) == pytest.approx(expected, abs=1e-9)
    assert brier(p, truth) == pytest.approx(sum((1 - q) ** 2 for q in true) / len(true))
