"""Grids, and images and label maps read with theirs."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image as PILImage

from anatozoo.errors import GeometryError, ImageError
from anatozoo.io.grid import Grid, grid_of_itk, itk_image
from anatozoo.io.read import read_grid_image, read_labels
from anatozoo.io.writers import write_itk
from tests.support.dicom_data import write_series

ROTATED = (0.0, -1.0, 1.0, 0.0)


def volume(shape: tuple[int, ...] = (5, 6, 7)) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr", ".mha", ".nrrd"])
def test_a_voxel_that_is_no_number_is_never_read_as_zero(
    suffix: str, kind: type, bad: float, tmp_path: Path
) -> None:
    """ITK reads it as 0 in NIfTI."""
    values = volume().astype(kind)
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    np.testing.assert_array_equal(read_grid_image(path, 3).pixels, values.astype(np.float32))
    values[3, 2, 1] = bad
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    with pytest.raises(ImageError, match="NaN, infinity"):
        read_grid_image(path, 3)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_what_is_computed_with_are_refused_without_a_warning() -> None:
    huge = volume().astype(np.float64)
    huge[3, 2, 1] = 1e300
    with pytest.raises(ImageError, match="beyond 3e38"):
        read_grid_image(huge, 3)
    with pytest.raises(ImageError, match="huge numbers"):
        read_labels(np.full((4, 5, 6), 1e30, np.float32), 3)


def test_physical_positions_are_those_of_itk() -> None:
    for grid in (
        Grid((9, 7), (0.5, 2.0), (3.0, -1.0), ROTATED),
        Grid((9, 7)),
        Grid((4, 5, 6), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), (0, 0, 1, 1, 0, 0, 0, 1, 0)),
    ):
        image = itk_image(np.zeros(grid.shape, np.float32), grid)
        index = tuple(range(1, grid.dims + 1))
        np.testing.assert_allclose(grid.to_physical(index), image.TransformIndexToPhysicalPoint(index))
        if grid.spacing_mm is not None:
            assert grid_of_itk(image) == grid
        # A pixel of 0.5 x 2 mm stays four times as high as wide.
        aspect = 4.0 if grid.spacing_mm == (0.5, 2.0) else 1.0
        assert grid.in_pixels() == Grid(grid.size, aspect=aspect)


@pytest.mark.parametrize(
    "arguments",
    [
        ((4,),),
        ((4, 0),),
        ((4, 4), (1.0, -1.0)),
        ((4, 4), (1.0,)),
        ((4, 4), None, (0.0, float("nan"))),
        ((4, 4), None, None, (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_impossible_grids_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(GeometryError):
        Grid(*arguments)  # type: ignore[arg-type]


def test_differences_are_named_and_the_unknown_is_none() -> None:
    grid = Grid((4, 5), (1.0, 1.0), (0.0, 0.0))
    assert grid.differs_from(Grid((4, 5))) is None
    assert grid.differs_from(Grid((5, 4))) == "4 x 5 against 5 x 4 pixels"
    assert "spacing_mm" in str(grid.differs_from(Grid((4, 5), (1.0, 1.1))))
    assert "origin" in str(grid.differs_from(Grid((4, 5), None, (9.0, 0.0))))


def test_a_flat_image_keeps_its_place(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    image = itk_image(pixels, Grid((30, 20), (0.5, 0.7), (3.0, 4.0), ROTATED))
    write_itk(tmp_path / "x.nii.gz", image, units_known=True)
    for source in (image, tmp_path / "x.nii.gz"):
        found = read_grid_image(source, 2)
        np.testing.assert_array_equal(found.pixels, pixels)
        assert found.grid.origin == pytest.approx((3.0, 4.0))
        assert found.grid.direction == pytest.approx(ROTATED, abs=1e-6)
        assert found.grid.spacing_mm == pytest.approx((0.5, 0.7))
    assert read_grid_image(pixels, 2).grid == Grid((30, 20))
    assert read_grid_image(pixels, 2, spacing_mm=0.2).grid.spacing_mm == (0.2, 0.2)


def test_a_volume_keeps_its_place_and_without_a_unit_it_is_in_millimetres(tmp_path: Path) -> None:
    grid = Grid((7, 6, 5), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    image = itk_image(volume(), grid)
    write_itk(tmp_path / "known.nii.gz", image, units_known=True)
    write_itk(tmp_path / "unknown.nii.gz", image, units_known=False)
    found = read_grid_image(tmp_path / "known.nii.gz", 3)
    assert found.grid.spacing_mm == pytest.approx(grid.spacing_mm)
    assert found.name == "known"
    assert found.source == str(tmp_path / "known.nii.gz")
    unknown = read_grid_image(str(tmp_path / "unknown.nii.gz"), 3)
    assert unknown.grid == found.grid
    assert (found.flags, unknown.flags) == ((), ("spacing_unit_assumed_mm",))
    assert read_grid_image(str(tmp_path / "unknown.nii.gz"), 3, spacing_mm=1).flags == ()
    assert read_grid_image(found, 3) is found
    for source in (volume(), torch.from_numpy(volume())):
        np.testing.assert_array_equal(read_grid_image(source, 3).pixels, found.pixels)
    assert read_grid_image(volume(), 3, spacing_mm=[1, 2, 3]).grid.spacing_mm == (1.0, 2.0, 3.0)


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="2-D, but this model takes 3-D"):
        read_grid_image(volume()[0], 3)
    with pytest.raises(ImageError, match="NaN"):
        read_grid_image(np.full((5, 5, 5), np.nan), 3)
    with pytest.raises(ImageError, match="constant"):
        read_grid_image(np.ones((5, 5, 5)), 3)
    with pytest.raises(ImageError, match="every axis needs 4"):
        read_grid_image(volume((3, 8, 8)), 3)
    with pytest.raises(ImageError, match="invert is for radiographs"):
        read_grid_image(volume(), 3, invert=True)
    with pytest.raises(ImageError, match="cannot be read from list"):
        read_grid_image([[1]], 3)
    with pytest.raises(ImageError, match="cannot be opened"):
        read_grid_image(tmp_path / "absent.nii.gz", 3)
    whole = write_itk(tmp_path / "cut.nii.gz", itk_image(volume(), Grid((7, 6, 5))), units_known=True)
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ImageError, match="truncated"):
        read_grid_image(whole, 3)
    with pytest.raises(ImageError, match="vector or colour"):
        read_grid_image(sitk.Image([8, 8, 8], sitk.sitkVectorFloat32, 3), 3)


def test_label_maps_keep_their_values(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [7, 2]], np.uint8).repeat(8, 0).repeat(8, 1)
    picture = PILImage.fromarray(labels).copy()
    picture.putpalette([0, 0, 0] * 256)
    picture.save(tmp_path / "palette.png")
    PILImage.fromarray(labels).save(tmp_path / "grey.png")
    write_itk(tmp_path / "x.nii.gz", itk_image(labels, Grid((16, 16))), units_known=False)
    forms = [tmp_path / "palette.png", tmp_path / "grey.png", tmp_path / "x.nii.gz", labels, picture]
    for form in [*forms, torch.from_numpy(labels), labels.astype(float)]:
        values, grid = read_labels(form, 2)
        np.testing.assert_array_equal(values, labels)
        assert grid.size == (16, 16)
        assert grid.spacing_mm is None
    with pytest.raises(ImageError, match="fractions"):
        read_labels(labels + 0.5, 2)
    with pytest.raises(ImageError, match="2-D, but 3-D"):
        read_labels(labels, 3)
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(ImageError, match="cannot be read"):
        read_labels(tmp_path / "x.png", 2)


@pytest.mark.parametrize("name", ["labels.mha", "labels.nrrd"])
def test_a_file_that_states_no_spacing_has_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.uint8)), str(path), useCompression=False)
    assert read_labels(path, dims=3)[1].spacing_mm == (1.0, 1.0, 1.0)
    head, _, pixels = path.read_bytes().partition(b"ElementDataFile" if name.endswith("mha") else b"\n\n")
    lines = [
        line
        for line in head.split(b"\n")
        if not line.startswith((b"ElementSpacing", b"space directions", b"space:", b"space origin", b"kinds"))
    ]
    end = b"ElementDataFile" if name.endswith("mha") else b"\n\n"
    path.write_bytes(b"\n".join(lines) + end + pixels)
    assert read_labels(path, dims=3)[1].spacing_mm is None


def test_a_dicom_series_is_a_volume(tmp_path: Path) -> None:
    values = np.arange(5 * 8 * 6, dtype=np.uint16).reshape(5, 8, 6)
    image = read_grid_image(write_series(tmp_path / "1.2.840", values), 3)
    assert np.array_equal(image.pixels, values)
    assert image.name == "1.2.840"
    assert image.grid.spacing_mm == pytest.approx((1.5, 2.0, 10.0))
    with pytest.raises(ImageError, match="2-D"):
        read_grid_image(tmp_path / "1.2.840" / "IM000", 3)
