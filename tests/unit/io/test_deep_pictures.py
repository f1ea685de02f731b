"""Pictures of more than 8 bits per channel keep all of them, or are refused."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PILImage

from anatozoo.errors import ImageError
from anatozoo.io.images import read_image
from tests.unit.io.conftest import write_tiff

Y, X = np.mgrid[:40, :50]
LUMINANCE = (0.299, 0.587, 0.114)


def grey(bits: int) -> npt.NDArray[np.uint16]:
    """Every grey level of so many bits that fits, without any symmetry."""
    return np.round((X * 40 + Y) / (49 * 40 + 39) * (2**bits - 1)).astype(np.uint16)


def colour(bits: int) -> npt.NDArray[np.uint16]:
    """Red, green and blue that differ, so that their order shows."""
    return np.stack([grey(bits), grey(bits) // 2, grey(bits) // 4], -1)


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """What is to be shown of pixels that are stored with an orientation from 1 to 8."""
    turns = {2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.T}
    turns |= {1: pixels, 6: np.rot90(pixels, -1), 7: pixels[::-1, ::-1].T, 8: np.rot90(pixels)}
    return turns[orientation]


def write_png(path: Path, pixels: npt.NDArray[np.uint16], kind: int, exif: bytes = b"") -> Path:
    """A PNG of 16 bits: kind 0 grey, 2 RGB, 4 grey with alpha, 6 RGB with alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    head += chunk(b"eXIf", exif) if exif else b""
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".jp2"])
def test_grey_in_three_channels_of_16_bits(tmp_path: Path, bits: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000] if suffix == ".jp2" else []
    cv2.imwrite(str(path), np.stack([grey(bits)] * 3, -1), options)
    image = read_image(path)
    # The wavelets of JPEG 2000 may round the colour transform.
    tolerance = 1 if suffix == ".jp2" else 0
    np.testing.assert_allclose(image.pixels, grey(bits), atol=tolerance)
    assert image.flags == () or suffix == ".jp2"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_channels_come_in_their_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), colour(12)[..., ::-1])
    image = read_image(path)
    np.testing.assert_allclose(image.pixels, colour(12) @ np.array(LUMINANCE), rtol=1e-6)
    assert image.flags == ("colour",)


@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_png_with_and_without_alpha(tmp_path: Path, kind: int) -> None:
    planes = [grey(11)] * (1 if kind in (0, 4) else 3) + [grey(16)] * (kind in (4, 6))
    image = read_image(write_png(tmp_path / "a.png", np.stack(planes, -1), kind))
    np.testing.assert_array_equal(image.pixels, grey(11))
    assert image.flags == ()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_tiff_of_both_byte_orders(tmp_path: Path, big: bool, alpha: bool) -> None:
    planes = np.concatenate([colour(12), grey(16)[..., None]], -1) if alpha else colour(12)
    path = write_tiff(tmp_path / "a.tif", planes, big=big, extra=2 if alpha else None)
    np.testing.assert_allclose(read_image(path).pixels, colour(12) @ np.array(LUMINANCE), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint32, np.int16, np.float32, np.float64])
def test_tiff_of_other_types(tmp_path: Path, dtype: type) -> None:
    one, three = grey(12)[..., None].astype(dtype), colour(12).astype(dtype)
    for pixels, expected in ((one, grey(12)), (three, colour(12) @ np.array(LUMINANCE))):
        path = write_tiff(tmp_path / "a.tif", pixels)
        np.testing.assert_allclose(read_image(path).pixels, expected, rtol=1e-6)


def test_whole_numbers_of_32_bits_have_no_sign(tmp_path: Path) -> None:
    pixels = grey(16).astype(np.uint32) * 65536
    np.testing.assert_array_equal(
        read_image(write_tiff(tmp_path / "a.tif", pixels[..., None])).pixels, pixels
    )


def test_a_palette_of_16_bits(tmp_path: Path) -> None:
    levels = (4 * np.arange(256)).tolist()  # of which the upper bytes are 0 to 3
    index = (X + 4 * Y).astype(np.uint8)
    path = write_tiff(tmp_path / "a.tif", index[..., None], photometric=3, colours=levels * 3)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, 4.0 * index)
    assert image.flags == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_pictures_are_turned_as_shallow_ones(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = PILImage.Exif()
    exif[274] = orientation
    shallow = (grey(8)).astype(np.uint8)
    PILImage.fromarray(shallow).save(tmp_path / f"8{suffix}", exif=exif)
    deep = tmp_path / f"16{suffix}"
    if suffix == ".png":
        write_png(deep, np.stack([grey(8)] * 3, -1), 2, exif.tobytes()[6:])
    else:
        write_tiff(deep, np.stack([grey(8)] * 3, -1), orientation=orientation)
    expected = turned(shallow, orientation)
    np.testing.assert_array_equal(read_image(tmp_path / f"8{suffix}").pixels, expected)
    np.testing.assert_array_equal(read_image(deep).pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_plain_grey_tiffs_are_turned(tmp_path: Path, orientation: int, dtype: type) -> None:
    pixels = grey(8)
    path = write_tiff(tmp_path / "a.tif", pixels[..., None].astype(dtype), orientation=orientation)
    np.testing.assert_array_equal(read_image(path).pixels, turned(pixels, orientation))


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (colour(16), {"apart": True}),
        (np.concatenate([colour(16), grey(16)[..., None]], -1), {"photometric": 5}),
        (np.stack([grey(16)] * 2, -1), {"photometric": 1, "extra": 2}),
        (grey(12)[..., None].astype(np.float16), {}),
    ],
    ids=["planes apart", "CMYK", "grey with alpha", "half precision"],
)
def test_what_cannot_be_read_whole_is_refused(tmp_path: Path, pixels: Any, how: dict) -> None:
    path = write_tiff(tmp_path / "a.tif", pixels, **how)
    with pytest.raises(ImageError, match=r"a\.tif.*save it "):
        read_image(path)


def test_an_opened_picture_is_read_whole_too(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.stack([grey(10)] * 3, -1))
    with PILImage.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(read_image(picture).pixels, grey(10))


def test_pictures_of_eight_bits_are_left_to_pillow(tmp_path: Path) -> None:
    for mode in ("L", "LA", "RGB", "RGBA", "P"):
        picture = PILImage.fromarray(grey(8).astype(np.uint8)).convert(mode)
        picture.save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, grey(8))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_deep_pictures_are_errors(tmp_path: Path, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    for suffix in (".png", ".tif", ".ppm"):
        path = tmp_path / f"a{suffix}"
        cv2.imwrite(str(path), noise)
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data))])
        with pytest.raises(ImageError, match=f"a{suffix}"):
            read_image(path)
