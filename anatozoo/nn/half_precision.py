"""Convolutions whose gradients are correct under autocast on CPUs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anatozoo.nn.conv_norm import VolumeConv


class FullWhereSmall(nn.Module):
    """Mixin, placed before a convolution: uses float32 on maps smaller than its kernel or stride."""

    weight: Tensor
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Apply the convolution; `output_size` is for transposed ones."""
        apply: Any = super().forward
        size = {} if output_size is None else {"output_size": output_size}
        autocast = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not autocast or min(x.shape[2:]) >= max(*self.kernel_size, *self.stride):
            return apply(x, **size)
        with torch.autocast("cpu", enabled=False):
            return apply(x.to(self.weight.dtype), **size)


class Conv2d(FullWhereSmall, nn.Conv2d):
    """`torch.nn.Conv2d`; see `full_where_small`."""


class Conv3d(FullWhereSmall, nn.Conv3d):
    """`torch.nn.Conv3d`; see `full_where_small`."""


class _VolumeConv(FullWhereSmall, VolumeConv):
    """`anatozoo.nn.conv_norm.VolumeConv`; see `full_where_small`."""


class ConvTranspose2d(FullWhereSmall, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`; see `full_where_small`."""


class ConvTranspose3d(FullWhereSmall, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d`; see `full_where_small`."""


_CAREFUL: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    VolumeConv: _VolumeConv,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
}


def full_where_small(network: nn.Module) -> None:
    """Keep the convolutions of a network in float32 on small maps under autocast on a CPU.

    If a side of the map is shorter than the kernel or the stride, torch 2.15 leaves parts of the gradient of
    a bfloat16 weight uninitialised and may write beyond its end, see ``benchmarks/half_precision.py``. Such
    small maps cost little in either precision. Parameters, their names and results in float32 do not change.

    Args:
        network: network, changed in place; subclasses of torch's layers are not changed.
    """
    for layer in network.modules():
        layer.__class__ = _CAREFUL.get(type(layer), type(layer))
