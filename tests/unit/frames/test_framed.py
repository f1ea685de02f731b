"""Images in a frame that are kept, against images that may change."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from anatozoo.frames import framed as module
from anatozoo.frames.frame import Frame, displacement_between
from anatozoo.frames.framed import Framed, framed
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage

SPEC = FrameSpec([8, 12])


def image(seed: int = 0, *, fixed: bool = True) -> GridImage:
    pixels = np.random.default_rng(seed).random((20, 16), np.float32)
    pixels.flags.writeable = not fixed
    return GridImage(pixels, Grid((16, 20)))


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> module._Kept:
    memory = module._Kept()
    monkeypatch.setattr(module, "_KEPT", memory)
    return memory


def test_what_cannot_change_is_computed_once() -> None:
    one = image()
    first = framed(one, SPEC)
    assert framed(one, SPEC) is first
    np.testing.assert_array_equal(first.pixels, Framed.of(one, SPEC).pixels)
    assert framed(one, FrameSpec([8, 12], fit="stretch")) is not first
    assert framed(image(), SPEC) is not first
    with pytest.raises(ValueError, match="read-only"):
        first.pixels[0, 0] = 1
    assert first.inside.sum() < first.inside.size


def test_what_may_change_is_computed_anew() -> None:
    one = image(fixed=False)
    before = framed(one, SPEC).pixels
    view = GridImage(one.pixels.view(), one.grid)
    view.pixels.flags.writeable = False
    assert framed(view, SPEC) is not framed(view, SPEC)
    one.pixels[:10] = 0
    for each in (one, view):
        assert not np.array_equal(framed(each, SPEC).pixels, before)


def test_images_that_are_gone_and_too_many_are_forgotten(
    kept: module._Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = image()
    framed(one, SPEC)
    assert len(kept._found) == 1
    del one
    gc.collect()
    assert len(kept._found) == 0
    monkeypatch.setattr(module, "LIMIT_BYTES", 4 * 8 * 12 * 4)
    images = [image(seed) for seed in range(9)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: framed(each, SPEC), images * 5))
    assert 1 <= len(kept._found) <= 3
    for each in images:
        np.testing.assert_array_equal(framed(each, SPEC).pixels, Framed.of(each, SPEC).pixels)


@pytest.mark.parametrize("direction", [None, (0, 1, 0, 0, 0, -1, -1, 0, 0)])
def test_a_field_is_interpolated_as_by_scipy(direction: tuple[float, ...] | None) -> None:
    sizes = (9, 7, 11) if direction else (9, 7)
    shape = (8,) * len(sizes)
    moving = Frame.fit(Grid(tuple(2 * side for side in sizes)), FrameSpec(list(shape)))
    fixed = Frame.fit(Grid(sizes, direction=direction), FrameSpec(list(shape)))
    field = np.random.default_rng(0).normal(0, 1, (len(sizes), *shape)).astype(np.float32)
    found = displacement_between(field, moving, fixed)
    index = np.moveaxis(np.indices(fixed.grid.shape)[::-1], 0, -1).astype(float)
    place = index @ fixed.matrix.T + fixed.offset
    at = np.moveaxis(place[..., ::-1], -1, 0)
    step = [map_coordinates(part.astype(float), at, order=1, mode="nearest") for part in field[::-1]]
    expected = (place + np.stack(step, -1) - moving.offset) @ np.linalg.inv(moving.matrix).T - index
    np.testing.assert_allclose(found, expected, atol=1e-5)
