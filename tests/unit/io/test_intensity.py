from pathlib import Path

import cv2
import numpy as np
import pytest

from anatozoo.errors import ConfigError, ImageError
from anatozoo.frames.square import to_network
from anatozoo.io.images import read_image
from anatozoo.io.intensity import full_scale, normalize_intensity, stretched_range, to_unit_range
from anatozoo.io.read import read_grid_image


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 255, (0, 255)),
        (3, 90, (0, 255)),
        (0, 256, (0, 4096)),
        (12, 4095, (0, 4096)),
        (0, 4097, (0, 65535)),
        (0, 65535, (0, 65535)),
        (0.2, 0.9, (0, 1)),
        (-1024, 900, (-1024, 900)),
        (0, 1e6, (0, 1e6)),
    ],
)
def test_black_and_white_follow_from_the_values(
    low: float, high: float, expected: tuple[float, float]
) -> None:
    assert full_scale(low, high) == expected


def test_bits_divide_and_percentiles_stretch() -> None:
    values = np.linspace(40, 200, 20 * 30).reshape(20, 30)
    np.testing.assert_allclose(to_unit_range(values, "bits"), values / 255, atol=1e-6)
    np.testing.assert_array_equal(to_unit_range(values), normalize_intensity(values))
    volume = np.stack([values, values + 10])
    assert to_unit_range(volume, "bits").shape == volume.shape
    np.testing.assert_allclose(to_unit_range(volume, "bits"), volume / 255, atol=1e-6)
    assert to_unit_range(volume).max() == 1
    np.testing.assert_allclose(to_unit_range(values, "bits", (40, 240)), (values - 40) / 200, atol=1e-6)
    with pytest.raises(ConfigError, match="choose percentiles or bits"):
        to_unit_range(values, "bytes")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="constant"):
        to_unit_range(np.full((20, 20), 7), "bits")


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_picture_is_divided_by_what_its_format_holds(tmp_path: Path, dtype: type, white: int) -> None:
    share = np.tile(np.linspace(0.1, 0.6, 64), (64, 1))
    stored = np.rint(share * white).astype(dtype)
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), stored)
    seen, _ = to_network(read_image(path), 64, "bits")
    np.testing.assert_allclose(seen, stored / white, atol=1e-6)
    # Of an image that is stored the other way round, black stays what white was.
    seen, _ = to_network(read_image(path, invert=True), 64, "bits")
    np.testing.assert_allclose(seen, 1 - stored / white, atol=1e-6)
    grid = read_grid_image(path, 2)
    np.testing.assert_allclose(
        to_unit_range(grid.pixels, "bits", grid.black_white), stored / white, atol=1e-6
    )


@pytest.mark.parametrize("top", [1, 255, 4096, 65535, 70000])
def test_counted_percentiles_are_those_of_numpy(top: int) -> None:
    draw = np.random.default_rng(top)
    for shape in ((1, 2), (17, 31), (90, 64)):
        values = draw.integers(0, top + 1, shape).astype(np.float32)
        values.flat[0] = values.flat[1] + 1  # not constant
        for pixels in (values, values.T, values - 3, values + np.float32(0.25)):
            low, high = np.percentile(pixels, (0.5, 99.5))
            stretched = (pixels - np.float32(low)) / np.float32(high - low)
            np.testing.assert_array_equal(normalize_intensity(pixels), stretched.clip(0, 1))


@pytest.mark.parametrize("top", [1, 2, 9, 255, 256, 4095, 65535, 70000])
@pytest.mark.parametrize("shape", [(1, 2), (5, 7), (64, 51), (1200, 1000)])
def test_counted_percentiles_are_those_of_sorted_values(top, shape):
    rng = np.random.default_rng(top)
    skewed = np.rint(top * rng.random(shape) ** 4)
    skewed[0, :2] = 0, top
    for values in (skewed, skewed + 0.5, -skewed):
        pixels = values.astype(np.float32)
        step = 2 if pixels.size > 2**20 else 1
        low, high = np.percentile(pixels[::step, ::step], (0.5, 99.5))
        expected = (low, high) if high > low else (pixels.min(), pixels.max())
        assert stretched_range(pixels) == expected
