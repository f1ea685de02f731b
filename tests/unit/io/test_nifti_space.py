import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from anatozoo.errors import ImageError
from anatozoo.io.images import read_image
from anatozoo.io.read import read_grid_image, read_labels

VALUES = np.random.default_rng(0).integers(0, 200, (6, 20, 24)).astype(np.int16)
UNIT, CODES, SFORM = 123, 252, 280


def nifti(
    path: Path,
    spacing=(1.0, 1.0, 3.0),
    unit: int = 0,
    origin=(0.0, 0.0, 0.0),
    values=VALUES,
    **patches: bytes,
) -> Path:
    """A file with some bytes of its header replaced, as ``at_252=b"..."``."""
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    data = bytearray(path.read_bytes())
    data[UNIT] = unit
    for name, value in patches.items():
        at = int(name.removeprefix("at_"))
        data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("unit", "factor", "flags"),
    [(0, 1, ("spacing_unit_assumed_mm",)), (1, 1000, ()), (2, 1, ()), (3, 0.001, ()), (2 + 8, 1, ())],
)
def test_units(tmp_path, unit, factor, flags):
    found = read_grid_image(nifti(tmp_path / "a.nii", (1.0, 2.0, 3.0), unit, (5.0, 6.0, 7.0)), 3)
    assert found.grid.spacing_mm == pytest.approx(np.array([1, 2, 3]) * factor)
    assert found.grid.origin == pytest.approx(np.array([5, 6, 7]) * factor)
    assert found.flags == flags


def test_nothing_but_ones_is_no_spacing(tmp_path):
    blank = nifti(tmp_path / "a.nii", (1.0, 1.0, 1.0))
    assert read_grid_image(blank, 3).grid.spacing_mm is None
    assert read_grid_image(blank, 3).flags == ()
    # nibabel's identity is another's mirror image.
    eye = np.eye(3, 4, dtype="<f4").tobytes()
    named = nifti(tmp_path / "b.nii", (1.0, 1.0, 1.0), at_252=struct.pack("<2h", 0, 2), at_280=eye)
    assert read_grid_image(named, 3).grid.spacing_mm is None
    placed = nifti(tmp_path / "c.nii", (1.0, 1.0, 1.0), origin=(-90.0, 126.0, -72.0))
    assert read_grid_image(placed, 3).grid.spacing_mm == (1.0, 1.0, 1.0)
    assert read_grid_image(placed, 3).flags == ("spacing_unit_assumed_mm",)


def test_radiographs_without_a_unit(tmp_path):
    flat = nifti(tmp_path / "a.nii", (0.25, 0.5), values=VALUES[0])
    image = read_image(flat)
    assert image.spacing_mm == (0.25, 0.5)
    assert image.flags == ("spacing_unit_assumed_mm",)
    assert read_image(nifti(tmp_path / "b.nii", (1.0, 1.0), values=VALUES[0])).spacing_mm is None


def test_other_steps_are_another_grid_whatever_their_unit(tmp_path):
    grids = {
        spacing: read_labels(nifti(tmp_path / "a.nii", (spacing, spacing, spacing)), 3)[1]
        for spacing in (1.0, 2.0, 3.0)
    }
    assert grids[1.0].differs_from(grids[1.0]) is None
    assert "of no unit" in str(grids[1.0].differs_from(grids[2.0]))
    assert "spacing_mm" in str(grids[2.0].differs_from(grids[3.0]))
    # What knows nothing contradicts nothing.
    stated = read_labels(nifti(tmp_path / "b.nii", (2.0, 2.0, 2.0), 2), 3)[1]
    assert grids[1.0].differs_from(stated) is None
    assert grids[2.0].differs_from(stated) is None
    assert "spacing_mm" in str(grids[3.0].differs_from(stated))


def test_a_place_that_nobody_stated_is_none(tmp_path):
    path = nifti(tmp_path / "a.nii", unit=2, origin=(5.0, 6.0, 7.0), at_252=struct.pack("<2h", 0, 0))
    grid = read_grid_image(path, 3).grid
    assert (grid.spacing_mm, grid.origin, grid.direction) == ((1.0, 1.0, 3.0), None, None)


@pytest.mark.parametrize("patch", [struct.pack("<4f", -1, 0, 0, 50), struct.pack("<4f", -9, 0, 0, 0)])
def test_forms_that_differ_are_flagged(tmp_path, patch):
    assert read_grid_image(nifti(tmp_path / "a.nii", unit=2), 3).flags == ()
    for codes in ((1, 1), (1, 2)):
        path = nifti(tmp_path / "a.nii", unit=2, at_252=struct.pack("<2h", *codes), at_280=patch)
        assert read_grid_image(path, 3).flags == ("sform_qform_differ",)


def test_axes_that_are_turned_agree_in_both_forms(tmp_path):
    image = sitk.GetImageFromArray(VALUES)
    turned = sitk.Euler3DTransform()
    turned.SetRotation(0.3, -0.2, 0.7)
    image.SetDirection(turned.GetMatrix())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-20.0, 30.0, 400.0))
    for flip in (False, True):
        written = sitk.Flip(image, (False, False, flip))
        sitk.WriteImage(written, str(tmp_path / "a.nii.gz"))
        found = read_grid_image(tmp_path / "a.nii.gz", 3)
        assert found.flags == ()
        assert found.grid.direction == pytest.approx(written.GetDirection(), abs=1e-5)


def test_sheared_axes_say_so(tmp_path):
    rows = np.array([[1, 0.2, 0, 0], [0, 1, 0.2, 0], [0.1, 0, 1, 0]], "<f4").tobytes()
    path = nifti(tmp_path / "a.nii", unit=2, at_252=struct.pack("<2h", 0, 1), at_280=rows)
    with pytest.raises(ImageError, match=r"not orthogonal.* resample"):
        read_grid_image(path, 3)


def test_gzipped_files_of_any_name_are_read(tmp_path):
    plain = nifti(tmp_path / "a.nii", unit=2)
    zipped = tmp_path / "b.nii"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    renamed = tmp_path / "c.nii.gz"
    renamed.write_bytes(plain.read_bytes())
    for path in (plain, zipped, renamed):
        found = read_grid_image(path, 3)
        assert np.array_equal(found.pixels, VALUES)
        assert found.grid.spacing_mm == (1.0, 1.0, 3.0)


def test_frames_in_time_say_how_to_take_one(tmp_path):
    one = sitk.GetImageFromArray(VALUES)
    sitk.WriteImage(sitk.JoinSeries([one, one]), str(tmp_path / "cine.nii.gz"))
    for read in (read_grid_image, read_labels):
        with pytest.raises(ImageError, match=r"is 4-D, but .* Save one frame"):
            read(tmp_path / "cine.nii.gz", 3)
    sitk.WriteImage(sitk.JoinSeries([one]), str(tmp_path / "one.nii.gz"))
    assert read_grid_image(tmp_path / "one.nii.gz", 3).grid.size == (24, 20, 6)


@pytest.mark.parametrize("read", [read_image, lambda path: read_grid_image(path, 3)])
def test_a_single_row_is_no_image(tmp_path, read):
    row = nifti(tmp_path / "a.nii", at_40=struct.pack("<8h", 1, 24, 20, 6, 1, 1, 1, 1))
    with pytest.raises(ImageError):
        read(row)
