"""Networks of the shape prior: the autoencoder of label maps and the predictor of its code from images.

Oktay et al., IEEE TMI 37(2), 2018. Predictor and autoencoder together are the T-L
network of Girdhar et al., ECCV 2016.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.conv_norm import CONV
from anatozoo.nn.volume_blocks import ConvBlock, Sides, resize_to

WIDTHS = (16, 32, 48, 64)
CODE = 64


def halvings(shape: Sequence[int], levels: int) -> list[Sides]:
    """Strides of successive halvings; short axes are halved only once they are among the longest.

    Args:
        shape: (H, W) or (D, H, W).
        levels: number of halvings.

    Raises:
        ConfigError: an axis to be halved is odd.
    """
    size, strides = list(shape), []
    for _ in range(levels):
        longest = max(size)
        strides.append(tuple(2 if side * 4 > longest and side > 2 else 1 for side in size))
        if any(side % stride for side, stride in zip(size, strides[-1], strict=True)):
            raise ConfigError(
                f"the frame's size={list(shape)} cannot be halved {levels} times: {size} is left after some. "
                f"Choose multiples of {2**levels}, or fewer widths."
            )
        size = [side // stride for side, stride in zip(size, strides[-1], strict=True)]
    return strides


class CodeEncoder(nn.Module):
    """Strided convolutions and a dense layer: (B, C, ...) to codes (B, K).

    The encoder f of the autoencoder takes label maps, the predictor p of the T-L network takes images.

    Args:
        shape: (H, W) or (D, H, W).
        channels: C, classes of label maps or 1 for images.
        code: K, length of the code.
        widths: channels at strides 2, 4, ...

    Raises:
        ConfigError: the shape cannot be halved so often, or a number is not positive.
    """

    def __init__(
        self, shape: Sequence[int], channels: int, code: int = CODE, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        if len(shape) not in CONV or not widths or min(*widths, code) < 1:
            raise ConfigError(
                f"the frame's size={list(shape)}, widths={list(widths)} and code={code} do not fit."
            )
        self.strides = halvings(shape, len(widths))
        three = (3,) * len(shape)
        # Frozen batch normalisation treats soft and hard label maps alike; normalising each map separately
        # would hide the confidence of a prediction.
        self.layers = nn.ModuleList(
            ConvBlock(before, width, three, stride, batch_norm=True)
            for before, width, stride in zip((channels, *widths[:-1]), widths, self.strides, strict=True)
        )
        total = [math.prod(stride[axis] for stride in self.strides) for axis in range(len(shape))]
        self.small = tuple(side // factor for side, factor in zip(shape, total, strict=True))
        self.squeeze = CONV[len(shape)](widths[-1], widths[0], 1)
        self.to_code = nn.Linear(widths[0] * math.prod(self.small), code)

    def levels(self, x: Tensor) -> list[Tensor]:
        """The maps (B, width, ...) at strides 2, 4, ..."""
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps

    def code(self, deepest: Tensor) -> Tensor:
        """Codes (B, K) of the last of the `levels`."""
        code: Tensor = self.to_code(self.squeeze(deepest).flatten(1))
        return code

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, K)."""
        return self.code(self.levels(x)[-1])


class ShapeAutoencoder(nn.Module):
    """Autoencoder of label maps, with a short code that describes plausible anatomies.

    Args:
        shape: (H, W) or (D, H, W) of the label maps.
        classes: channels of the one-hot labels, background included.
        code: length of the code, 64 in the paper.
        widths: channels at strides 2, 4, ...
        skips: levels of the encoder, from 1, whose maps the decoder receives beside the code; 0 is the label
            map itself. Without any, the code alone determines the shape. With some, details survive, and the
            code says what is missing or superfluous: the network denoises, and its code is part of what it
            knows.

    Raises:
        ConfigError: see `CodeEncoder`; or a skip is not a level.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        code: int = CODE,
        widths: Sequence[int] = WIDTHS,
        skips: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if unknown := sorted(set(skips) - set(range(len(widths) + 1))):
            raise ConfigError(f"skips={list(skips)}: {unknown} must be within 0 … {len(widths)}.")
        self.skips = frozenset(skips)
        self.encoder = CodeEncoder(shape, classes, code, widths)
        self.sizes = _sizes(shape, self.encoder.strides)
        three, dims = (3,) * len(shape), len(shape)
        self.from_code = nn.Linear(code, widths[0] * math.prod(self.encoder.small))
        self.expand = ConvBlock(widths[0], widths[-1], (1,) * dims, batch_norm=True)
        # The finest map is the most expensive one: it has only one layer, the head.
        self.decoder = nn.ModuleList(
            ConvBlock(low * (1 + (level in self.skips)), high, three, batch_norm=True)
            for level, low, high in zip(
                range(len(widths), 0, -1), widths[::-1], (*widths[-2::-1], widths[0]), strict=True
            )
        )
        self.head = CONV[dims](widths[0] + classes * (0 in self.skips), classes, 3, padding=1)

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...)."""
        return self.encoder(labels)

    def levels(self, labels: Tensor) -> list[Tensor]:
        """The encoder's maps (B, width, ...) at strides 2, 4, ..."""
        return self.encoder.levels(labels)

    def decode(self, code: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """Logits (B, C, ...) of codes (B, K).

        Args:
            code: the codes.
            maps: with `skips`, the label maps and their `levels`.
        """
        x = self.from_code(code).unflatten(1, (-1, *self.encoder.small))
        x = self.expand(x)
        levels = range(len(self.decoder), 0, -1)
        for level, layer, size in zip(levels, self.decoder, self.sizes[-2::-1], strict=True):
            x = resize_to(layer(self._joined(x, maps, level)), size)
        return self.head(self._joined(x, maps, 0)).float()

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, K) and logits (B, C, ...) of one-hot or soft labels (B, C, ...)."""
        maps = self.levels(labels)
        code = self.encoder.code(maps[-1])
        return code, self.decode(code, (labels, *maps))

    def _joined(self, x: Tensor, maps: Sequence[Tensor], level: int) -> Tensor:
        return torch.cat([x, maps[level]], 1) if level in self.skips else x


def _sizes(shape: Sequence[int], strides: Sequence[Sides]) -> list[Sides]:
    """Size of the maps, from the input's to the smallest."""
    sizes = [tuple(shape)]
    for stride in strides:
        sizes.append(tuple(side // step for side, step in zip(sizes[-1], stride, strict=True)))
    return sizes
