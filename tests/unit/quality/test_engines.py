"""Engines one after another, against composing by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.grid import Grid, GridImage
from anatozoo.quality import Composed, composed, engine_of
from anatozoo.results.field import RegistrationResult
from tests.support.phantoms import make_chest_phantom
from tests.unit.quality.test_rca import Shift

SHAPE = (40, 56)


class Wave(Shift):
    """An engine whose field is a wave along each axis."""

    name, version = "wave", "2"

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        rows, columns = np.mgrid[: fixed.grid.shape[0], : fixed.grid.shape[1]]
        field = np.stack([3 * np.sin(rows / 7), 2 * np.cos(columns / 9)], -1).astype(np.float32)
        return replace(super().register(moving, fixed), displacement_px=field, flags=("wavy",))


def image(seed: int = 0, spacing: tuple[float, float] | None = None) -> GridImage:
    pixels = make_chest_phantom(SHAPE[1], SHAPE[0], seed=seed, noise=3.0).image.astype(np.float32)
    return GridImage(pixels, Grid(SHAPE[::-1], spacing), f"image{seed}")


def test_shifts_add_up() -> None:
    result = engine_of([Shift(2.0), Shift(1.5)]).register(image(), image(1))
    np.testing.assert_allclose(result.displacement_px[..., 0], 3.5, atol=1e-5)
    np.testing.assert_allclose(result.displacement_px[..., 1], 0, atol=1e-5)
    assert (result.checkpoint, result.version) == ("shift+shift", "1+1")


def test_fields_are_composed_and_labels_looked_up_once() -> None:
    moving, fixed = image(spacing=(0.7, 0.7)), image(1, spacing=(0.9, 0.9))
    result = Composed([Wave(), Shift(4.3)]).register(moving, fixed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    first = Wave().register(moving, fixed).displacement_px
    at = np.stack([rows, columns + 4.3])
    x = columns + 4.3 + map_coordinates(first[..., 0], at, order=1, mode="nearest", output=float)
    y = rows + map_coordinates(first[..., 1], at, order=1, mode="nearest", output=float)
    np.testing.assert_allclose(result.displacement_px, np.stack([x - columns, y - rows], -1), atol=1e-4)
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    inside = (x > 0) & (x < SHAPE[1] - 1) & (y > 0) & (y < SHAPE[0] - 1)
    found = result.warp(labels, "labels")[inside]
    expected = labels[np.floor(y[inside] + 0.5).astype(int), np.floor(x[inside] + 0.5).astype(int)]
    assert (found == expected).mean() > 0.999  # but for positions half-way between two pixels
    assert result.flags == ("wavy",)
    assert result.moving_grid == moving.grid
    np.testing.assert_array_equal(result.moving_pixels, moving.pixels)


def test_the_second_engine_sees_what_the_first_left() -> None:
    seen: list[Any] = []

    class Watching(Shift):
        def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
            seen.append(moving)
            return super().register(moving, fixed)

    moving = image()
    Composed([Shift(3.0), Watching()]).register(moving, image(1))
    np.testing.assert_allclose(seen[0].pixels[:, :-3], moving.pixels[:, 3:], atol=1e-3)
    assert seen[0].name == moving.name


def test_grids_of_different_sizes_follow_one_another() -> None:
    large = GridImage(np.zeros((80, 112), np.float32), Grid((112, 80)), "large")
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    field = np.stack([columns + 1, rows], -1).astype(np.float32)  # x goes to 2 x + 1, y to 2 y
    shift = Shift(0.5).register(image(), image(1))
    first = replace(
        shift,
        moving_grid=large.grid,
        moving_pixels=large.pixels,
        displacement_px=field,
        alignment=2 * np.eye(2),
    )
    result = composed(first, shift)
    places = np.asarray([[3.0, 5.0], [40.0, 20.0]])
    np.testing.assert_allclose(result.points_to_moving(places), 2 * (places + [0.5, 0]) + [1, 0], atol=1e-4)
    np.testing.assert_array_equal(result.alignment, 2 * np.eye(2))
    with pytest.raises(GeometryError, match="do not follow one another"):
        composed(shift, first)


def test_engines_of_planes_and_of_volumes_do_not_follow_one_another() -> None:
    flat, solid = Shift(), Wave()
    flat.axes, solid.axes = 2, 3
    assert Composed([Shift(), solid, Shift()]).axes == 3
    assert engine_of([Shift(), Shift()]).axes is None
    said = (
        "shift registers images of 2 dimensions, wave registers images of 3 dimensions: these engines cannot"
    )
    with pytest.raises(ConfigError, match=said):
        engine_of([flat, Shift(), solid])
    with pytest.raises(ConfigError, match="cannot follow one another"):
        Composed([Composed([flat, Shift()]), solid])


def test_a_list_of_one_engine_is_that_engine() -> None:
    engine = Shift()
    assert engine_of([engine]) is engine
    both = engine_of(["bspline", "demons"])
    assert both.name == "bspline+demons"
    with pytest.raises(ConfigError, match="at least one engine"):
        engine_of([])
    with pytest.raises(ConfigError, match="registers no images"):
        engine_of(["demons", "hybridgnet-jsrt"])


def test_an_engine_of_ones_own_says_its_dimensions() -> None:
    class Mute:
        name, version = "mute", "1"

    with pytest.raises(ConfigError, match="Mute does not say which images it registers: give it axes"):
        engine_of(["bspline", Mute()])  # type: ignore[list-item]
