"""Depthwise convolutions with fast gradients under autocast on CPUs, and TensorFlow's padding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding, which for strides is one pixel more at the far ends."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve: sides become ceil(side / stride)."""
        x, padding = pad_same(x, self)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def is_recorded() -> bool:
    """Whether steps are recorded for gradients, for a compiler or for an export."""
    return bool(
        torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]  # torch's types leave it out
    )


def pad_same(x: Tensor, conv: nn.Conv2d) -> tuple[Tensor, tuple[int, int]]:
    """Images padded as `SameConv2d` needs them, and how far the convolution itself has yet to pad them."""
    if not isinstance(conv, SameConv2d):
        assert not isinstance(conv.padding, str)
        return x, (conv.padding[0], conv.padding[1])
    pads: list[int] = []
    for axis in (1, 0):
        side, kernel, stride = x.shape[2 + axis], conv.kernel_size[axis], conv.stride[axis]
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [missing // 2, missing - missing // 2]
    if is_recorded() or conv.weight.dtype != torch.float32:
        return F.pad(x, pads), (0, 0)
    # F.pad fills all of the result before it copies; the border alone is enough.
    left, right, top, bottom = pads
    height, width = x.shape[2:]
    shape = (*x.shape[:2], top + height + bottom, left + width + right)
    wide = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    wide[:, :, top : top + height, left : left + width] = x
    wide[:, :, :top], wide[:, :, top + height :] = 0, 0
    wide[:, :, :, :left], wide[:, :, :, left + width :] = 0, 0
    return wide, (0, 0)


class FullDepthwise(nn.Module):
    """Mixin, placed before a depthwise convolution: uses float32 under autocast on a CPU."""

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution."""
        apply: Any = super().forward
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            result: Tensor = apply(x)
            return result
        with torch.autocast("cpu", enabled=False):
            full: Tensor = apply(x.to(self.weight.dtype))
            return full


class DepthwiseConv2d(FullDepthwise, nn.Conv2d):
    """`torch.nn.Conv2d`; see `full_depthwise`."""


class DepthwiseSameConv2d(FullDepthwise, SameConv2d):
    """`SameConv2d`; see `full_depthwise`."""


_FULL: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: DepthwiseConv2d,
    SameConv2d: DepthwiseSameConv2d,
}


def full_depthwise(network: nn.Module) -> None:
    """Keep depthwise convolutions of 5 x 5, or with strides, in float32 under autocast on a CPU.

    torch 2.15 computes their gradients there three to twenty times as fast as in bfloat16. Parameters, their
    names and results in float32 do not change.

    Args:
        network: network, changed in place; subclasses of `torch.nn.Conv2d` are not changed, but for
            `SameConv2d`.
    """
    for layer in network.modules():
        # Several groups of several channels each, as in ResNeXt, are no depthwise convolution.
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
        if depthwise and (layer.kernel_size == (5, 5) or layer.stride != (1, 1)):
            layer.__class__ = _FULL.get(type(layer), type(layer))
