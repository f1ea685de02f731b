"""Distances between contours against nearest points found on very finely sampled ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import cKDTree

from anatozoo.metrics.functional import contour_distances

FINE = 0.01


def fine(contour: np.ndarray, spacing: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints of short pieces of a closed contour and the pieces' lengths."""
    points, lengths = [], []
    for a, b in zip(contour * spacing, np.roll(contour, -1, axis=0) * spacing, strict=True):
        length = np.linalg.norm(b - a)
        pieces = max(1, int(np.ceil(length / FINE)))
        middle = (np.arange(pieces) + 0.5)[:, None] / pieces
        points.append(a + middle * (b - a))
        lengths.append(np.full(pieces, length / pieces))
    return np.concatenate(points), np.concatenate(lengths)


def star(seed: int, nodes: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = np.arange(nodes) * 2 * np.pi / nodes
    radius = rng.uniform(8, 20, (nodes, 1))
    return 25 + rng.normal(0, 2, 2) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def assert_same(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float]) -> None:
    (p, p_lengths), (q, q_lengths) = fine(a, spacing), fine(b, spacing)
    there, back = cKDTree(q).query(p)[0], cKDTree(p).query(q)[0]
    ours = contour_distances(a, b, spacing)
    # A nearest midpoint is at most half a piece beside the nearest point of the line. Sums over samples of
    # half a pixel may miss another hundredth, and the largest distance between two of them half a step.
    assert ours.mean_to_reference() == pytest.approx(np.average(there, weights=p_lengths), abs=0.02)
    assert ours.mean_to_prediction() == pytest.approx(np.average(back, weights=q_lengths), abs=0.02)
    pooled = np.average(np.concatenate([there, back]), weights=np.concatenate([p_lengths, q_lengths]))
    assert ours.mean() == pytest.approx(pooled, abs=0.02)
    step = 0.5 * max(spacing)
    assert max(there.max(), back.max()) - step / 2 <= ours.hausdorff() <= max(there.max(), back.max()) + FINE
    for percentile in (50, 95):
        exact = max(
            np.percentile(d, percentile, method="inverted_cdf", weights=w)
            for d, w in ((there, p_lengths), (back, q_lengths))
        )
        assert ours.hausdorff(percentile) == pytest.approx(exact, abs=step)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.3)])
@pytest.mark.parametrize(("nodes", "others"), [(3, 3), (26, 26), (26, 41), (200, 7)])
@pytest.mark.parametrize("seed", range(3))
def test_stars_match_fine_sampling(seed: int, nodes: int, others: int, spacing: tuple[float, float]) -> None:
    assert_same(star(seed, nodes), star(100 + seed, others), spacing)


@given(
    a=arrays(float, st.tuples(st.integers(3, 8), st.just(2)), elements=st.integers(0, 12).map(float)),
    b=arrays(float, st.tuples(st.integers(3, 8), st.just(2)), elements=st.integers(0, 12).map(float)),
)
@settings(deadline=None, max_examples=60)
def test_any_contours_match_fine_sampling(a: np.ndarray, b: np.ndarray) -> None:
    """Crossing, doubled and degenerate ones among them; only one that is a point has no length to weigh."""
    if np.ptp(a, axis=0).any() and np.ptp(b, axis=0).any():
        assert_same(a, b, (1.0, 1.0))
