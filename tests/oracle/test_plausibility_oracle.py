"""Plausibility against slow and independent implementations: flood fill, face by face, SciPy."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from anatozoo.metrics.plausibility import (
    border_px,
    centroid,
    components,
    enclosure,
    holes,
    shared_border_px,
    touching,
)

SHAPES = [(30, 45), (45, 30), (9, 12, 7)]


def flood_parts(mask: np.ndarray, corners: bool) -> list[set[tuple[int, ...]]]:
    """Connected parts by flood fill from pixel to pixel."""
    steps = [s for s in np.ndindex(*(3,) * mask.ndim) if sum(abs(x - 1) for x in s) in range(1, 4)]
    if not corners:
        steps = [s for s in steps if sum(abs(x - 1) for x in s) == 1]
    left = {tuple(map(int, p)) for p in np.argwhere(mask)}
    parts = []
    while left:
        part, front = set(), [left.pop()]
        while front:
            here = front.pop()
            part.add(here)
            near = [tuple(h + s - 1 for h, s in zip(here, step, strict=True)) for step in steps]
            front += [n for n in near if n in left]
            left.difference_update(near)
        parts.append(part)
    return parts


def flood_holes(mask: np.ndarray) -> int:
    """Parts of the background none of whose pixels lies on the border of the image."""

    def at_border(pixel: tuple[int, ...]) -> bool:
        return any(i in (0, n - 1) for i, n in zip(pixel, mask.shape, strict=True))

    return sum(not any(map(at_border, part)) for part in flood_parts(~mask, corners=False))


def faces(a: np.ndarray, b: np.ndarray | None) -> list[int]:
    """Faces of `a` towards what is not `a`, by axis; with `b`, towards pixels of `b` alone."""
    counts = [0] * a.ndim
    for pixel in np.argwhere(a):
        for axis in range(a.ndim):
            for step in (-1, 1):
                other = pixel.copy()
                other[axis] += step
                inside = 0 <= other[axis] < a.shape[axis]
                if inside and a[tuple(other)]:
                    continue
                counts[axis] += 1 if b is None else int(inside and b[tuple(other)])
    return counts


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    assert components(a) == len(flood_parts(a, corners=True))
    assert holes(a) == flood_holes(a)
    assert border_px(a) == sum(faces(a, None))
    assert shared_border_px(a, b) == sum(faces(a, b))
    assert touching(a, b) == touching(b, a)
    assert touching(a, b) == bool((ndi.binary_dilation(a, np.ones((3,) * a.ndim)) & b).any())
    if a.any():
        np.testing.assert_allclose(centroid(a), ndi.center_of_mass(a)[::-1], atol=1e-12)
        spacing = np.array([0.7, 1.3, 2.9][: a.ndim])
        sizes = (spacing.prod() / spacing)[::-1]  # spacings are (x, y[, z])
        expected = np.dot(faces(a, b), sizes) / np.dot(faces(a, None), sizes)
        assert enclosure(a, b, tuple(spacing)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_noise_matches_flood_fill(shape: tuple[int, ...], share: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(3):
        assert_same(*(rng.random(shape) < share for _ in range(2)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_blobs_match_flood_fill(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    fields = [ndi.gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(2)]
    assert_same(*(field > np.quantile(field, 0.5) for field in fields))


@given(data=st.data(), shape=array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
@settings(deadline=None, max_examples=100)
def test_any_masks_match_flood_fill(data: st.DataObject, shape: tuple[int, ...]) -> None:
    assert_same(*(data.draw(arrays(bool, shape)) for _ in range(2)))


@pytest.mark.parametrize("shape", [(500, 700), (40, 60, 50)])
def test_scipy_labels_as_many(shape: tuple[int, ...]) -> None:
    field = ndi.gaussian_filter(np.random.default_rng(3).normal(size=shape), 2.0)
    mask = field > np.quantile(field, 0.7)
    everywhere = np.ones((3,) * len(shape))
    assert components(mask) == ndi.label(mask, everywhere)[1] > 10
    filled = ndi.binary_fill_holes(mask)
    assert holes(mask) == ndi.label(filled & ~mask)[1]
    assert holes(~mask) == ndi.label(ndi.binary_fill_holes(~mask) & mask)[1] > 0
