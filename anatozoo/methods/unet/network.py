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
from anatozoo.nn.dynunet import Segmenter

DYNUNET = "dynunet"
DECODER_WIDTHS = PAPER_WIDTHS[:-1]
SMALLEST = 64


class UNet(Segmenter):
    """Encoder and decoder with a residual block per level, and a 1 × 1 convolution to the labels.

    The authors normalise with the statistics of the batch even at test time. The blocks here normalise each
    image separately, which equals a batch of one and does not depend on the other images.

    Args:
        classes: output channels, background included.
        encoder: ``"residual"`` (the paper's) or a timm model name.
        decoder_widths: channels of the decoder's blocks at levels 1, 2, ... (level l has stride 2^(l-1));
            levels that the encoder lacks are skipped.
        supervised: how many maps of the decoder before the last one have outputs of their own in training
            (deep supervision), the finest of them first.

    Raises:
        ConfigError: the encoder's levels are not consecutive, there are too few widths for them, or too few
            maps to supervise.
    """

    heads: ClassVar[tuple[str, ...]] = ("head.", "deep_supervision_heads.")
    """Where the names of parameters begin whose first axis is the classes."""

    def __init__(
        self,
        classes: int,
        *,
        encoder: str = "residual",
        decoder_widths: Sequence[int] = DECODER_WIDTHS,
        supervised: int = 0,
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
        coarser = [decoder_widths[level - 1] for level in self.levels[-2:0:-1]]
        if not 0 <= supervised <= len(coarser):
            raise ConfigError(
                f"deep_supervision={supervised} must be from 0 to {len(coarser)}, the decoder's maps before "
                f"the last one for encoder={encoder!r}."
            )
        self.deep_supervision_heads = nn.ModuleList(
            nn.Conv2d(each, classes, 1) for each in coarser[:supervised]
        )

    @property
    def contracting(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits (B, classes, S, S) float32 from images (B, 1, S, S) in [0, 1]; S a multiple of 32.

        In training also those of coarser maps, enlarged.
        """
        maps = self.encoder(image)
        x = maps[self.levels[0]]
        decoded = []
        for level in self.levels[1:]:
            skip = maps[level]
            up = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=self.align_corners)
            x = self.blocks[str(level)](torch.cat([up.to(skip.dtype), skip], 1))
            decoded.append(x)
        logits = [self.head(decoded.pop()).float()]
        if self.training:
            logits += [head(decoded.pop()).float() for head in self.deep_supervision_heads]
        return [
            each
            if each.shape[-2:] == image.shape[-2:]
            else F.interpolate(each, size=image.shape[-2:], mode="bilinear", align_corners=False)
            for each in logits
        ]


def check_size(image_size: int) -> None:
    """Refuse sizes that the network cannot halve five times with more than one pixel left.

    Raises:
        ConfigError: the size is not a multiple of 32, or below 64.
    """
    if image_size % 32 or image_size < SMALLEST:
        raise ConfigError(f"the frame's size={image_size} must be a multiple of 32, at least {SMALLEST}.")
