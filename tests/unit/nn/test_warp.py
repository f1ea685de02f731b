"""Warping against scipy, fields whose warp is known, and what becomes of volumes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.metrics.registration import inverse_consistency_error_px
from anatozoo.nn import warp as w

SHAPES = [(9, 14), (6, 7, 11)]
both = pytest.mark.parametrize("shape", SHAPES, ids=["2-D", "3-D"])


def smooth_field(shape: tuple[int, ...], amplitude: float, seed: int = 0) -> torch.Tensor:
    """A random field that is zero at the border."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, len(shape), *[4] * len(shape), generator=draw, dtype=torch.float64)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    field = torch.nn.functional.interpolate(coarse, size=shape, mode=mode, align_corners=True)
    for axis, size in enumerate(shape):
        window = torch.sin(torch.linspace(0, np.pi, size, dtype=torch.float64))
        field = field * window.view([-1 if a == axis else 1 for a in range(len(shape))])
    return field * amplitude / field.abs().max()


@both
@pytest.mark.parametrize(("mode", "order"), [("linear", 1), ("nearest", 0)])
def test_agrees_with_scipy(shape: tuple[int, ...], mode: w.Mode, order: int) -> None:
    draw = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, *shape, generator=draw, dtype=torch.float64)
    # Within the image: what lies beyond its border is a matter of its own.
    target = torch.rand(2, len(shape), *shape, generator=draw, dtype=torch.float64)
    target = target * (torch.tensor(shape).view(1, -1, *[1] * len(shape)) - 1)
    field = target - w.identity_grid(target)
    found = w.warp(image, field, mode)
    for b in range(2):
        for c in range(3):
            expected = map_coordinates(image[b, c].numpy(), target[b].numpy(), order=order)
            np.testing.assert_allclose(found[b, c].numpy(), expected, atol=1e-9)


@both
def test_no_displacement_changes_nothing(shape: tuple[int, ...]) -> None:
    image = torch.rand(1, 2, *shape)
    field = torch.zeros(1, len(shape), *shape)
    torch.testing.assert_close(w.warp(image, field), image, rtol=0, atol=1e-5)
    assert torch.equal(w.warp(image, field, "nearest"), image)


def test_the_first_channel_moves_rows() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    field = torch.zeros(1, 2, 3, 4)
    field[:, 0] = 1
    torch.testing.assert_close(w.warp(image, field)[0, 0, :2], image[0, 0, 1:])
    assert not w.warp(image, field)[0, 0, 2].any()
    torch.testing.assert_close(w.warp(image, field, padding="border")[0, 0, 2], image[0, 0, 2])


def test_linear_has_gradients_and_nearest_has_none_for_the_field() -> None:
    image = torch.rand(1, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    field = (0.3 * torch.rand(1, 2, 6, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, f: w.warp(i, f, padding="border"), (image, field))
    w.warp(image, field, "nearest").square().sum().backward()
    assert field.grad is None or not field.grad.any()
    assert image.grad is not None


def test_stays_in_single_precision_under_autocast() -> None:
    image, field = torch.rand(1, 1, 256, 256), torch.zeros(1, 2, 256, 256)
    with torch.autocast("cpu", torch.bfloat16):
        warped = w.warp(image, field.bfloat16())
    assert warped.dtype == torch.float32
    torch.testing.assert_close(warped, image, rtol=0, atol=1e-4)


@both
def test_composition_is_warping_twice(shape: tuple[int, ...]) -> None:
    big = tuple(8 * s for s in shape)
    # Linear interpolation of a ramp is exact, so that both ways must agree to the last digit.
    image = w.identity_grid(smooth_field(big, 1.0)).sum(1, keepdim=True)
    first, second = smooth_field(big, 2.0, seed=2), smooth_field(big, 2.0, seed=3)
    twice = w.warp(w.warp(image, first), second)
    once = w.warp(image, w.compose(first, second))
    torch.testing.assert_close(once, twice, rtol=0, atol=1e-9)
    other = w.warp(image, w.compose(second, first))
    assert float((twice - other).abs().max()) > 0.01


@both
def test_integration_has_an_inverse(shape: tuple[int, ...]) -> None:
    big = tuple(6 * s for s in shape)
    velocity = smooth_field(big, 5.0)
    there, back = w.integrate(velocity), w.integrate(-velocity)
    assert float(inverse_consistency_error_px(there, back)) < 0.02
    assert float(inverse_consistency_error_px(there, -there)) > 5 * float(
        inverse_consistency_error_px(there, back)
    )
    assert float(w.folding_fraction(there)) == 0


@pytest.mark.parametrize(("shape", "amplitude"), [((64, 64), 8.0), ((32, 40, 28), 4.0)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("seed", range(3))
def test_the_inverse_of_a_smooth_random_velocity_is_a_tenth_of_a_pixel_off_at_most(
    shape: tuple[int, ...], amplitude: float, seed: int
) -> None:
    """The accuracy that is promised of velocity fields, also where they carry the border out of the image."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, len(shape), *[5] * len(shape), generator=draw)
    mode = "bicubic" if len(shape) == 2 else "trilinear"
    velocity = torch.nn.functional.interpolate(coarse, size=shape, mode=mode, align_corners=True)
    velocity = velocity * amplitude / velocity.abs().max()
    there, back = w.integrate(velocity), w.integrate(-velocity)
    assert float(there.abs().max()) > 0.5 * amplitude
    assert float(inverse_consistency_error_px(there, back)) < 0.1
    assert float(inverse_consistency_error_px(back, there)) < 0.1


def test_the_error_of_an_inverse_counts_only_what_stays_inside() -> None:
    shift = torch.zeros(4, 2, 8, 10)
    shift[1, 1], shift[2, 1], shift[3, 1] = 3.0, 20.0, 3.0
    back = -shift
    back[3, 1, :, :5] -= 1.0  # where the first three columns leave the image in any case
    error = inverse_consistency_error_px(shift, back)
    assert error[:2].tolist() == [0, 0]
    # 20 pixels leave no pixel of 10 behind: nothing was measured, which is not the same as no error.
    assert bool(error[2].isnan())
    # Of the pixels that stay, columns 4 to 9, one column in six is a pixel off.
    assert float(error[3]) == pytest.approx(1 / 6)


def test_a_constant_velocity_is_its_own_displacement() -> None:
    velocity = torch.ones(1, 2, 8, 9, dtype=torch.float64) * torch.tensor([1.5, -0.5]).view(1, 2, 1, 1)
    torch.testing.assert_close(w.integrate(velocity, 4), velocity)
    torch.testing.assert_close(w.integrate(velocity, 0), velocity)


def test_a_linear_velocity_gives_the_exponential() -> None:
    rows = torch.arange(33, dtype=torch.float64) - 16
    velocity = torch.zeros(1, 2, 33, 5, dtype=torch.float64)
    velocity[0, 0] = (-0.5 * rows)[:, None]
    expected = (np.exp(-0.5) - 1) * rows
    torch.testing.assert_close(w.integrate(velocity, 10)[0, 0, :, 2], expected, rtol=0, atol=1e-2)


@both
def test_the_determinant_of_a_scaling_is_its_volume(shape: tuple[int, ...]) -> None:
    scale = torch.tensor([0.5, 1.2, 0.8][: len(shape)], dtype=torch.float64)
    grid = w.identity_grid(torch.zeros(1, len(shape), *shape, dtype=torch.float64))
    field = grid * (scale.view(1, -1, *[1] * len(shape)) - 1)
    expected = torch.full((1, *shape), float(scale.prod()), dtype=torch.float64)
    torch.testing.assert_close(w.jacobian_determinant(field), expected)
    # A shear keeps volumes, whatever is off the diagonal.
    shear = torch.zeros_like(field)
    shear[:, 0] = 0.7 * grid[:, 1]
    torch.testing.assert_close(w.jacobian_determinant(shear), torch.ones_like(expected))


def test_a_mirrored_stripe_folds() -> None:
    field = torch.zeros(2, 2, 20, 10)
    rows = torch.arange(20.0)
    field[1, 0] = torch.where((rows > 5) & (rows < 15), -2 * (rows - 5), torch.tensor(0.0))[:, None]
    fraction = w.folding_fraction(field)
    assert float(fraction[0]) == 0
    assert 0.3 < float(fraction[1]) < 0.7


def test_resizing_keeps_where_things_are() -> None:
    rows, columns = torch.arange(16.0) + 0.5, torch.arange(24.0) + 0.5
    # An area that grows by a tenth along rows, from the outer edge of the grid, and shifts along columns.
    field = torch.stack([(0.1 * rows)[:, None].expand(16, 24), torch.full((16, 24), 2.0) + 0 * columns])[None]
    bigger = w.resize_field(field, (32, 36))
    expected = 0.1 * (torch.arange(32.0) + 0.5)
    torch.testing.assert_close(bigger[0, 0, 1:-1, 3], expected[1:-1])
    torch.testing.assert_close(bigger[0, 1], torch.full((32, 36), 3.0))


@pytest.mark.parametrize(
    ("image", "field"), [((1, 1, 8, 8), (1, 2, 8, 9)), ((1, 1, 8, 8), (1, 3, 8, 8)), ((8, 8), (1, 2, 8, 8))]
)
def test_shapes_that_do_not_belong_together(image: tuple[int, ...], field: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match=r"belong together|different grids"):
        w.warp(torch.zeros(image), torch.zeros(field))


def test_unknown_settings_are_refused() -> None:
    image, field = torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 8, 8)
    with pytest.raises(ConfigError, match="linear or nearest"):
        w.warp(image, field, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 0"):
        w.integrate(field, -1)
    with pytest.raises(GeometryError, match="no derivative"):
        w.jacobian_determinant(torch.zeros(1, 2, 8, 1))
