"""Denoising autoencoders of segmentations, in pure torch, 2-D and 3-D.

Larrazabal, Martinez & Ferrante, "Anatomical priors for image segmentation via post-processing with denoising
autoencoders", MICCAI 2019; Larrazabal et al., "Post-DAE: anatomically plausible segmentation via
post-processing with denoising autoencoders", IEEE TMI 2020.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.conv_norm import CONV

NETWORKS = ("paper", "residual", "skip")
PAPER_WIDTHS = (16, 32, 32, 32, 32)
PAPER_CODE = 512
WIDTHS = (16, 32, 48, 64, 96)
GROUP = 8
"""Channels that are normalised together."""
LINEAR = {2: "bilinear", 3: "trilinear"}
POOL: dict[int, type[nn.AdaptiveAvgPool2d] | type[nn.AdaptiveAvgPool3d]] = {
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}
DECONV: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


class Block(nn.Module):
    """Residual block of two convolutions, (B, C_in, ...) to (B, C_out, ...).

    Group normalisation acts on each image separately, so that results do not depend on the rest of the batch.

    Args:
        dims: 2 or 3.
        in_channels: input channels.
        out_channels: output channels.
        stride: 1 keeps the size, 2 halves it.
    """

    def __init__(self, dims: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        conv = CONV[dims]
        groups = out_channels // math.gcd(out_channels, GROUP)
        self.conv1 = conv(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, out_channels)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            # A window as wide as the stride, so that no pixel is skipped.
            self.shortcut = conv(in_channels, out_channels, stride, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class GlobalCode(nn.Module):
    """Dense bottleneck: the whole map as a short code, and a map from it, (B, C, ...) to (B, C, ...).

    Args:
        shape: size of the map.
        channels: C.
        code: length of the code.
        squeeze: channels of the map before it becomes the code.
        cells: the map is pooled to at most this many cells along each axis, which limits the dense layers.
    """

    def __init__(self, shape: Sequence[int], channels: int, code: int, squeeze: int, cells: int) -> None:
        super().__init__()
        dims = len(shape)
        self.dims, self.shape, self.cells = dims, tuple(shape), tuple(min(side, cells) for side in shape)
        size = squeeze * math.prod(self.cells)
        self.squeeze = CONV[dims](channels, squeeze, 1)
        self.pool: nn.Module = nn.Identity()
        if self.cells != self.shape:
            self.pool = POOL[dims](self.cells)
        self.to_code = nn.Linear(size, code)
        self.from_code = nn.Linear(code, size)
        self.expand = CONV[dims](squeeze, channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, K)."""
        x = self.squeeze(x)
        x = self.pool(x)
        return F.relu(self.to_code(x.flatten(1)))

    def decode(self, code: Tensor) -> Tensor:
        """Maps (B, C, ...) of codes (B, K)."""
        x = F.relu(self.from_code(code)).unflatten(1, (-1, *self.cells))
        if self.cells != self.shape:
            x = F.interpolate(x, size=self.shape, mode=LINEAR[self.dims], align_corners=False)
        return self.expand(x)


class ResidualDAE(nn.Module):
    """Residual encoder, dense code of the whole shape, residual decoder, and skip connections.

    Without skip connections the code alone determines the shape. With skip connections from fine maps, the
    details of a good mask survive, and the code decides what is missing or superfluous.

    Args:
        shape: size of the label maps, (H, W) or (D, H, W), multiples of ``2 ** len(widths)``.
        classes: channels of the probabilities, background included.
        widths: channels at strides 2, 4, 8, ...
        code: length of the code.
        squeeze: channels of the deepest map before it becomes the code.
        cells: largest number of cells along each axis before the code.
        skips: strides of the encoder maps that the decoder receives; 1 is the input itself.

    Raises:
        ConfigError: a size does not fit, or a skip is not a stride of the network.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        *,
        widths: Sequence[int] = WIDTHS,
        code: int = 128,
        squeeze: int = 16,
        cells: int = 8,
        skips: Sequence[int] = (4, 8, 16, 32),
    ) -> None:
        super().__init__()
        dims = len(shape)
        strides = [2 ** (level + 1) for level in range(len(widths))]
        check_shape(shape, strides[-1])
        unknown = sorted(set(skips) - {1, *strides})
        if unknown or min(widths) < 1 or min(code, squeeze, cells) < 1:
            raise ConfigError(
                f"skips={list(skips)} must be among 1, {', '.join(map(str, strides))}; widths, code, squeeze "
                "and cells at least 1."
            )
        self.dims, self.strides, self.skips = dims, strides, frozenset(skips)
        self.encoder = nn.ModuleList(
            Block(dims, before, width, 2)
            for before, width in zip((classes, *widths[:-1]), widths, strict=True)
        )
        deepest = tuple(side // strides[-1] for side in shape)
        self.bottleneck = GlobalCode(deepest, widths[-1], code, squeeze, cells)
        self.bottom = Block(dims, widths[-1] * (1 + (strides[-1] in self.skips)), widths[-1])
        self.decoder = nn.ModuleList(
            Block(dims, low + high * (stride in self.skips), high)
            for (low, high), stride in zip(pairwise(widths[::-1]), strides[-2::-1], strict=True)
        )
        self.head = CONV[dims](widths[0], classes, 3, padding=1)
        self.detail = CONV[dims](classes, classes, 3, padding=1) if 1 in self.skips else None

    def levels(self, probability: Tensor) -> list[Tensor]:
        """The encoder's maps (B, width, ...) at strides 2, 4, ..."""
        maps, x = [], probability
        for block in self.encoder:
            x = block(x)
            maps.append(x)
        return maps

    def encode(self, probability: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...)."""
        return self.bottleneck.encode(self.levels(probability)[-1])

    def forward(self, probability: Tensor) -> Tensor:
        """Logits (B, C, ...) float32 of one-hot or soft labels (B, C, ...)."""
        maps = self.levels(probability)
        code = self.bottleneck.encode(maps[-1])
        x = self._join(self.bottleneck.decode(code), maps[-1], self.strides[-1])
        x = self.bottom(x)
        for block, skip, stride in zip(self.decoder, maps[-2::-1], self.strides[-2::-1], strict=True):
            x = block(self._join(F.interpolate(x, scale_factor=2.0, mode="nearest"), skip, stride))
        logits = self.head(x).float()
        logits = F.interpolate(logits, scale_factor=2.0, mode=LINEAR[self.dims], align_corners=False)
        return logits if self.detail is None else logits + self.detail(probability).float()

    def _join(self, x: Tensor, skip: Tensor, stride: int) -> Tensor:
        return torch.cat([x, skip], 1) if stride in self.skips else x


class PaperDAE(nn.Module):
    """The published autoencoder: strided convolutions, a dense code, transposed convolutions.

    Args:
        shape: size of the label maps, (H, W) or (D, H, W), multiples of ``2 ** len(widths)``.
        classes: channels of the probabilities, background included.
        widths: channels of the encoder's stages.
        code: length of the code.
        back: channels of the decoder's stages.

    Raises:
        ConfigError: a size does not fit.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        *,
        widths: Sequence[int] = PAPER_WIDTHS,
        code: int = PAPER_CODE,
        back: int = 16,
    ) -> None:
        super().__init__()
        dims, stride = len(shape), 2 ** len(widths)
        check_shape(shape, stride)
        if min(widths) < 1 or min(code, back) < 1:
            raise ConfigError(f"widths={list(widths)} and code={code} must be at least 1.")
        conv = CONV[dims]
        self.small = tuple(side // stride for side in shape)
        stages: list[nn.Module] = []
        for before, width in zip((classes, *widths[:-1]), widths, strict=True):
            stages += [conv(before, width, 3, stride=2, padding=1), nn.ReLU()]
            stages += [conv(width, width, 3, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*stages[:-3])  # the last stage has its strided convolution alone
        self.ends = [*range(3, len(self.encoder), 4), len(self.encoder) - 1]
        size = widths[-1] * math.prod(self.small)
        self.to_code = nn.Linear(size, code)
        self.from_code = nn.Linear(code, size)
        stages = []
        for before in (widths[-1], *[back] * (len(widths) - 1)):
            stages += [DECONV[dims](before, back, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
            stages += [conv(back, back, 3, padding=1), nn.ReLU()]
        self.decoder = nn.Sequential(*stages[:-2])
        self.head = conv(back, classes, 3, padding=1)

    def levels(self, probability: Tensor) -> list[Tensor]:
        """The maps (B, width, ...) of the encoder's stages, at strides 2, 4, ..."""
        maps = []
        for number, layer in enumerate(self.encoder):
            probability = layer(probability)
            if number in self.ends:
                maps.append(probability)
        return maps

    def encode(self, probability: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...)."""
        return F.relu(self.to_code(self.encoder(probability).flatten(1)))

    def forward(self, probability: Tensor) -> Tensor:
        """Logits (B, C, ...) float32 of one-hot or soft labels (B, C, ...)."""
        x = self.from_code(self.encode(probability)).unflatten(1, (-1, *self.small))
        return self.head(self.decoder(x)).float()


def check_shape(shape: Sequence[int], stride: int) -> None:
    """Refuse frames that the network cannot halve often enough.

    Raises:
        ConfigError: a side is not a multiple of the largest stride.
    """
    if len(shape) not in CONV or any(side < stride or side % stride for side in shape):
        raise ConfigError(
            f"the frame's size={list(shape)} must be two or three multiples of {stride}, the deepest map's "
            "stride; fewer widths make it smaller."
        )
