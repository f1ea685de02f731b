"""What read_image refuses: no image, damaged, truncated, too small, too large, not one plane."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import torch
from PIL import Image as PILImage

from anatozoo.errors import GeometryError, ImageError
from anatozoo.io.images import read_image
from tests.unit.io.conftest import write_float_tiff

Pixels = npt.NDArray[np.uint16]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((30, 30), bool), "mask"),
        (np.full((30, 30), 7), "constant"),
        (np.full((30, 30), np.nan), "NaN"),
        (np.eye(30, dtype=complex), "real numbers"),
        (np.array([["a"] * 30] * 30), "real numbers"),
        (np.eye(15), "at least 16"),
        (np.zeros((1, 1)), "at least 16"),
        (np.zeros((0, 30)), "at least 16"),
        (np.random.default_rng(0).random((16, 321)), "20 times"),
        (np.random.default_rng(0).random((1, 20000)), "at least 16"),
        (np.broadcast_to(np.float32(1), (20000, 20000)), r"2\*\*26"),
        (np.zeros((2, 30, 30)), "predict_batch"),
        (np.zeros((4, 1, 30, 30)), "predict_batch"),
        (np.zeros(30), "not one image"),
        (None, "cannot be read from NoneType"),
        ([[1, 2], [3, 4]], "cannot be read from list"),
        (b"bytes", "is not an image of a known kind"),
        (torch.ones(30, 30, dtype=torch.bool), "mask"),
        (PILImage.new("1", (30, 30)), "mask"),
        (sitk.Image(30, 30, sitk.sitkComplexFloat32), "real numbers"),
        (sitk.Image([30, 30], sitk.sitkVectorFloat32, 2), "2 values per pixel"),
    ],
)
def test_bad_objects_are_refused(array: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(array)


def test_more_than_five_percent_nan_is_refused(xray: Pixels) -> None:
    values = xray.astype(np.float64)
    values[:4] = np.nan  # 4 of 60 rows
    with pytest.raises(ImageError, match="7% of the pixels are NaN"):
        read_image(values)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "nii", "nii.gz", "mha", "nrrd"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.5, 0.9, 0.97])
def test_truncated_files_are_errors(tmp_path: Path, suffix: str, kept: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 70)).astype(np.uint8)
    path = tmp_path / f"a.{suffix}"
    if suffix in ("png", "jpg", "tif", "bmp"):
        PILImage.fromarray(pixels).save(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))
    read_image(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=r"a\." + suffix):
        read_image(path)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("lacking", [1, 8, 9, 3000])
def test_truncated_float_niftis_are_errors(tmp_path: Path, suffix: str, lacking: int) -> None:
    """Of a compressed file, the last eight bytes are the checksum and the length."""
    pixels = np.random.default_rng(0).random((80, 70))
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))
    path.write_bytes(path.read_bytes()[:-lacking])
    with pytest.raises(ImageError, match=r"ends before its last voxel"):
        read_image(path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated_float_tiff_is_an_error(tmp_path: Path, kept: float) -> None:
    path = write_float_tiff(tmp_path / "a.tif", np.random.default_rng(0).random((80, 70)))
    read_image(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match="TIFF"):
        read_image(path)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image, only words " * 40)
    (tmp_path / "words.nii").write_text("not an image, only words " * 40)
    (tmp_path / "empty.dcm").touch()
    for name, message in {
        "text.png": "not an image",
        "words.nii": "ITK cannot read",
        "empty.dcm": "zero bytes",
        "missing.png": "No such file",
        "nul\0byte.png": "cannot be opened",
        ".": "is a folder",
    }.items():
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / name)


def test_several_pages_are_refused(tmp_path: Path, xray: Pixels) -> None:
    page = PILImage.fromarray(xray)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(ImageError, match="2 pages"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("side", [12_000, 20_000])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    # Only the header claims the size: an attempt to decode would end in another error.
    PILImage.new("L", (16, 16), 3).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = struct.pack("<ii", side, side)
    (tmp_path / "a.bmp").write_bytes(data)
    (tmp_path / "a.mha").write_text(
        f"ObjectType = Image\nNDims = 2\nDimSize = {side} {side}\n"
        "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    for name in ("a.bmp", "a.mha"):
        with pytest.raises(ImageError, match=r"2\*\*2[67]"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("spacing", [(0, 1), (-1, 1), (float("nan"), 1), (1,), "ab", 1.0, (1, float("inf"))])
def test_impossible_spacings_are_refused(xray: Pixels, spacing: Any) -> None:
    with pytest.raises(GeometryError, match="spacing_mm"):
        read_image(xray, spacing_mm=spacing)
