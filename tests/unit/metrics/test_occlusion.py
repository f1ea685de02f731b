import numpy as np
import pytest

from anatozoo.io.images import Image
from anatozoo.metrics.occlusion import occlude, occlusion_centres


def image(height: int, width: int) -> Image:
    pixels = np.full((height, width), 100.0, np.float32)
    pixels[0, 0] = 5.0
    return Image(pixels, name="x")


def test_square_covers_its_side_around_its_centre() -> None:
    original = image(1024, 1024)
    changed = occlude(original, 64, (300, 500)).pixels == 5.0
    assert changed.sum() == 64 * 64 + 1
    assert changed[468:532, 268:332].all()
    assert (original.pixels == 5.0).sum() == 1


def test_square_scales_with_the_image_and_follows_its_centring() -> None:
    # 1024 x 512 lies in the middle rows of its square, so that the frame's centre is the image's.
    changed = occlude(image(256, 512), 100, (512, 512)).pixels == 5.0
    rows, columns = np.nonzero(changed[1:, 1:])
    assert (rows.min() + 1, rows.max() + 1) == (103, 152)
    assert (columns.min() + 1, columns.max() + 1) == (231, 280)


@pytest.mark.parametrize("centre", [(0, 512), (1023, 512), (512, -400), (512, 5000)])
def test_parts_beyond_the_image_are_cut_off(centre: tuple[int, int]) -> None:
    changed = occlude(image(1024, 1024), 64, centre).pixels == 5.0
    assert 1 <= changed.sum() < 64 * 64


def test_centres_are_reproducible_and_central() -> None:
    centres = occlusion_centres(200, seed=3)
    assert centres.shape == (200, 2)
    assert centres.min() >= 256
    assert centres.max() < 768
    np.testing.assert_array_equal(centres, occlusion_centres(200, seed=3))
    assert (centres != occlusion_centres(200, seed=4)).any()
