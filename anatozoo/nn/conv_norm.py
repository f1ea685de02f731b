"""Convolution and batch normalisation in 2-D and 3-D."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.nn.depthwise import is_recorded


class VolumeConv(nn.Conv3d):
    """`torch.nn.Conv3d`, a fifth of its time on a CPU for one volume where nothing is trained.

    torch 2.15 computes a single volume of few channels by a matrix of all neighbourhoods, and larger ones by
    oneDNN in an order of memory that is slow for few channels. This asks oneDNN by name, in the fast order.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not asks_by_name(input, weight) or self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super()._conv_forward(input, weight, bias)
        x = input.contiguous(memory_format=torch.channels_last_3d)
        return _by_name(x, weight, bias, self.padding, self.stride, self.dilation, self.groups)


def asks_by_name(x: Tensor, weight: Tensor) -> bool:
    """Whether a layer of volumes may take the fast way: float32 on a CPU, and nothing records its steps."""
    return bool(
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim == 5
        and x.numel() > 0
        and not is_recorded()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
        and _has_name()
    )


def _by_name(x: Tensor, weight: Tensor, bias: Tensor | None, *place: Any) -> Tensor:
    # Not in torch's documentation, so `_has_name` tries it once.
    return torch.mkldnn_convolution(x, weight, bias, *place)


@cache
def _has_name() -> bool:
    """Whether this torch has oneDNN's convolution under this name, and it does its job."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.arange(36.0).view(1, 2, 2, 3, 3), torch.arange(54.0).view(1, 2, 3, 3, 3)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    try:
        y = _by_name(x, weight, torch.ones(1), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(y, F.conv3d(x, weight, torch.ones(1), padding=1))


CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: VolumeConv}
NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class ConvNorm(nn.Module):
    """Convolution with a kernel of 3 pixels and batch normalisation, (B, C_in, ...) to (B, C_out, ...).

    Args:
        dims: 2 or 3.
        in_channels: input channels.
        out_channels: output channels.
        normalize: whether batch normalisation follows.
        stride: 1 keeps the size, 2 halves it.
    """

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, *, normalize: bool, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = CONV[dims](in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm = NORM[dims](out_channels) if normalize else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution and normalisation."""
        return self.norm(self.conv(x))
