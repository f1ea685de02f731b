"""DynUNet in the manner of nnU-Net, for planes and volumes, and the base class of such networks."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.conv_norm import CONV, asks_by_name
from anatozoo.nn.volume_blocks import Sides, pyramid

DYNUNET_WIDTHS = (16, 32, 64, 128, 192)
_SLOPE = 0.01
"""Of the leaky ReLU, and what the first weights are drawn for."""
_NORM: dict[int, Any] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
LATER_OUTPUTS = 0.5
"""Weight of each further supervised output against the one before it."""


def weighted_levels(values: Sequence[Tensor]) -> Tensor:
    """Mean of a loss over the outputs of a `Segmenter`: each has half the weight of the one before.

    Args:
        values: the loss of each output, scalars, the final one first.
    """
    # MONAI's DeepSupervisionLoss has a floor and is not normalised: more outputs would outweigh other terms.
    shares = torch.tensor([LATER_OUTPUTS**level for level in range(len(values))])
    return ((shares / shares.sum()).to(values[0].device) * torch.stack(list(values))).sum()


class Segmenter(nn.Module):
    """Base class of networks whose training supervises several outputs."""

    @abstractmethod
    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits (B, classes, ...) float32, all of the final resolution, the final ones first."""

    @property
    @abstractmethod
    def contracting(self) -> nn.Module:
        """The encoder, which may have its own learning rate."""

    def forward(self, image: Tensor) -> Tensor:
        """Final logits (B, classes, ...) float32 of images (B, 1, ...) in [0, 1]."""
        return self.outputs(image)[0]


class _Block(nn.Module):
    """Two convolutions, each with instance normalisation and leaky ReLU; the first one has the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Sides, stride: Sides) -> None:
        super().__init__()
        norm = _NORM[len(kernel)]
        self.conv1 = _conv(in_channels, out_channels, kernel, stride)
        self.conv2 = _conv(out_channels, out_channels, kernel, (1,) * len(kernel))
        self.norm1, self.norm2 = norm(out_channels, affine=True), norm(out_channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = conv(x)
            if asks_by_name(x, norm.weight):
                # Groups of one channel: the same, without a copy of maps that lie "channels last".
                x = F.group_norm(x, x.shape[1], norm.weight, norm.bias, norm.eps)
            else:
                x = norm(x)
            x = F.leaky_relu_(x, _SLOPE)
        return x


class _Up(nn.Module):
    """A map of the level below, enlarged and joined with that of the encoder."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Sides, stride: Sides) -> None:
        super().__init__()
        enlarge = _TRANSPOSED[len(kernel)](in_channels, out_channels, stride, stride, bias=False)
        self.transp_conv = _named(enlarge)
        self.conv_block = _Block(2 * out_channels, out_channels, kernel, (1,) * len(kernel))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        enlarge: Any = self.transp_conv[0]
        if asks_by_name(x, enlarge.weight):
            return self.conv_block(_joined(x, enlarge, skip))
        return self.conv_block(torch.cat([self.transp_conv(x), skip], 1))


class _Head(nn.Module):
    """Logits of a map."""

    def __init__(self, in_channels: int, classes: int, dims: int) -> None:
        super().__init__()
        self.conv = _named(CONV[dims](in_channels, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Levels(nn.Module):
    """The layers of `DynUNet`, under the names that MONAI gives them."""

    def __init__(
        self,
        classes: int,
        kernels: Sequence[Sides],
        strides: Sequence[Sides],
        widths: Sequence[int],
        supervised: int,
    ) -> None:
        super().__init__()
        dims = len(kernels[0])
        steps = list(zip(pairwise(widths), kernels[1:], strides[1:], strict=True))
        self.input_block = _Block(1, widths[0], kernels[0], strides[0])
        *middle, last = [_Block(low, high, kernel, stride) for (low, high), kernel, stride in steps]
        self.downsamples, self.bottleneck = nn.ModuleList(middle), last
        self.upsamples = nn.ModuleList(
            _Up(high, low, kernel, stride) for (low, high), kernel, stride in steps[::-1]
        )
        self.output_block = _Head(widths[0], classes, dims)
        torch.rand(1)  # MONAI draws a number here, and a seed is to give the same weights
        if supervised:
            self.deep_supervision_heads = nn.ModuleList(
                _Head(width, classes, dims) for width in widths[1 : 1 + supervised]
            )
        self.apply(_draw)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [self.input_block(image)]
        for block in self.downsamples:
            maps.append(block(maps[-1]))
        x, coarser = self.bottleneck(maps[-1]), []
        for up in self.upsamples:
            x = up(x, maps.pop())
            coarser.append(x)
        logits = [self.output_block(x)]
        if self.training and hasattr(self, "deep_supervision_heads"):
            for head, level in zip(self.deep_supervision_heads, coarser[-2::-1], strict=False):
                logits.append(F.interpolate(head(level), x.shape[2:]))
        return logits


def _joined(x: Tensor, enlarge: nn.ConvTranspose3d, skip: Tensor) -> Tensor:
    """The enlarged volume and `skip` in one "channels last" map; the windows of `enlarge` do not overlap."""
    steps, width = enlarge.stride, enlarge.out_channels
    batch, low, *size = x.shape
    # Each voxel gives a block of (kd, kh, kw) voxels of `width` channels.
    kernel = enlarge.weight.permute(0, 2, 3, 4, 1).reshape(low, -1)
    blocks = (x.permute(0, 2, 3, 4, 1) @ kernel).view(batch, *size, *steps, width)
    joined = x.new_empty(batch, *skip.shape[2:], width + skip.shape[1])
    d, h, w = size
    places = joined.view(batch, d, steps[0], h, steps[1], w, steps[2], -1)
    places[..., :width] = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7)
    joined[..., width:] = skip.permute(0, 2, 3, 4, 1)
    return joined.permute(0, 4, 1, 2, 3)


def _conv(in_channels: int, out_channels: int, kernel: Sides, stride: Sides) -> nn.Sequential:
    padding: Any = tuple((side - step + 1) // 2 for side, step in zip(kernel, stride, strict=True))
    sides: Any = kernel
    steps: Any = stride
    conv = CONV[len(kernel)](in_channels, out_channels, sides, steps, padding, bias=False)
    return _named(conv)


def _named(conv: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=conv))


def _draw(layer: nn.Module) -> None:
    """First weights of a convolution."""
    if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class DynUNet(Segmenter):
    """DynUNet in the manner of nnU-Net, with deep supervision.

    Isensee et al., Nature Methods 2021. Layers, names of parameters and first weights of a seed are those of
    MONAI's DynUNet, whose import takes seconds.

    Args:
        shape: (H, W) or (D, H, W) of the frame, multiples of the strides.
        classes: classes, background included.
        widths: channels of each level.
        supervised: number of coarser levels that are supervised too, at most those between the finest and the
            coarsest.

    Raises:
        ConfigError: there are fewer than three widths, or the frame cannot be halved often enough.
    """

    heads: ClassVar[tuple[str, ...]] = ("network.output_block.", "network.deep_supervision_heads.")
    """Where the names of parameters begin whose first axis is the classes."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        widths: Sequence[int] = DYNUNET_WIDTHS,
        supervised: int = 2,
    ) -> None:
        super().__init__()
        if len(widths) < 3 or min(widths) < 1:
            raise ConfigError(f"DynUNet needs three or more positive widths, not {list(widths)}.")
        strides, kernels = pyramid(shape, len(widths))
        for axis, side in enumerate(shape):
            total = 1
            for stride in strides:
                total *= stride[axis]
            if side % total:
                raise ConfigError(
                    f"the frame's size={list(shape)} does not fit DynUNet: {side} is not a "
                    f"multiple of {total}."
                )
        levels = min(supervised, len(widths) - 2)
        self.network = _Levels(classes, kernels, strides, list(widths), levels)

    @property
    def contracting(self) -> nn.Module:
        """The encoder's levels below the finest."""
        return self.network.downsamples

    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits; in training also those of coarser levels, enlarged."""
        return [level.float() for level in self.network(image)]
