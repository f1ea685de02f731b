"""What number a stored word is: Bits Stored, High Bit, sign, overlays, padding, and their thresholds."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, RLELossless

from anatozoo.errors import ImageError
from anatozoo.io.dicom_bits import numbers_of, padding_of
from anatozoo.io.dicom_grey import stored_numbers
from anatozoo.io.dicom_volume import read_dicom_volume
from anatozoo.io.images import read_image
from tests.support.dicom_data import write_frames, write_series
from tests.unit.io.conftest import DicomWriter

Y, X = np.mgrid[:96, :80]


def smooth(top: int = 4095, bottom: int = 0) -> npt.NDArray[np.int64]:
    """Values from bottom to top without jumps, up and down again in both directions."""
    wave = 0.5 + 0.3 * np.cos(X / 13) + 0.2 * np.sin(Y / 17)
    return np.round(bottom + (top - bottom) * (wave - wave.min()) / np.ptp(wave)).astype(np.int64)


def header(bits: int, high: int | None = None, sign: int = 0) -> Dataset:
    found = Dataset()
    found.BitsStored, found.HighBit = bits, bits - 1 if high is None else high
    found.PixelRepresentation = sign
    return found


def bits(stored: int, **attributes: Any) -> dict[str, Any]:
    return {"BitsStored": stored, "HighBit": stored - 1} | attributes


@pytest.mark.parametrize("stored", [8, 9, 10, 11, 12, 13, 15, 16])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_truthful_files_are_read_as_they_are(write_dicom: DicomWriter, stored: int, dtype: type) -> None:
    low, high = (0, 2**stored - 1) if dtype is np.uint16 else (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1)
    pixels = smooth(high, low).astype(dtype)
    image = read_image(write_dicom(pixels, **bits(stored)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ()


@pytest.mark.parametrize("stored", [8, 9, 10, 11])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_bits_stored_below_the_values_are_not_believed(
    write_dicom: DicomWriter, stored: int, dtype: type
) -> None:
    pixels = smooth(4000, 0 if dtype is np.uint16 else -500).astype(dtype)
    image = read_image(write_dicom(pixels, **bits(stored)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("bits_stored_ignored",)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_words_follow_the_same_rule(write_dicom: DicomWriter, tmp_path: Path, syntax: str) -> None:
    pixels = smooth(4000).astype(np.uint16)
    dataset = pydicom.dcmread(write_dicom(pixels, **bits(12)))
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "right.dcm")
    assert read_image(tmp_path / "right.dcm").flags == ()
    dataset.BitsStored, dataset.HighBit = 10, 9
    dataset.save_as(tmp_path / "wrong.dcm")
    image = read_image(tmp_path / "wrong.dcm")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("bits_stored_ignored",)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.4])
@pytest.mark.parametrize("sign", [0, 1])
def test_foreign_bits_above_the_value_are_taken_away(
    write_dicom: DicomWriter, share: float, sign: int
) -> None:
    pixels = smooth(4000) if not sign else smooth(1900, -1900)
    marked = np.random.default_rng(0).random(pixels.shape) < share
    words = ((pixels & 0xFFF) | np.where(marked, 0x5000, 0)).astype(np.uint16)
    image = read_image(write_dicom(words, **bits(12, PixelRepresentation=sign)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == (("high_bits_ignored",) if share else ())


def test_overlays_in_high_bits_are_no_part_of_the_value(write_dicom: DicomWriter) -> None:
    pixels = smooth(4000).astype(np.uint16)
    words = (pixels | np.where(X > 40, 1 << 14, 0)).astype(np.uint16)
    path = write_dicom(words, **bits(12))
    assert read_image(path).flags == ("high_bits_ignored",)
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6002, 0x0100), "US", 16)
    dataset.add_new((0x6002, 0x0102), "US", 14)
    dataset.save_as(path)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ()


@pytest.mark.parametrize("high", [12, 13, 14, 15])
def test_values_that_stand_higher_in_their_words_are_shifted(write_dicom: DicomWriter, high: int) -> None:
    pixels = smooth(4095).astype(np.uint16)
    image = read_image(write_dicom(pixels << (high - 11), BitsStored=12, HighBit=high))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ()


def test_signed_values_that_stand_higher_keep_their_sign(write_dicom: DicomWriter) -> None:
    pixels = smooth(2047, -2048).astype(np.int16)
    image = read_image(write_dicom(pixels << 4, BitsStored=12, HighBit=15))
    np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("high", [0, 7, 10, 12, 15, 31])
def test_a_high_bit_that_the_words_contradict_is_not_believed(write_dicom: DicomWriter, high: int) -> None:
    pixels = smooth(4095).astype(np.uint16)
    image = read_image(write_dicom(pixels, BitsStored=12, HighBit=high))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("high_bit_ignored",)


def test_signed_words_may_be_filled_with_zeros(write_dicom: DicomWriter) -> None:
    pixels = smooth(1900, -1900)
    words = (pixels & 0xFFF).astype(np.uint16)
    image = read_image(write_dicom(words, **bits(12, PixelRepresentation=1)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ()


@pytest.mark.parametrize("stored", [12, 16])
def test_values_without_sign_in_a_signed_file(write_dicom: DicomWriter, stored: int) -> None:
    pixels = smooth(2**stored - 1).astype(np.uint16)
    image = read_image(write_dicom(pixels, **bits(stored, PixelRepresentation=1)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("sign_ignored",)


@pytest.mark.parametrize(("levels", "is_signed"), [(16, True), (17, False)])
def test_few_levels_prove_no_wrong_sign(levels: int, is_signed: bool) -> None:
    # Values around half of the range, of which so many levels lie above it.
    pixels = 2047 + np.clip(smooth(levels, -40), -40, levels)
    numbers, flags = numbers_of(pixels.astype(np.uint16), header(12, sign=1))
    assert (flags == ()) == is_signed
    assert (numbers.min() < 0) == is_signed


@pytest.mark.parametrize(("rows", "is_signed"), [(0, True), (1, True), (40, False)])
def test_few_pixels_prove_no_wrong_sign(rows: int, is_signed: bool) -> None:
    pixels = smooth(1500, 1000)
    pixels[:rows, :30] = 2048 + np.arange(30)
    assert (numbers_of(pixels.astype(np.uint16), header(12, sign=1))[1] == ()) == is_signed


def test_dark_padding_below_tissue_keeps_its_sign(write_dicom: DicomWriter) -> None:
    pixels = smooth(2000, 1500)
    pixels[:30] = -2000
    image = read_image(write_dicom(pixels.astype(np.int16), **bits(12)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ()


# ---- signs that are not stated


@pytest.mark.parametrize(("stored", "top", "bottom"), [(16, 3000, -900), (16, 700, -8000), (12, 900, -700)])
@pytest.mark.parametrize("is_repeated", [True, False])
def test_signed_values_in_a_file_that_says_unsigned(
    write_dicom: DicomWriter, stored: int, top: int, bottom: int, is_repeated: bool
) -> None:
    pixels = smooth(top, bottom)
    words = (pixels & (0xFFFF if is_repeated else 2**stored - 1)).astype(np.uint16)
    image = read_image(write_dicom(words, **bits(stored)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("sign_assumed",)


def test_a_sign_that_is_repeated_may_have_the_whole_range(write_dicom: DicomWriter) -> None:
    pixels = smooth(2000, -2000)
    image = read_image(write_dicom((pixels & 0xFFFF).astype(np.uint16), **bits(12)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("sign_assumed",)


def test_signed_values_that_stand_higher_in_a_file_that_says_unsigned(write_dicom: DicomWriter) -> None:
    pixels = smooth(900, -700)
    words = ((pixels & 0xFFF) << 4).astype(np.uint16)
    image = read_image(write_dicom(words, BitsStored=12, HighBit=15))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("sign_assumed",)


def test_signed_values_with_noise_and_sharp_edges() -> None:
    random = np.random.default_rng(0)
    pixels = np.where(np.hypot(X - 40, Y - 48) < 30, 40, -1000) + np.round(random.normal(0, 12, X.shape))
    numbers, flags = numbers_of(pixels.astype(np.int16).view(np.uint16), header(16))
    np.testing.assert_array_equal(numbers, pixels)
    assert flags == ("sign_assumed",)


@pytest.mark.parametrize(("levels", "is_signed"), [(16, False), (17, True)])
@pytest.mark.parametrize("side", [1, -1])
def test_few_levels_prove_no_sign(levels: int, is_signed: bool, side: int) -> None:
    few = (
        np.clip(smooth(500, -500), -levels, 500) if side > 0 else np.clip(smooth(500, -500), -500, levels - 1)
    )
    flags = numbers_of((few & 0xFFFF).astype(np.uint16), header(16))[1]
    assert flags == (("sign_assumed",) if is_signed else ())


@pytest.mark.parametrize(("count", "is_signed"), [(38, False), (39, True)])
def test_few_pixels_prove_no_sign(count: int, is_signed: bool) -> None:
    pixels = smooth(90, 0)  # 7,680 pixels, of which half a percent is 38.4
    pixels[48, :count] = -1 - np.arange(count)
    flags = numbers_of((pixels & 0xFFFF).astype(np.uint16), header(16))[1]
    assert flags == (("sign_assumed",) if is_signed else ())


@pytest.mark.parametrize(("count", "is_signed"), [(3, True), (4, False)])
@pytest.mark.parametrize("value", [16384, 49151])
def test_values_in_the_middle_half_prove_no_sign(count: int, is_signed: bool, value: int) -> None:
    words = (smooth(3000, -900) & 0xFFFF).astype(np.uint16)  # 0.05 % are 3.84 pixels
    words[0, :count] = value
    flags = numbers_of(words, header(16))[1]
    assert flags == (("sign_assumed",) if is_signed else ())


@pytest.mark.parametrize("stored", [8, 10, 12, 16])
@pytest.mark.parametrize("noise", [0, 3, 12])
@pytest.mark.parametrize("kind", ["bright", "bordered", "saturated", "inverted", "lungs"])
def test_bright_images_have_no_sign(write_dicom: DicomWriter, stored: int, noise: int, kind: str) -> None:
    top = 2**stored - 1
    inside = (X > 15) & (X < 64) & (Y > 15) & (Y < 80)
    lungs = (np.abs(np.abs(X - 40) - 15) < 10) & (np.abs(Y - 48) < 28)
    high = smooth(top, top * 4 // 5)
    pixels = {
        "bright": high,
        "bordered": np.where(inside, high * 15 // 16, 0),
        "saturated": np.where(inside, np.minimum(high + top // 10, top), 0),
        "inverted": top - smooth(top),
        "lungs": np.where(lungs, high * 15 // 16, top // 50),
    }[kind]
    pixels = pixels + np.abs(np.random.default_rng(0).normal(0, noise * top / 1000, X.shape))
    words = np.clip(pixels, 0, top).astype(np.uint16)
    image = read_image(write_dicom(words, **bits(stored), PhotometricInterpretation="MONOCHROME2"))
    np.testing.assert_array_equal(image.pixels, words)
    assert image.flags == ()


def test_numbers_of_colours_have_no_sign() -> None:
    words = (smooth(3000, -900) & 0xFFFF).astype(np.uint16)
    colours = header(16)
    colours.PhotometricInterpretation = "PALETTE COLOR"
    assert numbers_of(words, colours)[1] == ()


def test_swapped_bytes_are_swapped_back(write_dicom: DicomWriter) -> None:
    pixels = smooth(4095).astype(np.uint16)
    image = read_image(write_dicom(pixels.byteswap(), **bits(12)))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("byte_order_ignored",)


def test_big_endian_files(write_dicom: DicomWriter, tmp_path: Path) -> None:
    pixels = smooth(4000).astype(np.uint16)
    for stored, flags in ((12, ()), (10, ("bits_stored_ignored",))):
        dataset = Dataset()
        little = pydicom.dcmread(write_dicom(pixels, **bits(stored)))
        dataset.update(little)
        dataset.file_meta = little.file_meta
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = pixels.byteswap().tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(tmp_path / "big.dcm", implicit_vr=False, little_endian=False)
        image = read_image(tmp_path / "big.dcm")
        np.testing.assert_array_equal(image.pixels, pixels)
        assert image.flags == flags


@pytest.mark.parametrize("stored", [None, 0, 17, 99])
def test_impossible_bits_stored(write_dicom: DicomWriter, stored: int | None) -> None:
    pixels = smooth(4000).astype(np.uint16)
    image = read_image(write_dicom(pixels, BitsStored=stored))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("bits_stored_ignored",)


def test_the_rougher_reading_loses_whichever_it_is() -> None:
    wrapped = smooth(1200)
    marked = smooth(1000) | np.where((X + Y) % 9 == 0, 1024, 0)
    for words, expected in ((wrapped, "bits_stored_ignored"), (marked, "high_bits_ignored")):
        assert numbers_of(words.astype(np.uint16), header(10))[1] == (expected,)


def test_one_bit_is_a_mask(write_dicom: DicomWriter) -> None:
    packed = np.packbits((X > 30).astype(np.uint8), bitorder="little")
    path = write_dicom(np.zeros((96, 80), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0,
                       PixelData=packed.tobytes())  # fmt: skip
    with pytest.raises(ImageError, match="mask"):
        read_image(path)


# ---- padding


@pytest.mark.parametrize(
    ("stated", "stored", "dtype"),
    [(-2000, -2000, np.int16), (63536, 63536, np.uint16), (-2000, 63536, np.uint16), (65535, -1, np.int16)],
)
def test_padding_outside_the_stored_bits(
    write_dicom: DicomWriter, stated: int, stored: int, dtype: type
) -> None:
    pixels = smooth(2047, 10)
    padded = pixels.copy()
    padded[:20] = stored
    words = padded.astype(dtype)
    path = write_dicom(words, **bits(12))
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US" if stated >= 0 else "SS", stated)
    dataset["PixelPaddingValue"].VR = "US" if stated >= 0 else "SS"
    dataset.save_as(path)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[20:], pixels[20:])
    assert (image.pixels[:20] == pixels[20:].min()).all()
    assert image.flags == ()


def test_padding_that_is_a_number_and_no_word(write_dicom: DicomWriter) -> None:
    pixels = smooth(1000, 10)
    pixels[:20] = -2000
    words = (pixels & 0xFFF).astype(np.uint16)  # the sign is not repeated
    image = read_image(write_dicom(words, **bits(12, PixelRepresentation=1, PixelPaddingValue=-2000)))
    assert (image.pixels[:20] == pixels[20:].min()).all()
    assert image.flags == ()


@pytest.mark.parametrize(("below", "believed"), [(0, True), (28, True), (29, False), (72, False)])
def test_padding_among_the_values_is_not_believed(
    write_dicom: DicomWriter, below: int, believed: bool
) -> None:
    pixels = 900 + smooth(500).astype(np.uint16)
    pixels[:24] = 500  # which leaves 5,760 pixels, of which half a percent is 28.8
    pixels[24:, 0][:below] = 100
    image = read_image(write_dicom(pixels, PixelPaddingValue=500))
    assert image.flags == (() if believed else ("padding_ignored",))
    if not believed:
        np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize(
    ("first", "last", "believed"),
    [
        (-5, 5, False),
        (5, -5, False),
        (65531, 5, False),
        (-20000, 20000, False),
        (-10, -5, True),
        (0, 5, True),
    ],
)
def test_padding_across_zero_contradicts_unsigned_words(first: int, last: int, believed: bool) -> None:
    pixels = 900 + smooth(500)
    pixels[:20] = 65530 if first == -10 else 3
    stated = header(16)
    stated.PixelPaddingValue, stated.PixelPaddingRangeLimit = first, last
    numbers, background, flags = stored_numbers(pixels.astype(np.uint16), stated)
    np.testing.assert_array_equal(numbers, pixels)
    assert flags == (() if believed else ("padding_ignored",))
    assert (background is not None) == believed
    if background is not None:
        np.testing.assert_array_equal(background, Y < 20)


def test_padding_from_above_the_stored_bits_is_a_truthful_range() -> None:
    pixels = smooth(4000)
    pixels[:20] = 60000
    stated = header(12)
    stated.PixelPaddingValue, stated.PixelPaddingRangeLimit = 4096, 65000
    background = padding_of(pixels.astype(np.uint16), stated)
    assert background is not None
    np.testing.assert_array_equal(background, Y < 20)


# ---- volumes


def stack(top: int = 4000) -> npt.NDArray[np.uint16]:
    return np.stack([np.roll(smooth(top), 5 * z, 0) for z in range(4)]).astype(np.uint16)


@pytest.mark.parametrize("write", [write_series, write_frames])
def test_volumes_are_judged_as_a_whole(write: Any, tmp_path: Path) -> None:
    volume = stack()
    volume[1] //= 8  # a slice that fits into the stated bits by itself
    path = write(tmp_path / "in", volume, **bits(10))
    _, pixels, _, flags, _ = read_dicom_volume(path)
    np.testing.assert_array_equal(pixels, volume)
    assert flags == ("bits_stored_ignored",)


def test_padding_of_a_volume_is_as_dark_as_the_darkest_of_the_rest(tmp_path: Path) -> None:
    volume = stack() + np.uint16(50)
    padded = volume.copy()
    padded[:, :10], padded[2] = 60000, 60000
    _, pixels, _, flags, _ = read_dicom_volume(write_series(tmp_path / "in", padded, PixelPaddingValue=60000))
    darkest = volume[[0, 1, 3], 10:].min()
    assert (pixels[:, :10] == darkest).all()
    assert (pixels[2] == darkest).all()
    np.testing.assert_array_equal(pixels[[0, 1, 3], 10:], volume[[0, 1, 3], 10:])
    assert flags == ()


def test_flags_of_a_volume_stand_on_the_image(tmp_path: Path) -> None:
    from anatozoo.io.read import read_grid_image, read_stack

    path = write_series(tmp_path / "in", stack(), **bits(10))
    assert read_grid_image(path, 3).flags == ("bits_stored_ignored",)
    assert read_stack(path).flags == ("bits_stored_ignored",)
