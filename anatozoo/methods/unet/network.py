"""U-Net: an image encoder, and a decoder with skip connections from the encoder's maps.

Ronneberger, Fischer, Brox: "U-Net", MICCAI 2015, in the form of the baseline of Gaggion et al., IEEE TMI
2022: residual blocks, and the HybridGNet encoder.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.blocks import PAPER_WIDTHS, ResidualBlock, build_encoder

DYNUNET = "dynunet"
DECODER_WIDTHS = PAPER_WIDTHS[:-1]
SMALLEST = 64


class UNet(nn.Module):
    """Encoder and decoder with a residual block per level, and a 1 × 1 convolution to the labels.

    The authors normalise with the statistics of the batch even at test time. The blocks here normalise each
    image separately, which equals a batch of one and does not depend on the other images.

    Args:
        classes: output channels, background included.
        encoder: ``"residual"`` (the paper's) or a timm model name.
        decoder_widths: channels of the decoder's blocks at levels 1, 2, ... (level l has stride 2^(l-1));
            levels that the encoder lacks are skipped.

    Raises:
        ConfigError: the encoder's levels are not consecutive, or there are too few widths for them.
    """

    heads: ClassVar[tuple[str, ...]] = ("head.",)
    """Where the names of parameters begin whose first axis is the classes."""

    def __init__(
        self, classes: int, *, encoder: str = "residual", decoder_widths: Sequence[int] = DECODER_WIDTHS
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder)
        channels = self.encoder.channels
        self.levels = sorted(channels, reverse=True)
        deepest, finest = self.levels[0], self.levels[-1]
        if self.levels != list(range(deepest, finest - 1, -1)) or len(self.levels) < 2:
            raise ConfigError(
                f"encoder={encoder!r} gives maps of strides {[2 ** (level - 1) for level in self.levels]}; "
                "a U-Net needs at least two, each twice the one before."
            )
        if len(decoder_widths) < deepest - 1 or min(decoder_widths, default=0) < 1:
            raise ConfigError(
                f"decoder_widths={list(decoder_widths)} must give {deepest - 1} positive widths for "
                f"encoder={encoder!r}."
            )
        # The authors' up-sampling aligns the corners of both grids; elsewhere pixel centres stay in place.
        self.align_corners = encoder == "residual"
        self.blocks = nn.ModuleDict()
        width = channels[deepest]
        for level in self.levels[1:]:
            self.blocks[str(level)] = ResidualBlock(width + channels[level], decoder_widths[level - 1])
            width = decoder_widths[level - 1]
        self.head = nn.Conv2d(width, classes, 1)
        self.scale = 2 ** (finest - 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, S, S) float32 from images (B, 1, S, S) in [0, 1]; S a multiple of 32."""
        maps = self.encoder(image)
        x = maps[self.levels[0]]
        for level in self.levels[1:]:
            skip = maps[level]
            up = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=self.align_corners)
            x = self.blocks[str(level)](torch.cat([up.to(skip.dtype), skip], 1))
        logits = self.head(x).float()
        if self.scale == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.scale, mode="bilinear", align_corners=False)


def check_size(image_size: int) -> None:
    """Refuse sizes that the network cannot halve five times with more than one pixel left.

    Raises:
        ConfigError: the size is not a multiple of 32, or below 64.
    """
    if image_size % 32 or image_size < SMALLEST:
        raise ConfigError(f"the frame's size={image_size} must be a multiple of 32, at least {SMALLEST}.")
