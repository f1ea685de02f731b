"""Gradients under autocast on a CPU hold on small maps too."""

import pytest
import torch
from torch import Tensor, nn

from anatozoo.nn.half_precision import full_where_small

LAYERS = {
    "a map of two slices": (nn.Conv3d(16, 16, 3, padding=1), (2, 6, 6)),
    "a map of two columns": (nn.Conv3d(16, 16, 3, padding=1), (6, 6, 2)),
    "a stride of 2 in 3-D": (nn.Conv3d(16, 16, 3, stride=2, padding=1), (4, 1, 1)),
    "a stride of 2 in 2-D": (nn.Conv2d(16, 16, 3, stride=2, padding=1), (3, 1)),
    "transposed in 3-D": (nn.ConvTranspose3d(16, 16, 3, stride=2, padding=1, output_padding=1), (2, 2, 2)),
    "transposed in 2-D": (nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1), (1, 1)),
}


def gradients(layer: nn.Module, shape: tuple[int, ...], *, half: bool) -> list[Tensor]:
    """Output and gradients of weight and bias, as if freed memory held no numbers."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, *shape).bfloat16().float()
    layer.zero_grad()
    rubbish = [torch.full((size,), torch.nan) for size in (64, 1000, 7000, 30000) for _ in range(8)]
    del rubbish
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layer(x)
    (y * torch.randn_like(y, dtype=torch.float32)).sum().backward()
    return [y.detach().float(), *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=list(LAYERS))
def test_small_maps_have_the_gradients_of_single_precision(layer: nn.Module, shape: tuple[int, ...]) -> None:
    full_where_small(nn.Sequential(layer))
    for found, expected in zip(
        gradients(layer, shape, half=True), gradients(layer, shape, half=False), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_large_maps_stay_in_half_precision(dims: int) -> None:
    layer = {2: nn.Conv2d, 3: nn.Conv3d}[dims](16, 16, 3, padding=1)
    full_where_small(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 16, *[3] * dims)).dtype == torch.bfloat16
        assert layer(torch.randn(1, 16, *[3] * (dims - 1), 2)).dtype == torch.float32


def test_a_transposed_convolution_still_takes_a_size() -> None:
    layer = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1)
    full_where_small(layer)
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert layer(torch.randn(1, 4, 2, 2), output_size=(4, 4)).shape == (1, 4, 4, 4)


def test_names_copies_and_subclasses_stay() -> None:
    class Own(nn.Conv2d):
        pass

    network = nn.Sequential(nn.Conv2d(1, 2, 3), Own(2, 2, 3))
    names = list(network.state_dict())
    full_where_small(network)
    full_where_small(network)
    assert list(network.state_dict()) == names
    assert type(network[1]) is Own
    assert isinstance(network[0], nn.Conv2d)
    assert network[0].extra_repr() == nn.Conv2d(1, 2, 3).extra_repr()
