"""Registration results against SimpleITK's own resampler, and what they refuse."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as PILImage
from scipy.ndimage import gaussian_filter, zoom

from anatozoo.errors import ConfigError, GeometryError, ImageError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.results.field import RegistrationResult

ANGLE = 0.3


def picture(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape)
    return gaussian_filter(noise, 2.0).astype(np.float32) * 100


def turned(dims: int) -> tuple[float, ...]:
    matrix = np.eye(dims)
    c, s = np.cos(ANGLE), np.sin(ANGLE)
    matrix[:2, :2] = [[c, -s], [s, c]]
    return tuple(matrix.ravel())


CASES: dict[str, dict[str, Any]] = {
    "pixels": {"fixed": Grid((40, 31)), "moving": Grid((40, 31))},
    "anisotropic": {"fixed": Grid((40, 31), (0.5, 0.8)), "moving": Grid((40, 31), (0.5, 0.8))},
    "two grids": {
        "fixed": Grid((40, 31), (0.5, 0.8), (3.0, -7.0)),
        "moving": Grid((53, 37), (0.4, 0.7), (-1.0, 2.5), turned(2)),
    },
    "volume": {
        "fixed": Grid((20, 17, 13), (1.0, 0.9, 2.5), (1.0, 2.0, 3.0), turned(3)),
        "moving": Grid((23, 18, 12), (1.1, 0.9, 2.0), (-4.0, 0.0, 9.0)),
    },
}
every_case = pytest.mark.parametrize("case", CASES)


def result(case: str = "two grids", *, amplitude: float = 2.0, **changes: Any) -> RegistrationResult:
    fixed, moving = CASES[case]["fixed"], CASES[case]["moving"]
    n = fixed.dims
    scale = np.asarray(moving.size) / fixed.size
    axes = np.meshgrid(*(np.arange(s) for s in fixed.shape), indexing="ij")
    index = np.stack(axes[::-1], -1).astype(float)
    aligned = (index + 0.5) * scale - 0.5
    draw = np.random.default_rng(3)
    factors = [f / 5 for f in fixed.shape]
    bump = np.stack([zoom(draw.normal(size=(5,) * n), factors, order=3) for _ in range(n)], -1)
    values: dict[str, Any] = {
        "checkpoint": "acregnet-test",
        "version": "1.0.0",
        "moving": "atlas.png",
        "fixed": "patient.png",
        "moving_grid": moving,
        "fixed_grid": fixed,
        "displacement_px": aligned - index + amplitude * bump / np.abs(bump).max(),
        "alignment": np.diag(scale),
        "moving_pixels": picture(moving.shape),
        "fixed_pixels": picture(fixed.shape, 1),
    }
    return RegistrationResult(**(values | changes))


def itk(pixels: np.ndarray, grid: Grid) -> Any:
    return itk_image(pixels, grid)


def resampled(
    r: RegistrationResult, transform: Any, pixels: np.ndarray, *, nearest: bool = False
) -> np.ndarray:
    fixed, moving = itk(r.fixed_pixels, r.fixed_grid), itk(pixels, r.moving_grid)
    how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    beyond = 0.0 if nearest else float(pixels.min())
    return sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, how, beyond))


@every_case
def test_itk_resamples_to_the_same_image(case: str) -> None:
    r = result(case)
    np.testing.assert_allclose(resampled(r, r.as_sitk_transform(), r.moving_pixels), r.warped, atol=1e-3)
    # Nothing but noise would be left of the test if the images did not differ.
    assert float(np.abs(r.warped - r.fixed_pixels).mean()) > 0.5


@every_case
def test_itk_warps_labels_alike(case: str) -> None:
    r = result(case)
    labels = (r.moving_pixels > np.median(r.moving_pixels)).astype(np.uint8) * 3
    found = r.warp(labels)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 3}
    same = resampled(r, r.as_sitk_transform(), labels, nearest=True) == found
    # Half-way positions may go either way.
    assert same.mean() > 0.995


@every_case
@pytest.mark.parametrize("kind", ["field", "mha"])
def test_a_saved_field_is_one_that_itk_reads(case: str, kind: str, tmp_path: Path) -> None:
    r = result(case)
    if kind == "mha" and r.fixed_grid.spacing_mm is None:
        with pytest.raises(GeometryError, match="1 mm is never assumed"):
            r.save(tmp_path, [kind])
        return
    (path,) = r.save(tmp_path, [kind])
    field = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    assert field.GetSize() == r.fixed_grid.size
    transform = sitk.DisplacementFieldTransform(field)
    np.testing.assert_allclose(resampled(r, transform, r.moving_pixels), r.warped, atol=1e-3)


def test_unknown_units_are_written_as_unknown(tmp_path: Path) -> None:
    import gzip

    for case, code in (("pixels", 0), ("anisotropic", 2)):
        paths = result(case).save(tmp_path / case, ["field", "warped"])
        for path in paths:
            assert gzip.decompress(path.read_bytes())[123] & 7 == code


def test_the_identity_changes_nothing() -> None:
    r = result("anisotropic", amplitude=0.0, displacement_px=np.zeros((31, 40, 2)))
    np.testing.assert_array_equal(r.warped, r.moving_pixels)
    np.testing.assert_allclose(r.jacobian, 1, atol=1e-6)
    assert r.folding_fraction == 0
    assert r.displacement_mm is not None
    assert not r.displacement_mm.any()


@every_case
def test_no_deformation_has_a_jacobian_of_one_whatever_the_grids(case: str) -> None:
    np.testing.assert_allclose(result(case, amplitude=0.0).jacobian, 1, atol=1e-4)


def test_millimetres_follow_spacing_and_direction() -> None:
    shift = np.zeros((31, 40, 2))
    shift[..., 0] = 2
    assert result("pixels", displacement_px=shift).displacement_mm is None
    in_mm = result("anisotropic", displacement_px=shift).displacement_mm
    assert in_mm is not None
    np.testing.assert_allclose(in_mm[3, 4], [1.0, 0.0])
    grid = Grid((40, 31), (0.5, 0.8), None, turned(2))
    r = result("anisotropic", displacement_px=shift, fixed_grid=grid, moving_grid=grid)
    assert r.displacement_mm is not None
    np.testing.assert_allclose(r.displacement_mm[3, 4], [np.cos(ANGLE), np.sin(ANGLE)])


def test_folds_are_counted() -> None:
    field = np.zeros((31, 40, 2))
    columns = np.arange(40)
    field[..., 0] = np.where((columns > 10) & (columns < 21), -2.0 * (columns - 10), 0)
    r = result("pixels", displacement_px=field)
    assert 0.2 < r.folding_fraction < 0.35
    assert r.jacobian[15, 15] == pytest.approx(-1)


@every_case
def test_points_go_there_and_back(case: str) -> None:
    r = result(case)
    middle = np.asarray(r.fixed_grid.size) / 2
    points = middle + np.random.default_rng(0).uniform(-4, 4, (30, r.dims))
    there = r.points_to_moving(points)
    assert np.abs(there - points).max() > 0.5
    np.testing.assert_allclose(r.warp(there), points, atol=5e-3)


def test_points_that_no_pixel_shows_are_nan() -> None:
    found = result("pixels").warp(np.array([[500.0, 3.0], [20.0, 15.0]]))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert result("pixels").warp(np.zeros((0, 2)), "points").shape == (0, 2)


def test_a_landmark_stays_on_its_structure() -> None:
    """The same thing as a mask and as a point: both must arrive at one place."""
    r = result("two grids")
    mask = np.zeros(r.moving_grid.shape, np.uint8)
    mask[18:22, 26:30] = 1
    rows, columns = np.nonzero(r.warp(mask))
    (point,) = r.warp(np.array([[27.5, 19.5]]))
    np.testing.assert_allclose(point, [columns.mean(), rows.mean()], atol=0.5)


def test_masks_come_in_many_forms(tmp_path: Path) -> None:
    import torch

    r = result("two grids")
    labels = (r.moving_pixels > np.median(r.moving_pixels)).astype(np.uint8)
    expected = r.warp(labels)
    PILImage.fromarray(labels).save(tmp_path / "mask.png")
    sitk.WriteImage(itk(labels, r.moving_grid), str(tmp_path / "mask.nii.gz"))
    forms = [
        torch.from_numpy(labels),
        PILImage.fromarray(labels),
        itk(labels, r.moving_grid),
        tmp_path / "mask.png",
        str(tmp_path / "mask.nii.gz"),
    ]
    for form in forms:
        np.testing.assert_array_equal(r.warp(form), expected)
    assert r.warp(labels.astype(bool)).dtype == bool
    assert not r.warp(np.zeros_like(labels)).any()
    # Floating-point values are an image, unless they are said to be labels.
    assert len(np.unique(r.warp(labels.astype(np.float32)))) > 2
    np.testing.assert_array_equal(r.warp(labels.astype(np.float32), "labels"), expected)
    assert len(np.unique(r.warp(255 * labels, "image"))) > 2


def test_what_lies_elsewhere_is_refused() -> None:
    r = result("two grids")
    with pytest.raises(GeometryError, match="another grid than the moving image"):
        r.warp(np.zeros(r.fixed_grid.shape, np.uint8))
    moved = itk(np.zeros(r.moving_grid.shape, np.uint8), r.moving_grid)
    moved.SetOrigin([90.0, 2.5])
    with pytest.raises(GeometryError, match="origin"):
        r.warp(moved)
    with pytest.raises(ImageError, match="fractions"):
        r.warp(r.moving_pixels, "labels")
    with pytest.raises(GeometryError, match=r"\(N, 2\)"):
        r.warp(np.zeros((4, 3)), "points")
    with pytest.raises(ConfigError, match="choose auto"):
        r.warp(r.moving_pixels, "mask")  # type: ignore[arg-type]


def test_contradictions_are_refused() -> None:
    with pytest.raises(GeometryError, match="both or neither"):
        result("anisotropic", moving_grid=Grid((40, 31)))
    with pytest.raises(GeometryError, match="displacement_px must be finite"):
        result("pixels", displacement_px=np.full((31, 40, 2), np.nan))
    with pytest.raises(GeometryError, match="of shape"):
        result("pixels", displacement_px=np.zeros((40, 31, 2)))
    with pytest.raises(GeometryError, match="3-D image cannot be registered"):
        result("pixels", moving_grid=Grid((4, 5, 6)))


def test_arrays_cannot_be_changed() -> None:
    r = result()
    for array in (r.displacement_px, r.warped, r.jacobian, r.moving_pixels, r.alignment):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@every_case
def test_save_writes_what_it_says(case: str, tmp_path: Path) -> None:
    r = result(case, flags=("field_folds", "field_folds"))
    paths = r.save(tmp_path)
    assert [p.name for p in paths] == [
        "atlas_to_patient_displacement.nii.gz",
        "atlas_to_patient_warped.nii.gz",
        "atlas_to_patient.json",
        "atlas_to_patient_registration.png",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    warped = sitk.ReadImage(str(paths[1]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(warped), r.warped)
    np.testing.assert_allclose(warped.GetDirection(), r.fixed_grid.axes.ravel(), atol=1e-6)
    stored = json.loads(paths[2].read_text())
    assert stored == json.loads(json.dumps(r.to_dict()))
    assert stored["flags"] == ["field_folds"]
    assert (stored["deformation_mm"] is None) == (r.fixed_grid.spacing_mm is None)
    assert 1.5 < stored["deformation_px"]["max"] < 4
    with PILImage.open(paths[3]) as drawn:
        assert drawn.size[0] > 800


def test_save_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    r = result()
    with pytest.raises(ConfigError, match="no format tiff; use field"):
        r.save(tmp_path, ["tiff"])
    with pytest.raises(ConfigError, match="without a folder"):
        r.save(tmp_path, stem="../x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", ["two grids", "volume"])
def test_the_plot_shows_five_pictures_a_row(case: str) -> None:
    figure = result(case).plot()
    titles = [ax.get_title() for ax in figure.axes]
    for word in ("Moving", "Fixed", "Warped", "Grid", "Difference"):
        assert any(word in title for title in titles), word
    assert len(figure.axes) == (5 if case == "two grids" else 15)
    assert result(case)._repr_png_().startswith(b"\x89PNG")


def test_the_top_level_exports_it() -> None:
    import anatozoo

    assert anatozoo.RegistrationResult is RegistrationResult
