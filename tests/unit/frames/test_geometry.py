"""Geometry: exact inverses, and images that land where points do."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anatozoo.errors import GeometryError
from anatozoo.frames.geometry import Geometry

sides = st.integers(1, 5000)
modes = st.sampled_from(["pad", "stretch"])


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    source, target = (draw(sides), draw(sides)), (draw(sides), draw(sides))
    left, top = draw(st.integers(-50, 4000)), draw(st.integers(-50, 4000))
    crop = (left, top, left + draw(sides), top + draw(sides)) if draw(st.booleans()) else None
    return Geometry.fit(source, target, crop=crop, mode=draw(modes))


@settings(deadline=None)
@given(geometries(), st.integers(0, 2**32 - 1))
def test_points_come_back(geometry: Geometry, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-10, 5000, (20, 2))
    np.testing.assert_allclose(
        geometry.points_to_source(geometry.points_to_target(points)), points, atol=1e-6
    )
    np.testing.assert_allclose(
        geometry.points_to_target(geometry.points_to_source(points)), points, atol=1e-6
    )


@settings(deadline=None)
@given(geometries())
def test_dictionary_round_trip_is_exact(geometry: Geometry) -> None:
    assert Geometry.from_dict(geometry.to_dict()) == geometry


def test_pixel_centres_of_a_halved_image() -> None:
    # Target pixel 0 covers source pixels 0 and 1, so its centre lies between theirs.
    geometry = Geometry.fit((100, 100), (50, 50))
    np.testing.assert_allclose(geometry.points_to_target([[0.5, 0.5], [98.5, 98.5]]), [[0, 0], [49, 49]])


def test_pad_centres_and_keeps_the_aspect() -> None:
    geometry = Geometry.fit((200, 100), (100, 100))
    assert geometry.scale == (0.5, 0.5)
    assert geometry.offset == (0.0, 25.0)


def test_stretch_fills_the_frame() -> None:
    geometry = Geometry.fit((200, 100), (100, 100), mode="stretch")
    assert geometry.scale == (0.5, 1.0)
    assert geometry.offset == (0.0, 0.0)


def test_crop_maps_its_corners_to_the_corners_of_the_frame() -> None:
    geometry = Geometry.fit((300, 200), (64, 32), crop=(10, 20, 138, 84))
    corners = geometry.points_to_target([[9.5, 19.5], [137.5, 83.5]])
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [63.5, 31.5]])


def blob(size: tuple[int, int], centre: tuple[float, float], sigma: float) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[: size[1], : size[0]]
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))


def centroid(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    weights = image.astype(np.float64)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("mode", ["pad", "stretch"])
@pytest.mark.parametrize("target", [(128, 128), (37, 150), (313, 200), (512, 511), (201, 149)])
@pytest.mark.parametrize("source", [(201, 150), (150, 201), (173, 173)])
def test_image_lands_where_its_points_do(source: tuple[int, int], target: tuple[int, int], mode: str) -> None:
    geometry = Geometry.fit(source, target, mode=mode)  # type: ignore[arg-type]
    centre = (source[0] * 0.52 + 0.37, source[1] * 0.47)
    moved = geometry.image_to_target(blob(source, centre, 9.0))
    assert moved.shape == (target[1], target[0])
    assert moved.dtype == np.float32
    assert np.abs(centroid(moved) - geometry.points_to_target(centre)).max() < 0.01


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (64, 32))
    np.testing.assert_allclose(Geometry.fit((64, 64), (16, 16)).image_to_target(stripes), 0.5, atol=1e-6)


def test_whole_factors_are_block_means() -> None:
    image = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    small = Geometry.fit((60, 40), (15, 10)).image_to_target(image)
    np.testing.assert_allclose(small, image.reshape(10, 4, 15, 4).mean(axis=(1, 3)), atol=1e-6)


def test_same_size_is_the_identity() -> None:
    image = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    np.testing.assert_allclose(Geometry.fit((60, 40), (60, 40)).image_to_target(image), image, atol=1e-6)


@pytest.mark.parametrize("target", [(400, 400), (25, 25)])
def test_padding_is_fill_and_the_image_is_not_darkened(target: tuple[int, int]) -> None:
    moved = Geometry.fit((100, 50), target).image_to_target(np.full((50, 100), 3.0), fill=-1.0)
    quarter = target[1] // 4
    assert (moved[: quarter - 1] == -1).all()
    assert (moved[-quarter + 1 :] == -1).all()
    np.testing.assert_allclose(moved[quarter + 1 : -quarter - 1], 3.0, atol=1e-6)


def test_crop_reaching_outside_is_filled() -> None:
    moved = Geometry.fit((10, 10), (40, 40), crop=(-10, -10, 30, 30)).image_to_target(np.ones((10, 10)))
    expected = np.zeros((40, 40))
    expected[10:20, 10:20] = 1
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_crop_beside_the_image_shows_only_fill() -> None:
    geometry = Geometry.fit((10, 10), (8, 8), crop=(50, 50, 60, 60))
    assert (geometry.image_to_target(np.ones((10, 10)), fill=7.0) == 7.0).all()


def test_a_mask_outside_the_image_is_background() -> None:
    geometry = Geometry.fit((8, 8), (40, 30), crop=(-10, -10, 30, 20))
    expected = np.zeros((30, 40), np.uint8)
    expected[10:18, 10:18] = 1
    np.testing.assert_array_equal(geometry.mask_to_target(np.ones((8, 8), np.uint8)), expected)


@pytest.mark.parametrize("size", [(30, 60), (60, 30), (20, 20), (45, 45), (7, 50)])
def test_a_stretched_mask_lies_where_its_pixels_are(size: tuple[int, int]) -> None:
    # Frame and image differ by other factors along x and y, so that neither can stand for the other.
    geometry = Geometry.fit((40, 25), size, mode="stretch")
    assert geometry.scale[0] != geometry.scale[1]
    labels = np.random.default_rng(0).integers(1, 99, (25, 40))
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    points = geometry.points_to_source(np.stack([x, y], axis=-1))
    columns, rows = np.moveaxis(np.floor(points + 0.5).astype(int), -1, 0)
    expected = labels[rows.clip(0, 24), columns.clip(0, 39)]
    np.testing.assert_array_equal(geometry.mask_to_target(labels), expected)


@pytest.mark.parametrize("size", [(30, 60), (60, 30), (7, 50), (200, 33)])
def test_stretched_smooth_values_come_back_along_each_axis(size: tuple[int, int]) -> None:
    geometry = Geometry.fit(size, (40, 25), mode="stretch")
    ramp = np.add.outer(np.arange(25.0), 100 * np.arange(40.0))  # y + 100 x
    found = geometry.image_to_source(ramp)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    points = geometry.points_to_target(np.stack([x, y], axis=-1))
    inside = ((points >= 1) & (points <= [38, 23])).all(axis=-1)
    assert inside.any()
    expected = points[..., 1] + 100 * points[..., 0]
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.01)


@pytest.mark.parametrize(("size", "offset"), [((8, 8), 1.0), ((9, 9), 0.0), ((6, 10), 3.0)])
def test_half_way_pixels_go_up_in_masks(size: tuple[int, int], offset: float) -> None:
    # Two to one: each pixel centre falls half-way between two of the other grid.
    wide, high = size
    geometry = Geometry(size, (wide // 2, high // 2), (0.5, 0.5), (0.0, 0.0))
    labels = np.arange(1, high * wide + 1).reshape(high, wide)
    down = geometry.mask_to_target(labels)
    np.testing.assert_array_equal(down, labels[1::2, 1::2][: high // 2, : wide // 2])
    # Enlarged by two from an odd place: every pixel is taken twice, and none once or three times.
    back = Geometry((wide // 2, high // 2), size, (2.0, 2.0), (offset, offset))
    xs = (np.arange(wide) + 0.5 - offset) / 2 - 0.5
    columns = np.floor(xs + 0.5).astype(int)
    shown = back.mask_to_target(down)
    known = (columns >= 0) & (columns < wide // 2)
    row = np.floor((offset + 0.5 - offset) / 2).astype(int)
    np.testing.assert_array_equal(shown[int(offset), known], down[row, columns[known]])
    counts = np.unique(columns[known], return_counts=True)[1]
    assert set(counts[1:-1]) <= {2}


@pytest.mark.parametrize("aspect", [0.5, 2.0, 1.37])
def test_pixels_that_are_not_square_keep_the_proportions_of_the_body(aspect: float) -> None:
    geometry = Geometry.fit((200, 120), (256, 256), aspect=aspect)
    assert geometry.scale[1] / geometry.scale[0] == pytest.approx(aspect)
    # A circle of 40 pixel widths is one of equal sides in the frame, centred, and nothing is cut.
    box = geometry.points_to_target([[80, 60 - 20 / aspect], [120, 60 + 20 / aspect]])
    assert np.ptp(box[:, 0]) == pytest.approx(np.ptp(box[:, 1]))
    corners = geometry.points_to_target([[-0.5, -0.5], [199.5, 119.5]])
    assert corners.min() >= -0.5 - 1e-9
    assert corners.max() <= 255.5 + 1e-9
    assert np.isclose(np.abs(corners - 127.5), 128).any()
    np.testing.assert_allclose(corners.sum(0), 255)
    with pytest.raises(GeometryError, match="aspect"):
        Geometry.fit((5, 5), (5, 5), aspect=0)


def test_tensors_keep_type_and_gradient() -> None:
    geometry = Geometry.fit((300, 200), (64, 64))
    points = torch.tensor([[[10.0, 20.0]]], requires_grad=True)
    moved = geometry.points_to_target(points)
    np.testing.assert_allclose(moved.detach(), geometry.points_to_target([[[10.0, 20.0]]]), rtol=1e-6)
    moved.sum().backward()
    assert moved.dtype == torch.float32
    assert points.grad is not None
    np.testing.assert_allclose(points.grad[0, 0], geometry.scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "crop"),
    [
        ((0, 5), (5, 5), None),
        ((5, 5), (5, -1), None),
        ((5.5, 5), (5, 5), None),
        ((5, 5), (float("nan"), 5), None),
        ((5,), (5, 5), None),
        ((5, 5), (5, 5), (3, 0, 3, 5)),
    ],
)
def test_impossible_sizes_are_refused(source: tuple, target: tuple, crop: tuple | None) -> None:
    with pytest.raises(GeometryError):
        Geometry.fit(source, target, crop=crop)


def test_impossible_values_are_refused() -> None:
    with pytest.raises(GeometryError, match="mode"):
        Geometry.fit((5, 5), (5, 5), mode="squeeze")  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match="positive"):
        Geometry((5, 5), (5, 5), (0.0, 1.0), (0.0, 0.0))
    with pytest.raises(GeometryError, match="fields"):
        Geometry.from_dict({"source_size": [1, 1]})


def test_arrays_of_another_image_are_refused() -> None:
    geometry = Geometry.fit((40, 30), (8, 8))
    for call in (
        lambda: geometry.image_to_target(np.zeros((40, 30))),
        lambda: geometry.mask_to_target(np.zeros((40, 30), np.uint8)),
        lambda: geometry.image_to_source(np.zeros((30, 40))),
        lambda: geometry.points_to_source([1.0, 2.0, 3.0]),
        lambda: geometry.points_to_source(torch.zeros(2, dtype=torch.int64)),
    ):
        with pytest.raises(GeometryError):
            call()


@pytest.mark.parametrize("size", [(700, 300), (64, 64), (61, 97), (20, 33), (31, 16), (1, 1)])
def test_smooth_values_come_back_to_where_they_were(size):
    geometry = Geometry.fit(size, (64, 64))
    width, height = size
    ramp = np.add.outer(np.arange(64.0), 2 * np.arange(64.0))  # y + 2 x, which linear interpolation keeps
    found = geometry.image_to_source(ramp)
    assert found.dtype == np.float32
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    points = geometry.points_to_target(np.stack([x, y], axis=-1))
    expected = points[..., 1] + 2 * points[..., 0]
    # Up to the frame's edge: beyond the outermost centres values are held. Averages over pixels that are cut
    # take these as constant, which they are not on a ramp.
    inside = ((points >= 0) & (points <= 63)).all(axis=-1)
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-3 if max(size) >= 64 else 0.05)
    assert np.abs(found - expected).max() <= 1.5


def test_smooth_values_are_averaged_where_the_source_is_coarser():
    geometry = Geometry.fit((8, 8), (64, 64))
    values = np.random.default_rng(0).random((64, 64))
    means = values.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    np.testing.assert_allclose(geometry.image_to_source(values), means, atol=1e-6)


def test_smooth_values_are_zero_beyond_the_frame_and_need_its_size():
    geometry = Geometry.fit((40, 40), (10, 10), crop=(10, 10, 30, 30))
    found = geometry.image_to_source(np.ones((10, 10)))
    assert (found[10:30, 10:30] == 1).all()
    assert found.sum() == 400
    with pytest.raises(GeometryError, match="made for this image"):
        geometry.image_to_source(np.ones((40, 40)))
