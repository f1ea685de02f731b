"""read_image on every kind of source; intensities; the network's input."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import torch
from PIL import Image as PILImage

from anatozoo.errors import ImageError
from anatozoo.frames.square import to_network
from anatozoo.io.images import Image, read_image
from anatozoo.io.intensity import normalize_intensity
from tests.unit.io.conftest import write_float_tiff

Pixels = npt.NDArray[np.uint16]


# ---- files


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jp2", "pgm"])
def test_8_bit_files_are_exact(tmp_path: Path, xray: Pixels, suffix: str) -> None:
    pixels = (xray // 16).astype(np.uint8)
    PILImage.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.float32
    assert image.flags == ()
    assert image.spacing_mm is None
    assert (image.name, image.source, image.size) == ("a", str(tmp_path / f"a.{suffix}"), (48, 60))


def test_jpeg_is_close(tmp_path: Path, xray: Pixels) -> None:
    pixels = (xray // 16).astype(np.uint8)
    PILImage.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").pixels - pixels).max() < 6


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_files_keep_all_bits(tmp_path: Path, xray: Pixels, suffix: str) -> None:
    PILImage.fromarray(xray * 16).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}").pixels, xray.astype(np.float32) * 16)


@pytest.mark.parametrize("dtype", ["int16", "uint32", "int32", "float32", "float64"])
def test_tiff_of_every_number_type(tmp_path: Path, xray: Pixels, dtype: str) -> None:
    pixels = xray.astype(dtype) if dtype == "uint32" else xray.astype(dtype) - 1000
    try:
        assert cv2.imwrite(str(tmp_path / "a.tif"), pixels)
    except cv2.error:
        pytest.skip(f"OpenCV {cv2.__version__} writes no {dtype}")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


def test_white_is_zero_tiff_is_inverted(tmp_path: Path, xray: Pixels) -> None:
    PILImage.fromarray(xray).save(tmp_path / "a.tif", tiffinfo={262: 0})
    float_path = write_float_tiff(tmp_path / "b.tif", xray.astype(np.float64), photometric=0)
    expected = xray.max() - xray.astype(np.float32)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, expected)
    np.testing.assert_array_equal(read_image(float_path).pixels, expected)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", invert=False).pixels, xray)


def test_resolution_of_pictures_is_no_spacing(tmp_path: Path, xray: Pixels) -> None:
    for name in ("a.png", "a.tif"):
        PILImage.fromarray(xray).save(tmp_path / name, dpi=(254, 254))
        assert read_image(tmp_path / name).spacing_mm is None


@pytest.mark.parametrize(
    "name", ["with space.png", "Röntgen 胸部.png", "line\nbreak.png", "no_suffix", "wrong.dcm"]
)
def test_names_and_suffixes_do_not_matter(tmp_path: Path, xray: Pixels, name: str) -> None:
    PILImage.fromarray(xray).save(tmp_path / name, format="PNG")
    np.testing.assert_array_equal(read_image(str(tmp_path / name)).pixels, xray)


def test_exif_orientation_is_honoured(tmp_path: Path, xray: Pixels) -> None:
    pixels = (xray // 16).astype(np.uint8)
    exif = PILImage.Exif()
    exif[0x0112] = 6  # stored on its side: to be shown turned clockwise
    PILImage.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, np.rot90(pixels, -1))


# ---- colour


def test_grey_stored_as_colour_is_not_flagged(tmp_path: Path, xray: Pixels) -> None:
    grey = (xray // 16).astype(np.uint8)
    for name, picture in {
        "rgb.png": PILImage.fromarray(np.dstack([grey] * 3)),
        "rgba.png": PILImage.fromarray(np.dstack([grey] * 3 + [255 - grey])),
        "la.png": PILImage.merge("LA", [PILImage.fromarray(grey), PILImage.fromarray(255 - grey)]),
    }.items():
        picture.save(tmp_path / name)
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image.pixels, grey)
        assert image.flags == ()


def test_colour_becomes_luminance_with_a_flag() -> None:
    colour = np.zeros((20, 20, 3), np.uint8)
    colour[:10, :, 0], colour[10:, :, 1] = 100, 100
    image = read_image(colour)
    assert image.flags == ("colour",)
    np.testing.assert_allclose(image.pixels[[0, -1], 0], [29.9, 58.7], rtol=1e-5)


def test_palette_is_looked_up(tmp_path: Path, xray: Pixels) -> None:
    indices = (xray // 16).astype(np.uint8)
    picture = PILImage.fromarray(indices).convert("P")
    picture.putpalette([255 - value for value in range(256) for _ in range(3)])
    picture.save(tmp_path / "a.png")
    with PILImage.open(tmp_path / "a.png") as stored:
        assert stored.mode == "P"
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, 255 - indices)


# ---- volumes


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha", "mhd", "nrrd"])
def test_itk_files_with_their_spacing(tmp_path: Path, xray: Pixels, suffix: str) -> None:
    for name, array in {"flat": xray, "slice": xray[None]}.items():
        volume = sitk.GetImageFromArray(array)
        volume.SetSpacing((0.5, 0.25, 3.0)[: array.ndim])
        path = tmp_path / f"{name} ö.{suffix}"
        sitk.WriteImage(volume, str(path))
        image = read_image(path)
        np.testing.assert_array_equal(image.pixels, xray)
        assert image.spacing_mm == (0.5, 0.25)
        assert image.name == f"{name} ö"


def test_slice_across_another_axis(tmp_path: Path, xray: Pixels) -> None:
    volume = sitk.GetImageFromArray(xray[:, None, :])
    volume.SetSpacing((0.5, 9.0, 0.25))
    sitk.WriteImage(volume, str(tmp_path / "a.nii.gz"))
    image = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.pixels, xray)
    assert image.spacing_mm == (0.5, 0.25)


@pytest.mark.parametrize(("at", "value"), [(123, b"\0"), (80, b"\0\0\0\0")], ids=["no unit", "zero step"])
def test_nifti_without_a_usable_spacing(tmp_path: Path, xray: Pixels, at: int, value: bytes) -> None:
    path = tmp_path / "a.nii"
    sitk.WriteImage(sitk.GetImageFromArray(xray), str(path))
    data = bytearray(path.read_bytes())
    assert read_image(path).spacing_mm == (1.0, 1.0)
    data[at : at + len(value)] = value
    path.write_bytes(data)
    assert read_image(path).spacing_mm is None


def test_metaimage_without_a_spacing(tmp_path: Path, xray: Pixels) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(xray), str(path))
    data = path.read_bytes()
    assert b"ElementSpacing = 1 1\n" in data
    path.write_bytes(data.replace(b"ElementSpacing = 1 1\n", b""))
    assert read_image(path).spacing_mm is None


def test_volume_is_refused(tmp_path: Path) -> None:
    volume = sitk.GetImageFromArray(np.random.default_rng(0).random((5, 30, 30)))
    sitk.WriteImage(volume, str(tmp_path / "a.nii.gz"))
    for source in (tmp_path / "a.nii.gz", volume):
        with pytest.raises(ImageError, match="volume of 30 x 30 x 5"):
            read_image(source)


# ---- objects


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a,
        lambda a: a[..., None],
        lambda a: a[None],
        lambda a: a[None, None],
        lambda a: np.dstack([a] * 3),
        lambda a: np.dstack([a] * 4),
        lambda a: np.stack([a] * 3),
        lambda a: a.astype(">u2"),
        lambda a: a.T.copy().T,
        lambda a: np.ma.masked_array(a, mask=False),
        lambda a: torch.from_numpy(a.astype(np.int32)),
        lambda a: torch.from_numpy(a.astype(np.float32))[None].requires_grad_(),
        lambda a: torch.nn.Parameter(torch.from_numpy(a.astype(np.float64))),
        PILImage.fromarray,
        sitk.GetImageFromArray,
    ],
)
def test_objects_in_memory(xray: Pixels, convert: Callable[[Pixels], Any]) -> None:
    image = read_image(convert(xray))
    np.testing.assert_array_equal(image.pixels, xray)
    assert image.pixels.flags.c_contiguous
    assert image.pixels.dtype == np.float32
    assert (image.name, image.source, image.flags) == ("array", None, ())


def test_half_precision_tensors(xray: Pixels) -> None:
    small = torch.from_numpy((xray // 16).astype(np.float32))
    for dtype in (torch.float16, torch.bfloat16):
        np.testing.assert_array_equal(read_image(small.to(dtype)).pixels, small.numpy())


def test_itk_image_keeps_its_spacing_and_argument_wins(xray: Pixels) -> None:
    volume = sitk.GetImageFromArray(xray)
    volume.SetSpacing((0.2, 0.3))
    assert read_image(volume).spacing_mm == (0.2, 0.3)
    assert read_image(volume, spacing_mm=(0.4, 0.5)).spacing_mm == (0.4, 0.5)


def test_an_image_is_returned_as_it_is(xray: Pixels) -> None:
    image = read_image(xray)
    assert read_image(image) is image
    assert read_image(image, spacing_mm=(1, 2)).spacing_mm == (1.0, 2.0)
    with pytest.raises(ImageError, match="already read"):
        read_image(image, invert=True)


def test_reading_does_not_change_or_share_the_array(xray: Pixels) -> None:
    pixels = xray.astype(np.float32)
    pixels[3, 3] = np.nan
    before = pixels.copy()
    image = read_image(pixels, invert=True)
    np.testing.assert_array_equal(pixels, before)
    assert not np.shares_memory(image.pixels, pixels)


def test_invert_flips_and_negative_values_are_fine(xray: Pixels) -> None:
    values = xray.astype(np.float32) - 1000
    np.testing.assert_array_equal(read_image(values).pixels, values)
    np.testing.assert_array_equal(read_image(values, invert=True).pixels, values.max() - values)
    np.testing.assert_array_equal(read_image(values, invert=False).pixels, values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -3.4e38])
@pytest.mark.parametrize("invert", [None, True])
def test_few_bad_values_become_the_darkest(xray: Pixels, bad: float, invert: bool | None) -> None:
    values = xray.astype(np.float32)
    values[20:25, 30:35] = bad
    image = read_image(values, invert=invert)
    assert image.flags == ("non_finite",)
    assert np.isfinite(image.pixels).all()
    assert (image.pixels[20:25, 30:35] == image.pixels.min()).all()
    assert image.pixels.max() < 1e4


def test_bad_values_of_a_nifti_are_seen_although_itk_reads_zero(xray: Pixels, tmp_path: Path) -> None:
    values = xray.astype(np.float32) + 100
    values[20:25, 30:35] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(values[None]), str(tmp_path / "a.nii.gz"))
    image = read_image(tmp_path / "a.nii.gz")
    assert "non_finite" in image.flags
    np.testing.assert_array_equal(image.pixels, read_image(values).pixels)


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_a_nifti_is_decompressed_once_beside_itk(
    kind: type[np.generic], xray: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Counted(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            read.append(len(content))
            return content

    values = xray.astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(values[None]), str(tmp_path / "a.nii.gz"))
    monkeypatch.setattr(gzip, "GzipFile", Counted)
    read_image(tmp_path / "a.nii.gz")
    # The header is read first, to refuse a file before it is decompressed.
    assert 0 <= sum(read) - values.nbytes <= 540 + 352


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, anatozoo.io.images, numpy;"
        "anatozoo.io.images.read_image(numpy.eye(20));"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


# ---- intensities


def test_percentiles_become_zero_and_one() -> None:
    values = np.random.default_rng(0).permutation(np.arange(10_000.0)).reshape(100, 100)
    stretched = normalize_intensity(values)
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(stretched, np.clip((values - low) / (high - low), 0, 1), atol=1e-6)
    assert stretched.dtype == np.float32


@pytest.mark.parametrize(("scale", "offset"), [(1 / 255, 0), (257, 0), (1, -1000), (1e-6, 3e-5)])
def test_scale_and_offset_do_not_matter(xray: Pixels, scale: float, offset: float) -> None:
    changed = normalize_intensity(xray.astype(np.float64) * scale + offset)
    np.testing.assert_allclose(changed, normalize_intensity(xray), atol=1e-4)


def test_few_grey_levels_fall_back_to_the_extremes() -> None:
    values = np.zeros((100, 100))
    values[0, :3] = [1, 2, 4]  # under 0.5 % of the pixels
    np.testing.assert_array_equal(normalize_intensity(values)[0, :4], [0.25, 0.5, 1, 0])


def test_large_images_are_sampled_closely() -> None:
    values = np.random.default_rng(0).normal(size=(1500, 1600)).astype(np.float32)
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values - low) / (high - low), 0, 1)
    assert np.abs(normalize_intensity(values) - expected).max() < 0.01


@pytest.mark.parametrize(
    "values",
    [np.full((20, 20), 3), np.full((20, 20), np.nan), np.zeros((0, 5)), np.zeros(9), np.zeros((2, 9, 9))],
)
def test_nothing_to_stretch(values: npt.NDArray[Any]) -> None:
    with pytest.raises(ImageError):
        normalize_intensity(values)


def test_one_bad_value_of_a_large_image_is_noticed() -> None:
    values = np.random.default_rng(0).random((1500, 1600))
    values[1, 1] = np.nan  # on no sampling grid
    with pytest.raises(ImageError, match="finite"):
        normalize_intensity(values)


def test_network_input_is_the_normalised_image_padded_with_black() -> None:
    pixels = np.random.default_rng(0).random((40, 80)).astype(np.float32) + 5
    frame, geometry = to_network(Image(pixels), 80)
    assert frame.shape == (80, 80)
    assert frame.dtype == np.float32
    np.testing.assert_allclose(frame[20:60], normalize_intensity(pixels), atol=1e-6)
    assert not frame[:20].any()
    assert not frame[60:].any()
    assert geometry.source_size == (80, 40)
    assert geometry.offset == (0.0, 20.0)


def test_network_input_stays_in_range_when_enlarged(xray: Pixels) -> None:
    frame, _ = to_network(read_image(xray), 256)
    assert 0 <= frame.min() < 0.01
    assert 0.99 < frame.max() <= 1
