"""What is measured of displacement fields: against formulas for affine fields, and against SimpleITK."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.errors import GeometryError
from anatozoo.io.grid import Grid
from anatozoo.metrics.registration import (
    folding_fraction,
    inverse_consistency_error_mm,
    inverse_consistency_error_px,
    log_jacobian_sd,
    moved_landmarks,
    smoothness,
    target_registration_error_mm,
    target_registration_error_px,
)
from anatozoo.nn import warp
from anatozoo.results.field import RegistrationResult

MEASURES = [folding_fraction, log_jacobian_sd, smoothness]
SHAPES = [(30, 45), (45, 30), (9, 12, 7)]


def affine_field(matrix: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """The field p -> (matrix - 1) p on a grid, axes in the order of the array."""
    positions = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(float)
    moved = np.tensordot(matrix, positions, axes=1)
    return torch.from_numpy(moved - positions)[None]


def wavy_field(shape: tuple[int, ...], size: float, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    coarse = size * torch.randn(1, len(shape), *[4] * len(shape), dtype=torch.float64)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return torch.nn.functional.interpolate(coarse, size=shape, mode=mode, align_corners=True)


def itk_image(field: torch.Tensor) -> sitk.Image:
    """The same field as ITK holds it: components x, y[, z] last."""
    array = field[0].flip(0).movedim(0, -1).numpy().copy()
    return sitk.GetImageFromArray(array, isVector=True)


# Fields


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_fields_are_as_their_matrix_says(shape: tuple[int, ...]) -> None:
    matrix = np.eye(len(shape)) + 0.1 * np.arange(len(shape) ** 2).reshape(len(shape), -1)
    field = affine_field(matrix, shape)
    assert folding_fraction(field).tolist() == [0.0]
    assert log_jacobian_sd(field).item() == pytest.approx(0, abs=1e-9)
    slope = matrix - np.eye(len(shape))
    assert smoothness(field).item() == pytest.approx(np.square(slope).mean())
    spacing = np.array([0.5, 2.0, 3.0][: len(shape)])
    in_mm = np.diag(spacing[::-1]) @ slope @ np.diag(1 / spacing[::-1])  # axes count the other way round
    assert smoothness(field, tuple(spacing)).item() == pytest.approx(np.square(in_mm).mean())
    assert smoothness(field, 0.35).item() == pytest.approx(np.square(slope).mean())


def test_a_mirrored_field_folds_everywhere_and_each_pair_has_its_own_number() -> None:
    mirrored = affine_field(np.diag([1.0, -1.0]), (30, 45))
    batch = torch.cat([torch.zeros_like(mirrored), mirrored])
    assert folding_fraction(batch).tolist() == [0.0, 1.0]
    half = mirrored.clone()
    half[..., 23:] = mirrored[..., 22:23]  # goes on as a shift: the rest is rigid
    assert folding_fraction(half).item() == pytest.approx(23 / 45, abs=1 / 45)


def test_folds_never_make_the_log_jacobian_better() -> None:
    field = wavy_field((40, 50), 1.0)
    before = log_jacobian_sd(field).item()
    field[0, :, 10:14, 10:14] *= -20
    assert folding_fraction(field).item() > 0
    assert log_jacobian_sd(field).item() > before
    assert log_jacobian_sd(field, least=1e-3).item() < log_jacobian_sd(field).item()
    assert math.isfinite(log_jacobian_sd(affine_field(np.zeros((2, 2)), (5, 6))).item())  # all in one point


def test_stretched_half_has_the_spread_of_two_values() -> None:
    field = torch.zeros(1, 2, 50, 400, dtype=torch.float64)
    field[0, 1] = torch.cat([torch.zeros(200), torch.arange(200.0)])  # determinants 1 and 2
    assert log_jacobian_sd(field).item() == pytest.approx(math.log(2) / 2, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_determinants_are_those_of_itk(shape: tuple[int, ...]) -> None:
    field = wavy_field(shape, 1.5)
    image = sitk.DisplacementFieldJacobianDeterminant(itk_image(field))
    inner = (slice(1, -1),) * len(shape)  # ITK takes the field as 0 beyond the border
    determinant = sitk.GetArrayFromImage(image)[inner]
    ours = warp.jacobian_determinant(field)[0].numpy()[inner]
    np.testing.assert_allclose(ours, determinant, atol=1e-5)
    assert np.std(determinant) > 0.05


@pytest.mark.parametrize("measure", MEASURES)
def test_kinds_of_fields_give_the_same(measure) -> None:
    field = wavy_field((20, 30), 2.0)
    expected = measure(field)
    assert expected.dtype == torch.float64
    assert expected.shape == (1,)
    for given in (field.numpy(), field.float(), field.clone().requires_grad_()):
        found = measure(given)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    half = field.bfloat16()
    torch.testing.assert_close(measure(half), measure(half.double()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("measure", [*MEASURES, lambda f: inverse_consistency_error_px(f, f)])
@pytest.mark.parametrize(
    ("field", "message"),
    [
        (torch.full((1, 2, 8, 9), torch.nan), "NaN or infinite"),
        (torch.full((1, 2, 8, 9), torch.inf), "NaN or infinite"),
        (torch.zeros(1, 3, 8, 9), "a field is"),
        (torch.zeros(1, 2, 4, 8, 9), "a field is"),
        (torch.zeros(2, 8, 9), "a field is"),
        (torch.zeros(0, 2, 8, 9), "a field is"),
    ],
)
def test_what_is_no_field_is_refused(measure, field: torch.Tensor, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        measure(field)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_grid_of_one_row_has_no_derivative(measure) -> None:
    with pytest.raises(GeometryError, match="no derivative"):
        measure(torch.zeros(1, 2, 1, 9))


def test_settings_out_of_range_are_refused() -> None:
    field = torch.zeros(1, 2, 8, 9)
    with pytest.raises(GeometryError, match="least"):
        log_jacobian_sd(field, least=0.0)
    for spacing in (0.0, (1.0, math.nan), (1.0, 1.0, 1.0)):
        with pytest.raises(GeometryError, match="spacing"):
            smoothness(field, spacing)


def test_the_field_of_a_result() -> None:
    field = wavy_field((20, 32), 2.5)
    displacement = field[0].flip(0).movedim(0, -1).numpy().astype(np.float32)
    pixels = np.zeros((20, 32), np.float32)
    grids = {"moving_grid": Grid((32, 20)), "fixed_grid": Grid((32, 20))}
    names = {"checkpoint": "c", "version": "1", "moving": "m", "fixed": "f"}
    result = RegistrationResult(
        displacement_px=displacement,
        alignment=np.eye(2),
        moving_pixels=pixels,
        fixed_pixels=pixels,
        **names,
        **grids,
    )
    taken = torch.from_numpy(result.deformation_px.copy()).flip(-1).movedim(-1, 0)[None]
    torch.testing.assert_close(taken, field, rtol=0, atol=1e-5)
    assert result.folding_fraction > 0
    assert folding_fraction(taken).item() == pytest.approx(result.folding_fraction)
    points = np.array([[3.25, 7.5], [30.0, 1.0]])
    np.testing.assert_allclose(moved_landmarks(taken, points[None])[0], result.points_to_moving(points))


# Landmarks


@pytest.mark.parametrize("shape", SHAPES)
def test_landmarks_move_as_itk_moves_them(shape: tuple[int, ...]) -> None:
    field = wavy_field(shape, 2.0)
    transform = sitk.DisplacementFieldTransform(sitk.Cast(itk_image(field), sitk.sitkVectorFloat64))
    size = np.array(shape[::-1])
    points = np.random.default_rng(0).uniform(0.5, size - 1.5, (20, len(shape)))
    moved = np.array([transform.TransformPoint(p.tolist()) for p in points])
    np.testing.assert_allclose(moved_landmarks(field, points[None])[0].numpy(), moved, atol=1e-9)
    spacing = (0.5, 2.0, 3.0)[: len(shape)]
    goal = points + 1.0
    expected = np.linalg.norm(moved - goal, axis=1).mean()
    in_mm = np.linalg.norm((moved - goal) * spacing, axis=1).mean()
    assert target_registration_error_px(field, points[None], goal[None]).item() == pytest.approx(expected)
    found = target_registration_error_mm(field, points[None], goal[None], spacing)
    assert found.item() == pytest.approx(in_mm)


def test_each_pair_has_its_landmarks_and_the_field_goes_on_beyond_the_border() -> None:
    field = torch.zeros(2, 2, 10, 20)
    field[1, 0], field[1, 1] = 3.0, 4.0  # 3 rows down, 4 columns right
    points = torch.tensor([[[5.0, 5.0]], [[-30.0, 50.0]]])
    assert moved_landmarks(field, points).tolist() == [[[5.0, 5.0]], [[-26.0, 53.0]]]
    assert target_registration_error_px(field, points, points).tolist() == [0.0, 5.0]
    assert target_registration_error_mm(field, points, points, (2.0, 1.0)).tolist() == [0.0, math.hypot(8, 3)]


def test_millimetres_need_a_spacing() -> None:
    field, points = torch.zeros(1, 2, 8, 9), torch.zeros(1, 3, 2)
    for spacing in (None, 0.0, (1.0, 1.0, 1.0)):
        with pytest.raises(GeometryError, match="spacing"):
            target_registration_error_mm(field, points, points, spacing)
        with pytest.raises(GeometryError, match="spacing"):
            inverse_consistency_error_mm(field, field, spacing)


@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        (torch.zeros(1, 3, 3), torch.zeros(1, 3, 3), "do not belong"),
        (torch.zeros(2, 3, 2), torch.zeros(2, 3, 2), "do not belong"),
        (torch.zeros(3, 2), torch.zeros(3, 2), "do not belong"),
        (torch.zeros(1, 0, 2), torch.zeros(1, 0, 2), "at least one"),
        (torch.zeros(1, 3, 2), torch.zeros(1, 4, 2), "in one order"),
        (torch.full((1, 3, 2), torch.nan), torch.zeros(1, 3, 2), "NaN"),
        (torch.zeros(1, 3, 2), torch.full((1, 3, 2), torch.nan), "NaN"),
    ],
)
def test_landmarks_that_do_not_fit_are_refused(fixed, moving, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        target_registration_error_px(torch.zeros(1, 2, 8, 9), fixed, moving)


# There and back


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back_in_pixels_and_in_millimetres(shape: tuple[int, ...]) -> None:
    field, inverse = wavy_field(shape, 1.0), wavy_field(shape, 1.0, seed=1)
    found = inverse_consistency_error_px(field, inverse)
    assert found.item() > 0
    assert inverse_consistency_error_mm(field, inverse, 0.5).item() == pytest.approx(found.item() / 2)


def test_a_shift_and_its_return_cancel() -> None:
    shift = torch.zeros(1, 2, 20, 30)
    shift[:, 0], shift[:, 1] = 2.0, 5.0
    assert inverse_consistency_error_px(shift, -shift).item() == 0
    assert inverse_consistency_error_px(shift, shift).item() == pytest.approx(math.hypot(4, 10))
    assert inverse_consistency_error_mm(shift, shift, (0.5, 3.0)).item() == pytest.approx(math.hypot(12, 5))


def test_what_leaves_the_image_altogether_is_not_perfect() -> None:
    away = torch.full((1, 2, 20, 30), 100.0)
    assert inverse_consistency_error_px(-away, away).isnan().all()
    with pytest.raises(GeometryError, match="one another's inverse"):
        inverse_consistency_error_px(away, away[..., :20])
