"""Blocks that train in channels-last order, against the same layers one by one."""

import copy

import pytest
import torch
from torch.nn import functional as F

from anatozoo.nn.blocks import ResidualBlock
from anatozoo.nn.image_norm import trains_in_place


def plain(block: ResidualBlock, x: torch.Tensor) -> torch.Tensor:
    y = block.conv1(F.relu(block.norm1(x)))
    y = block.conv2(F.relu(block.norm2(y)))
    return F.relu(y + block.shortcut(x))


@pytest.mark.parametrize("widths", [(1, 8), (4, 6), (5, 5)])
@pytest.mark.parametrize("size", [(12, 9), (1, 2)])
def test_a_block_trains_as_its_layers_do(widths: tuple[int, int], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(*widths)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    expected = copy.deepcopy(block)
    block.to(memory_format=torch.channels_last)
    x = torch.randn(3, widths[0], *size) * 2 + 1
    here = x.clone().contiguous(memory_format=torch.channels_last).requires_grad_(widths[0] > 1)
    there = x.clone().requires_grad_(widths[0] > 1)
    assert trains_in_place(here, block.norm1)
    assert not trains_in_place(here, torch.nn.BatchNorm2d(1))
    found, truth = block(here), plain(expected, there)
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(truth)
    (found * weight).sum().backward()
    (truth * weight).sum().backward()
    for (name, a), (_, b) in zip(block.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    if widths[0] > 1:
        torch.testing.assert_close(here.grad, there.grad, rtol=1e-3, atol=1e-4)


def test_half_precision_stays_as_near_to_full_precision() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(1, 8).to(memory_format=torch.channels_last)
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        truth = plain(block, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lean, layers = (each.detach() for each in (block(x), plain(block, x)))
    error = [float((each.float() - truth).abs().mean()) for each in (lean, layers)]
    assert error[0] < 1.1 * error[1]
