"""Convolutions whose gradients hold under autocast on CPUs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class FullWhereSmall(nn.Module):
    """Comes before a convolution in the order of bases: float32 on maps that are small beside its kernel."""

    weight: Tensor
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Apply the convolution, a transposed one to `output_size` where that is given."""
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


class ConvTranspose2d(FullWhereSmall, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`; see `full_where_small`."""


class ConvTranspose3d(FullWhereSmall, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d`; see `full_where_small`."""


_CAREFUL: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
}


def full_where_small(network: nn.Module) -> None:
    """Let the convolutions of a network stay in float32 under autocast on a CPU where maps are small.

    There torch 2.15 leaves parts of the gradient of a bfloat16 weight as it found them in memory, and may
    write beyond its end, where a side of the map is shorter than the kernel or the stride, see
    ``benchmarks/half_precision.py``. Maps as small as that cost little in either precision. Parameters,
    their names and results in float32 stay as they are.

    Args:
        network: changed in place, whatever built it; subclasses of torch's layers are left as they are.
    """
    for layer in network.modules():
        layer.__class__ = _CAREFUL.get(type(layer), type(layer))
