"""Convolutional blocks of ACNN's networks, for planes and for volumes with few slices."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.nn.conv_norm import CONV, NORM

GROUP = 8
"""Channels that are normalised together."""
LINEAR = {2: "bilinear", 3: "trilinear"}
_POOL_RATIO, _KERNEL_RATIO = 2, 4
"""An axis shorter than the longest by more than these factors is not halved, or not convolved along."""

Sides = tuple[int, ...]
Network = TypeVar("Network", bound=nn.Module)


def pyramid(shape: Sequence[int], levels: int) -> tuple[list[Sides], list[Sides]]:
    """Strides and kernels of a pyramid for stacks with few slices.

    A stack of 16 slices is not halved across slices while a slice has many more pixels along each side, nor
    convolved across slices while pixels are much smaller than the distance of the slices.

    Args:
        shape: (H, W) or (D, H, W) of the frame.
        levels: number of levels, the first at full resolution.

    Returns:
        For each level its stride from the level before (1 for the first), and the side of its kernels (1, 3).
    """
    size, strides, kernels = list(shape), [(1,) * len(shape)], []
    for level in range(levels):
        if level:
            longest = max(size)
            strides.append(tuple(2 if side > 1 and side * _POOL_RATIO >= longest else 1 for side in size))
            size = [side // stride for side, stride in zip(size, strides[-1], strict=True)]
        kernels.append(tuple(3 if side * _KERNEL_RATIO >= max(size) else 1 for side in size))
    return strides, kernels


class ConvBlock(nn.Sequential):
    """Convolution, normalisation and ReLU, (B, C_in, ...) to (B, C_out, ...).

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel: side of the kernel along each axis, odd; two or three numbers.
        stride: stride along each axis; None is 1.
        batch_norm: use batch normalisation, which treats all inputs alike once frozen; else group
            normalisation, which does not depend on the batch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sides,
        stride: Sides | None = None,
        *,
        batch_norm: bool = False,
    ) -> None:
        dims = len(kernel)
        padding = tuple(side // 2 for side in kernel)
        conv = CONV[dims](
            in_channels,
            out_channels,
            kernel,  # type: ignore[arg-type]  # of this many dimensions
            stride=stride or 1,  # type: ignore[arg-type]
            padding=padding,  # type: ignore[arg-type]
            bias=False,
        )
        groups = out_channels // math.gcd(out_channels, GROUP)
        norm = NORM[dims](out_channels) if batch_norm else nn.GroupNorm(groups, out_channels)
        super().__init__(conv, norm, nn.ReLU(inplace=True))


def double(in_channels: int, out_channels: int, kernel: Sides) -> nn.Sequential:
    """Two blocks of one resolution."""
    return nn.Sequential(
        ConvBlock(in_channels, out_channels, kernel), ConvBlock(out_channels, out_channels, kernel)
    )


def pool(x: Tensor, stride: Sides) -> Tensor:
    """Max pooling with a window as large as the stride."""
    return F.max_pool2d(x, stride) if len(stride) == 2 else F.max_pool3d(x, stride)


def resize_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Linear interpolation to this size; returns `x` itself if it has the size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=LINEAR[len(size)], align_corners=False)


def channels_last(network: Network) -> Network:
    """The network with its 3-D weights, and therefore its maps, in "channels last" memory order.

    Convolution and interpolation of few channels are faster in this order; the values do not change.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layer.to(memory_format=torch.channels_last_3d)
    return network
