"""The two generators of CycleGAN, one for each direction."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError

DOWNS = 2
"""Convolutions of stride 2 of a generator, so that sides are multiples of 4."""
SPREAD = 0.02
"""Standard deviation of the weights at the start."""


class Residual(nn.Module):
    """Two convolutions whose result is added to what they are given, (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*convolution(width, width), *convolution(width, width)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return x + self.layers(x)


class Generator(nn.Module):
    """Images (B, 1, H, W) about [0, 1] in the look of another domain, of the same size.

    Zhu et al., ICCV 2017: a convolution of 7 x 7, two of stride 2, residual blocks, two transposed ones of
    stride 2, and one of 7 x 7, with reflected borders and instance normalisation.

    Args:
        width: channels of the first convolution; twice and four times as many follow.
        blocks: residual blocks.
        residual: the last layer gives a change, which is added to the image; else the image itself, through
            a sigmoid.
    """

    def __init__(self, width: int, blocks: int, residual: bool) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(DOWNS + 1)]
        layers: list[nn.Module] = convolution(1, width, 7)
        for here, below in pairwise(widths):
            layers += convolution(here, below, stride=2)
        layers += [Residual(widths[-1]) for _ in range(blocks)]
        for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True):
            up = nn.ConvTranspose2d(below, here, 3, stride=2, padding=1, output_padding=1, bias=False)
            layers += [up, nn.InstanceNorm2d(here), nn.ReLU()]
        layers.append(nn.Conv2d(width, 1, 7, padding=3, padding_mode="reflect"))
        self.layers, self.residual = nn.Sequential(*layers), residual
        self.apply(_start)

    def forward(self, image: Tensor) -> Tensor:
        """Translate images."""
        found: Tensor = self.layers(2 * image - 1)
        return image + found if self.residual else found.sigmoid()


class Translators(nn.Module):
    """Generators of both directions; called, it translates from the first domain to the second.

    Args:
        width: see `Generator`.
        blocks: see `Generator`.
        residual: see `Generator`.

    Raises:
        ConfigError: a width or a number of blocks below 1.
    """

    def __init__(self, width: int, blocks: int, residual: bool) -> None:
        super().__init__()
        if min(width, blocks) < 1:
            raise ConfigError(f"width={width} and blocks={blocks} must be at least 1.")
        self.there = Generator(width, blocks, residual)
        self.back = Generator(width, blocks, residual)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 1, H, W) of the first domain in the look of the second."""
        translated: Tensor = self.there(image)
        return translated


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution with reflected borders, instance normalisation and ReLU.

    Instance normalisation takes a bias away again, so that there is none.
    """
    pad = kernel // 2
    layer = nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False, padding_mode="reflect")
    return [layer, nn.InstanceNorm2d(outputs), nn.ReLU()]


@torch.no_grad()
def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        module.weight.normal_(0, SPREAD)
        if module.bias is not None:
            module.bias.zero_()
