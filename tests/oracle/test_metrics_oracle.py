"""Surface metrics against all pairs of surface pixels, SciPy's transforms and MONAI."""

import math

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from anatozoo.metrics import surface
from anatozoo.metrics.functional import dice, iou, surface_distances

SHAPES = [(30, 45), (45, 30), (1, 40), (40, 1), (9, 12, 7), (5, 5, 20), (1, 9, 14)]


def brute_surface(mask: np.ndarray) -> np.ndarray:
    """A pixel of the mask with a face neighbour that is not in it, looked up one by one."""
    points = []
    for index in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                other = index.copy()
                other[axis] += step
                if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                    points.append(tuple(index))
    return np.array(sorted(set(points)), dtype=float).reshape(-1, mask.ndim)


def brute_distances(a: np.ndarray, b: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances in both directions from the matrix of all pairs."""
    p, q = brute_surface(a) * spacing, brute_surface(b) * spacing
    matrix = np.sqrt(np.square(p[:, None] - q[None]).sum(-1))
    return matrix.min(1), matrix.min(0)


def blobs(shape: tuple[int, ...], seed: int, width: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    fields = [ndi.gaussian_filter(rng.normal(size=shape), width) for _ in range(2)]
    return tuple(field > np.quantile(field, 0.6) for field in fields)


def assert_same(a: np.ndarray, b: np.ndarray, spacing_xyz: tuple[float, ...]) -> None:
    forward, backward = brute_distances(a, b, np.array(spacing_xyz[::-1]))
    both = np.concatenate([forward, backward])
    # Half-way between possible distances, so that rounding cannot tip a pixel over the tolerance.
    tolerance = float(np.median(both)) + 1e-4
    measured = surface_distances(a, b, spacing_xyz)
    for ours in (measured, surface_distances(a, b).in_mm(spacing_xyz)):
        np.testing.assert_allclose(ours.to_reference, forward, atol=1e-9)
        np.testing.assert_allclose(ours.to_prediction, backward, atol=1e-9)
        for percentile in (0, 37.5, 95, 100):
            expected = max(np.percentile(forward, percentile), np.percentile(backward, percentile))
            assert ours.hausdorff(percentile) == pytest.approx(expected, abs=1e-9)
        assert ours.mean_to_reference() == pytest.approx(forward.mean(), abs=1e-9)
        assert ours.mean_to_prediction() == pytest.approx(backward.mean(), abs=1e-9)
        assert ours.assd() == pytest.approx(both.mean(), abs=1e-9)
        assert ours.nsd(tolerance) == pytest.approx(np.mean(both <= tolerance))


# How much image there is per surface pixel chooses between k-d trees and distance transforms.
@pytest.fixture(params=[0, 10**9], ids=["trees", "transforms"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface, "_PIXELS_PER_POINT", request.param)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_random_shapes_match_all_pairs(shape: tuple[int, ...], seed: int) -> None:
    a, b = blobs(shape, seed)
    assert_same(a, b, (1.0,) * len(shape))
    assert_same(a, b, (0.7, 1.3, 2.9)[: len(shape)])


def test_large_sparse_masks_match_whichever_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 300, 470)) < 0.001
    found = []
    for threshold in (0, 10**9):
        monkeypatch.setattr(surface, "_PIXELS_PER_POINT", threshold)
        found.append(surface_distances(a, b, (0.3, 0.7)))
    np.testing.assert_allclose(found[0].to_reference, found[1].to_reference, rtol=1e-12)
    np.testing.assert_allclose(found[0].to_prediction, found[1].to_prediction, rtol=1e-12)


def masks_of(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Masks with much or little in them, single pixels and empty ones among them."""
    sparse = arrays(bool, shape, fill=st.just(False))
    return st.one_of(sparse, arrays(bool, shape))


@given(data=st.data(), shape=array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_masks_match_all_pairs(data: st.DataObject, shape: tuple[int, ...]) -> None:
    a, b = (data.draw(arrays(bool, shape)) for _ in range(2))
    spacing = tuple(data.draw(st.floats(0.1, 10)) for _ in shape)
    ours = surface_distances(a, b, spacing)
    assert ours.absent == (not a.any() and not b.any())
    assert ours.missing == (a.any() != b.any())
    if a.any() and b.any():
        assert_same(a, b, spacing)
        swapped = surface_distances(b, a, spacing)
        assert swapped.hausdorff(95) == ours.hausdorff(95)
        assert ours.hausdorff() <= ours.worst
        assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)))


@pytest.mark.parametrize("shape", [(30, 45), (45, 30), (1, 60), (6, 9, 14)])
@given(data=st.data())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_any_masks_that_are_not_square_match_all_pairs(data: st.DataObject, shape: tuple[int, ...]) -> None:
    a, b = (data.draw(masks_of(shape)) for _ in range(2))
    if a.any() and b.any():
        assert_same(a, b, (0.7, 1.3, 2.9)[: len(shape)])
    else:
        values = [f(missing="nan") for f in (surface_distances(a, b).hausdorff, surface_distances(a, b).assd)]
        assert np.isnan(values).all()


# MONAI calls itself with an argument that it has deprecated.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (24, 36, 18)])
def test_monai_gives_the_same(shape: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("monai.metrics")
    spacing = (0.7, 1.3, 2.9)[: len(shape)]
    for seed in range(3):
        a, b = blobs(shape, seed)
        x, y = (torch.from_numpy(m)[None, None].float() for m in (a, b))
        options = {"include_background": True, "spacing": spacing[::-1]}
        ours = surface_distances(a, b, spacing)
        for percentile in (None, 95):
            theirs = metrics.compute_hausdorff_distance(x, y, percentile=percentile, **options).item()
            assert ours.hausdorff(percentile or 100) == pytest.approx(theirs, abs=1e-5)
        theirs = metrics.compute_average_surface_distance(x, y, symmetric=True, **options).item()
        assert ours.assd() == pytest.approx(theirs, abs=1e-5)
        one_way = metrics.compute_average_surface_distance(x, y, **options).item()
        assert ours.mean_to_reference() == pytest.approx(one_way, abs=1e-5)
        theirs = metrics.compute_surface_dice(x, y, class_thresholds=[2.05], **options).item()
        assert ours.nsd(2.05) == pytest.approx(theirs, abs=1e-6)
        assert dice(a, b) == pytest.approx(metrics.compute_dice(x, y).item(), abs=1e-6)
        assert iou(a, b) == pytest.approx(metrics.compute_iou(x, y).item(), abs=1e-6)


@pytest.mark.parametrize("shape", [(200, 310), (40, 60, 50)])
def test_distance_transforms_give_the_same(shape: tuple[int, ...]) -> None:
    a, b = blobs(shape, 11)
    spacing = (0.35, 0.5, 2.0)[: len(shape)]
    edges = [m ^ ndi.binary_erosion(m) for m in (a, b)]
    forward = ndi.distance_transform_edt(~edges[1], sampling=spacing[::-1])[edges[0]]
    backward = ndi.distance_transform_edt(~edges[0], sampling=spacing[::-1])[edges[1]]
    ours = surface_distances(a, b, spacing)
    np.testing.assert_allclose(np.sort(ours.to_reference), np.sort(forward), atol=1e-9)
    np.testing.assert_allclose(np.sort(ours.to_prediction), np.sort(backward), atol=1e-9)
    assert not math.isnan(ours.hausdorff(95))
