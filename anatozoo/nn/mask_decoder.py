"""A convolutional decoder of masks from the latent code of a HybridGNet.

"HybridGNet Dual" of Gaggion et al., MICCAI 2021 and IEEE TMI 2022: a graph decoder of contours and a
convolutional decoder of masks share one code. "Dual SC" adds the encoder's maps to those of the decoder.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.blocks import PAPER_WIDTHS, ResidualBlock

MASK_DECODERS = ("none", "code", "skips")
LEVELS = (5, 4, 3, 2, 1)
"""Levels of the decoder's maps, in its order; level l has stride 2^(l-1)."""


class MaskDecoder(nn.Module):
    """Label logits (B, classes, S, S) from latent codes (B, latents).

    A linear layer gives a map of stride 32. At each of five levels it is enlarged twofold (bilinear, corners
    aligned) and passes a residual block.

    Args:
        latents: length of the code.
        classes: output channels, background included.
        image_size: side S of the images, a multiple of 32.
        skips: channels of the encoder's maps by level, which are added after each block; None adds none.

    Raises:
        ConfigError: the encoder lacks one of the levels 1 to 5.
    """

    def __init__(
        self, latents: int, classes: int, image_size: int, skips: Mapping[int, int] | None = None
    ) -> None:
        super().__init__()
        lacking = [] if skips is None else [level for level in sorted(LEVELS) if level not in skips]
        if skips is not None and lacking:
            raise ConfigError(
                f"mask_decoder='skips' adds the encoder's maps of the levels 1 to 5, and this encoder has "
                f"{sorted(skips)}: choose mask_decoder='code', or encoder='residual'."
            )
        widths = [PAPER_WIDTHS[level - 1] if skips is None else skips[level] for level in LEVELS]
        first = PAPER_WIDTHS[-1]
        self.side, self.skips = image_size // 32, skips is not None
        self.expand = nn.Linear(latents, first * self.side**2)
        self.blocks = nn.ModuleList(
            ResidualBlock(i, o) for i, o in zip((first, *widths[:-1]), widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], classes, 1)

    def forward(self, z: Tensor, maps: Mapping[int, Tensor]) -> Tensor:
        """Decode.

        Args:
            z: (B, latents).
            maps: the encoder's maps {level: (B, C, S/2^(l-1), …)}, used with `skips`.
        """
        x = self.expand(z).view(len(z), -1, self.side, self.side)
        for level, block in zip(LEVELS, self.blocks, strict=True):
            x = block(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True))
            if self.skips:
                x = torch.add(x, maps[level])
        logits: Tensor = self.head(x)
        return logits


def build_mask_decoder(
    kind: str, latents: int, classes: int, image_size: int, channels: Mapping[int, int]
) -> MaskDecoder | None:
    """The mask decoder by its name: ``"none"``, ``"code"`` or ``"skips"``.

    Args:
        kind: the name.
        latents: length of the code.
        classes: output channels, background included.
        image_size: side of the images.
        channels: of the encoder's maps, by level.

    Raises:
        ConfigError: the name is unknown, or the encoder lacks levels that ``"skips"`` needs.
    """
    if kind not in MASK_DECODERS:
        raise ConfigError(f"mask_decoder={kind!r} is unknown; choose one of {', '.join(MASK_DECODERS)}.")
    if kind == "none":
        return None
    return MaskDecoder(latents, classes, image_size, channels if kind == "skips" else None)
