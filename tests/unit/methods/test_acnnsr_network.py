"""Networks that make fine slices of thick ones, and how thick ones are made of fine ones."""

from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError
from anatozoo.methods.acnnsr.network import build_network, slices_from_channels
from anatozoo.metrics.images import psnr, ssim
from anatozoo.nn.slices import interpolate_slices
from anatozoo.nn.thick_slices import PROFILES, degrade_slices, slice_profile

NAMES = ("subpixel", "transposed")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2, 5])
def test_a_fresh_network_interpolates(name: Any, factor: int) -> None:
    network = build_network(name, factor, width=8, depth=1)
    coarse = torch.rand(2, 1, 3, 7, 6)
    assert network(coarse).shape == (2, 1, 3 * factor, 7, 6)
    torch.testing.assert_close(network(coarse), interpolate_slices(coarse, factor))
    torch.nn.init.normal_(network.head.weight)
    network(coarse).square().mean().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert {id(p) for p in network.coarse.parameters()} < {id(p) for p in network.parameters()}


def test_channels_become_slices_in_their_order() -> None:
    # Channel 3c + s of coarse slice z is slice 3z + s of channel c.
    x = torch.arange(6).view(1, 6, 1, 1, 1) + 10 * torch.arange(2).view(1, 1, 2, 1, 1)
    found = slices_from_channels(x, 3)
    assert found[0, :, :, 0, 0].tolist() == [[0, 1, 2, 10, 11, 12], [3, 4, 5, 13, 14, 15]]


def test_a_box_averages() -> None:
    fine = torch.rand(2, 1, 12, 4, 3)
    coarse = degrade_slices(fine, 4, "box")
    assert coarse.shape == (2, 1, 3, 4, 3)
    torch.testing.assert_close(coarse[:, :, 1], fine[:, :, 4:8].mean(2))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_gaussian_is_as_wide_as_slices_are_apart(factor: int) -> None:
    weights = slice_profile(factor, "gaussian").numpy()
    away = np.arange(len(weights)) - (len(weights) - 1) / 2
    assert weights.sum() == pytest.approx(1)
    half = np.interp(factor / 2, away[away >= 0], weights[away >= 0])
    top = weights.max() * 2 ** (away[np.abs(away).argmin()] ** 2 * 4 / factor**2)  # what it is in the middle
    assert half / top == pytest.approx(0.5, abs=0.05)
    assert (weights == weights[::-1]).all()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("factor", [2, 3])
def test_thick_slices_lie_in_the_middle_of_the_thin_ones(profile: Any, factor: int) -> None:
    """A ramp stays what it is, seen at the middle of each thick slice, away from the ends."""
    ramp = torch.arange(6.0 * factor).view(1, 1, -1, 1, 1)
    found = degrade_slices(ramp, factor, profile)[0, 0, 1:-1, 0, 0]
    middle = torch.arange(1, 5) * factor + (factor - 1) / 2
    torch.testing.assert_close(found, middle)
    torch.testing.assert_close(interpolate_slices(degrade_slices(ramp, factor, profile), factor)[
        :, :, 2 * factor : -2 * factor
    ], ramp[:, :, 2 * factor : -2 * factor])  # fmt: skip
    still = torch.full((1, 2, 2 * factor, 3, 3), 7.0)
    torch.testing.assert_close(degrade_slices(still, factor, profile), torch.full((1, 2, 2, 3, 3), 7.0))


def test_measures_see_what_is_inside_alone() -> None:
    torch.manual_seed(0)
    truth = torch.rand(2, 1, 12, 12, 12)
    found = truth.clone()
    found[0] += 0.1
    found[1, :, :, 6:] += 0.5
    inside = torch.ones(2, 12, 12, 12, dtype=torch.bool)
    torch.testing.assert_close(psnr(found, truth, inside), torch.tensor([20.0, 9.0309]), atol=1e-3, rtol=0)
    inside[1, :, 6:] = False
    assert psnr(found, truth, inside)[1] == torch.inf
    whole = ssim(found, truth, torch.ones_like(inside))
    part = ssim(found, truth, inside)
    assert float(ssim(truth, truth, inside)[0]) == pytest.approx(1)
    assert float(part[0]) == pytest.approx(float(whole[0]))
    assert float(whole[1]) < float(part[1]) < 1  # windows reach across


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: build_network("subpixel", 1), "factor=1"),
        (lambda: build_network("subpixel", 2, width=1), "width=1"),
        (lambda: build_network("transposed", 2, depth=0), "depth=0"),
        (lambda: build_network("bicubic", 2), "architecture='bicubic' is unknown"),  # type: ignore[arg-type]
        (lambda: degrade_slices(torch.rand(1, 1, 5, 4, 4), 2), "5 slices"),
        (lambda: slice_profile(2, "sinc"), "profile='sinc' is unknown"),
    ],
)
def test_impossible_networks_are_refused(make: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        make()
