"""Losses of registration against numpy and against what they must rank."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.nn import registration_losses as r

both = pytest.mark.parametrize("shape", [(17, 24), (9, 12, 10)], ids=["2-D", "3-D"])


def picture(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    noise = torch.rand(2, 1, *shape, generator=draw)
    pool = torch.nn.functional.avg_pool2d if len(shape) == 2 else torch.nn.functional.avg_pool3d
    smooth = pool(noise, 3, 1, 1)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


@both
def test_global_correlation_is_numpys(shape: tuple[int, ...]) -> None:
    a, b = picture(shape), picture(shape, 1)
    expected = [np.corrcoef(x.numpy().ravel(), y.numpy().ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    assert float(r.ncc_loss(a, b, eps=0.0)) == pytest.approx(-np.mean(expected), abs=1e-5)
    assert float(r.ncc_loss(a, 0.2 + 0.5 * a, eps=0.0)) == pytest.approx(-1, abs=1e-5)
    assert float(r.ncc_loss(a, 1 - a, eps=0.0)) == pytest.approx(1, abs=1e-5)


def test_a_constant_image_has_no_correlation_and_a_finite_gradient() -> None:
    a = torch.full((1, 1, 8, 8), 0.3, requires_grad=True)
    loss = r.ncc_loss(a, torch.rand(1, 1, 8, 8))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert a.grad is not None
    assert bool(a.grad.isfinite().all())


@both
@pytest.mark.parametrize("kind", get_args(r.Similarity))
def test_an_image_is_most_similar_to_itself(shape: tuple[int, ...], kind: r.Similarity) -> None:
    a = picture(shape).requires_grad_()
    same = r.similarity_loss(kind, a, a.detach(), window=5)
    other = r.similarity_loss(kind, a, picture(shape, 3), window=5)
    shifted = r.similarity_loss(kind, a, a.detach().roll(2, -1), window=5)
    assert float(same.detach()) < min(float(other.detach()), float(shifted.detach())) - 0.01
    (gradient,) = torch.autograd.grad(other, a)
    assert bool(gradient.any())
    assert bool(gradient.isfinite().all())


def test_windows_do_not_see_a_slow_change_of_brightness() -> None:
    a = picture((32, 32))
    ramp = torch.linspace(0, 1, 32).view(1, 1, 1, -1)
    lit = (0.3 * a + 0.7 * ramp).clamp(0, 1)
    # The whole image's correlation is spoilt by the ramp, that in windows much less.
    assert float(r.ncc_loss(lit, a)) > -0.4
    assert float(r.local_ncc_loss(lit, a, 5)) < -0.5


def test_mutual_information_sees_through_another_modality() -> None:
    a = picture((48, 48))
    other = (4 * (a - 0.5).abs() - 0.4).clamp(0, 1)
    assert abs(float(r.ncc_loss(other, a))) < 0.6
    there = float(r.mutual_information_loss(other, a))
    assert there < float(r.mutual_information_loss(other.roll(9, -1), a)) - 0.1
    assert there < -0.3


def test_mutual_information_of_two_grey_levels_is_log_two() -> None:
    half = (torch.arange(64).view(1, 1, 8, 8) % 2).float()
    assert float(r.mutual_information_loss(half, half)) == pytest.approx(-np.log(2), abs=0.01)
    independent = (torch.arange(64).view(1, 1, 8, 8) // 8 % 2).float()
    assert float(r.mutual_information_loss(half, independent)) == pytest.approx(0, abs=0.01)


@both
def test_total_variation_by_hand(shape: tuple[int, ...]) -> None:
    field = torch.randn(3, len(shape), *shape, generator=torch.Generator().manual_seed(2))
    x = field.numpy()
    differences = [np.abs(np.diff(x, axis=a)) for a in range(2, x.ndim)]
    total = sum(d.sum() for d in differences) / 3
    assert float(r.total_variation(field, "sum")) == pytest.approx(total, rel=1e-5)
    mean = np.mean([d.mean() for d in differences])
    assert float(r.total_variation(field, "mean")) == pytest.approx(mean, rel=1e-5)
    # The sum of the paper is a matter of the grid's size, the mean of the port is not.
    ratio = float(r.total_variation(field, "sum") / r.total_variation(field, "mean"))
    assert ratio > 0.8 * np.prod(shape) * len(shape) ** 2


@both
def test_smoothness_of_known_fields(shape: tuple[int, ...]) -> None:
    dims = len(shape)
    ramp = torch.zeros(1, dims, *shape)
    ramp[:, 0] = 0.5 * torch.arange(shape[-1])
    constant = torch.ones_like(ramp)
    board = sum(torch.meshgrid(*(torch.arange(s) for s in shape), indexing="ij")) % 2
    rough = ramp * 0 + board
    for kind in get_args(r.Smoothness):
        assert float(r.smoothness_loss(kind, constant)) == 0
        # One that alternates from pixel to pixel is what all of them are there to forbid.
        assert float(r.smoothness_loss(kind, rough)) > 0.5
    assert float(r.bending_energy(ramp)) == pytest.approx(0, abs=1e-10)
    assert float(r.diffusion(ramp)) == pytest.approx(0.25 / dims**2, rel=1e-5)


def test_bending_of_a_parabola() -> None:
    x = torch.arange(12.0)
    field = torch.zeros(1, 2, 12, 12)
    field[:, 0] = 0.5 * x[:, None] ** 2
    assert float(r.bending_energy(field)) == pytest.approx(0.5, rel=1e-5)
    field[:, 0] = x[:, None] * x[None]
    assert float(r.bending_energy(field)) == pytest.approx(2 * 0.5, rel=1e-5)


def test_label_losses() -> None:
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    truth = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert float(r.label_cross_entropy(truth, truth)) == pytest.approx(np.log(1 + 2 / np.e), rel=1e-5)
    assert float(r.label_cross_entropy(truth.roll(3, -1), truth)) > np.log(1 + 2 / np.e) + 0.1
    assert float(r.label_dice_loss(truth, truth)) == pytest.approx(0, abs=1e-6)
    # A class that neither image has is left out, one that is missed counts in full.
    only = torch.nn.functional.one_hot(torch.ones(1, 4, 4, dtype=torch.long), 3).movedim(-1, 1).float()
    assert float(r.label_dice_loss(only, only)) == pytest.approx(0, abs=1e-6)
    assert float(r.label_dice_loss(only.roll(1, 1), only)) == pytest.approx(1, abs=1e-6)


def test_code_distances_sum_over_the_code() -> None:
    a, b = torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    assert r.code_distances(a, b).tolist() == [5, 1]


def test_unknown_names_are_refused() -> None:
    a = torch.rand(1, 1, 8, 8)
    with pytest.raises(ConfigError, match="choose ncc"):
        r.similarity_loss("ssim", a, a)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="choose tv_sum"):
        r.smoothness_loss("none", a)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="sum or mean"):
        r.total_variation(a, "max")  # type: ignore[arg-type]
