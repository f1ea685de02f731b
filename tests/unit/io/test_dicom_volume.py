"""Volumes in DICOM: series in folders and files of several frames."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file

from anatozoo.errors import ImageError
from anatozoo.io.dicom_volume import read_dicom_volume
from anatozoo.io.grid import grid_of_itk
from tests.support.dicom_data import write_frames, write_series, write_slice


def volume(depth: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (depth, 20, 18)).astype(np.uint16)


@pytest.mark.parametrize("write", [write_series, write_frames])
def test_slices_come_in_the_order_of_their_places(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "in", volume(), step=8.0)
    _, pixels, grid, flags, _ = read_dicom_volume(path)
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, volume())
    assert flags == ()
    assert grid is not None
    assert grid.size == (18, 20, 5)
    assert grid.spacing_mm == pytest.approx((1.5, 2.0, 8.0))
    assert grid.origin == (-10.0, 5.0, 0.0)
    assert np.allclose(grid.axes, np.eye(3))


def test_an_oblique_series_lies_where_itk_puts_it(tmp_path: Path) -> None:
    x, y = np.array([0.6, 0.64, 0.48]), np.array([-0.8, 0.48, 0.36])
    normal = np.cross(x, y)
    for number, plane in enumerate(volume()):
        write_slice(
            tmp_path / f"{9 - number}.dcm",
            plane,
            0,
            ImagePositionPatient=list(np.round(3 + 7 * number * normal, 6)),
            ImageOrientationPatient=[*x, *y],
        )
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    theirs = sitk.ReadImage(names)
    _, pixels, grid, _, _ = read_dicom_volume(tmp_path)
    assert np.array_equal(pixels, sitk.GetArrayFromImage(theirs))
    assert grid is not None
    assert grid.differs_from(grid_of_itk(theirs)) is None


def test_values_are_those_of_the_modality_and_bright_is_bright(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), RescaleSlope=2, RescaleIntercept=-1000)
    assert np.array_equal(read_dicom_volume(tmp_path / "a")[1], 2.0 * volume() - 1000)
    write_series(tmp_path / "b", volume(), PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_dicom_volume(tmp_path / "b")[1], -volume().astype(np.float32))


def test_a_single_slice_has_no_place_across(tmp_path: Path) -> None:
    _, pixels, grid, _, _ = read_dicom_volume(write_slice(tmp_path / "a.dcm", volume()[0], 0))
    assert (pixels.shape, grid) == ((1, 20, 18), None)


def test_unknown_or_changing_sizes_of_pixels_are_unknown(tmp_path: Path) -> None:
    assert read_dicom_volume(write_series(tmp_path / "a", volume(), PixelSpacing=None))[2] is None
    assert read_dicom_volume(write_series(tmp_path / "b", volume(), PixelSpacing=[0, 1]))[2] is None
    write_series(tmp_path / "c", volume())
    write_slice(tmp_path / "c" / "IM000", volume()[0], 0, PixelSpacing=[1.0, 1.0])
    assert read_dicom_volume(tmp_path / "c")[2] is None


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in", volume())
    (folder / "notes.txt").write_text("no image")
    (folder / "README").write_text("no image")
    (folder / ".hidden").write_bytes((folder / "IM000").read_bytes())
    (folder / "DICOMDIR").write_bytes((folder / "IM000").read_bytes())
    write_slice(folder / "below" / "IM000", volume()[0], 0)
    assert np.array_equal(read_dicom_volume(folder)[1], volume())


def cine(folder: Path) -> None:
    write_series(folder, volume())
    for number, plane in enumerate(volume()):
        write_slice(folder / f"later{number}", plane, 10.0 * number)


def gap(folder: Path) -> None:
    for z in (0, 10, 20, 40):
        write_slice(folder / f"{z}", volume()[0], z)


def two_series(folder: Path) -> None:
    write_series(folder, volume(), SeriesDescription="cine SAX")
    write_slice(folder / "other", volume()[0], 90, SeriesInstanceUID="1.2.3", SeriesDescription="scout")


def not_parallel(folder: Path) -> None:
    write_series(folder, volume())
    write_slice(folder / "IM000", volume()[0], 0, ImageOrientationPatient=[1, 0, 0, 0, 0, 1])


def sizes(folder: Path) -> None:
    write_series(folder, volume())
    write_slice(folder / "IM000", volume()[0][:16], 0)


def no_places(folder: Path) -> None:
    write_series(folder, volume(), ImagePositionPatient=None)


def malformed_places(folder: Path) -> None:
    write_series(folder, volume(), ImagePositionPatient=[1, 2])


def frames_without_places(folder: Path) -> None:
    write_frames(folder / "a.dcm", volume(), PerFrameFunctionalGroupsSequence=None)


def truncated(folder: Path) -> None:
    path = write_slice(folder / "a", volume()[0], 0)
    path.write_bytes(path.read_bytes()[:-100])


def empty_last_slice(folder: Path) -> None:
    write_series(folder, volume())
    (folder / "IM999").touch()


def empty_last_slice_with_a_suffix(folder: Path) -> None:
    write_slice(folder / "a.dcm", volume()[0], 0)
    (folder / "b.dcm").touch()


def malformed_rescale(folder: Path) -> None:
    path = write_slice(folder / "a", volume()[0], 0, RescaleSlope="12345678", RescaleIntercept="0")
    path.write_bytes(path.read_bytes().replace(b"12345678", b"so steep"))


def malformed_frames(folder: Path) -> None:
    path = write_slice(folder / "a", volume()[0], 0, NumberOfFrames="12345678")
    path.write_bytes(path.read_bytes().replace(b"12345678", b"a series"))


def header_only(folder: Path) -> None:
    write_slice(folder / "a", volume()[0], 0, PixelData=None)


def colour(folder: Path) -> None:
    plane = np.repeat(volume()[0].astype(np.uint8), 3)
    write_slice(
        folder / "a",
        volume()[0],
        0,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=plane.tobytes(),
    )


def huge(folder: Path) -> None:
    for z in range(3):
        write_slice(folder / f"{z}", volume()[0], z, Rows=2**13, Columns=2**13)


def empty(folder: Path) -> None:
    (folder / "below").mkdir(parents=True)


BAD = {
    cine: "10 slices at 5 places: a cine",
    gap: "10 to 20 mm apart: one is missing",
    two_series: r"2 DICOM series: .*scout \(1 files\)",
    not_parallel: "not parallel",
    sizes: "different sizes",
    no_places: "does not say where its 5 slices lie",
    malformed_places: "does not say where its 5 slices lie",
    frames_without_places: "does not say where its 5 slices lie",
    truncated: "cannot be decoded",
    empty_last_slice: "IM999' is empty or no DICOM",
    empty_last_slice_with_a_suffix: r"b\.dcm' is empty or no DICOM",
    malformed_rescale: "rescale slope and intercept, cannot be read",
    malformed_frames: "damaged",
    header_only: "no pixel data",
    colour: "in colour",
    huge: r"2\*\*27",
    empty: "0 DICOM series",
}


@pytest.mark.parametrize(("make", "message"), BAD.items(), ids=[make.__name__ for make in BAD])
def test_what_is_no_volume_is_refused(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    make(tmp_path / "in")
    with pytest.raises(ImageError, match=message):
        read_dicom_volume(tmp_path / "in")


@pytest.mark.parametrize("name", ["emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm", "liver.dcm"])
def test_real_files_of_several_frames(name: str, tmp_path: Path) -> None:
    found: Any = get_testdata_file(name)
    data = pydicom.dcmread(found)
    plain: Any = pydicom.dcmread(get_testdata_file(name.replace("_jpeg_ls_lossless", "")))
    if name.startswith("emri"):  # these do not say where their frames lie
        for one in (data, plain):
            one.PerFrameFunctionalGroupsSequence = [placed(z) for z in range(10)]
            one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    buffer = io.BytesIO()
    data.save_as(buffer)
    path = tmp_path / name
    path.write_bytes(buffer.getvalue())
    _, pixels, *_ = read_dicom_volume(path)
    frames = plain.pixel_array
    assert np.array_equal(pixels, frames) or np.array_equal(pixels, frames[::-1])


def placed(z: int) -> pydicom.Dataset:
    frame, place = pydicom.Dataset(), pydicom.Dataset()
    place.ImagePositionPatient = [0, 0, z]
    frame.PlanePositionSequence = [place]
    return frame
