"""The registration network of AC-RegNet, in pure torch.

Mansilla, Milone & Ferrante, "Learning deformable registration of medical images with anatomical constraints",
Neural Networks 124, 2020.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.conv_norm import ConvNorm
from anatozoo.nn.warp import Padding, compose, integrate, resize_field, warp

Normalization = Literal["output", "all", "none"]

WIDTHS = (16, 32, 64, 128)
SHRINKAGE = 8
"""The side of the coarsest map is this fraction of the input's."""


class _Level(nn.Module):
    """Convolution, ELU, convolution; the caller applies the last activation."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, normalize: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dims, in_channels, out_channels, normalize=normalize)
        self.conv2 = ConvNorm(dims, out_channels, out_channels, normalize=normalize)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.elu(self.conv1(x)))


class VectorCNN(nn.Module):
    """Predicts a field from two images: a U-shaped network whose skips are added, not concatenated.

    Any size of at least 8 pixels works; sizes that are not multiples of 8 are rounded down on the way in, and
    on the way out each map takes the size of its skip.

    Args:
        dims: 2 or 3.
        normalization: batch normalisation after the ``"output"`` only (the authors' port), after ``"all"``
            convolutions (the paper), or ``"none"``.
        double_elu: apply the activation twice after every decoder level, as the authors' port does.
        dropout: probability with which a value is dropped before each decoder level.
        widths: channels of each level, fine first.
    """

    def __init__(
        self,
        dims: int = 2,
        *,
        normalization: Normalization = "output",
        double_elu: bool = False,
        dropout: float = 0.5,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        if dims not in (2, 3):
            raise ConfigError(f"dims={dims} must be 2 or 3.")
        if normalization not in ("output", "all", "none"):
            raise ConfigError(f"normalization={normalization!r} is unknown; choose output, all or none.")
        everywhere = normalization == "all"
        self.double_elu, self.dropout = double_elu, dropout
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.encoder = nn.ModuleList(
            _Level(dims, before, width, everywhere)
            for before, width in zip((2, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(ConvNorm(dims, low, high, normalize=everywhere) for low, high in pairs)
        self.decoder = nn.ModuleList(_Level(dims, high, high, everywhere) for _, high in pairs)
        self.head = ConvNorm(dims, widths[0], dims, normalize=normalization != "none")
        if normalization == "none":
            # Training starts from almost no displacement.
            nn.init.normal_(self.head.conv.weight, 0, 1e-3)
            nn.init.zeros_(self.head.conv.bias)  # type: ignore[arg-type]  # there is one
        self.pool = F.avg_pool2d if dims == 2 else F.avg_pool3d

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Map two images (B, 1, ...) in [0, 1] to a field (B, n, ...) in pixels."""
        x = torch.cat([moving, fixed], 1)
        if not self.training and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)  # a quarter faster on CPUs
        skips = []
        for index, level in enumerate(self.encoder):
            skips.append(level(x if index == 0 else self.pool(x, 2)))
            x = F.elu(skips[-1])
        for up, level, skip in zip(self.up, self.decoder, skips[-2::-1], strict=True):
            x = F.dropout(x, self.dropout, self.training)
            x = up(F.interpolate(x, size=skip.shape[2:], mode="nearest"))
            x = F.elu(level(F.elu(x + skip)))
            if self.double_elu:
                x = F.elu(x)
        return self.head(x)


class Registration(NamedTuple):
    """Output of a registration network.

    Attributes:
        warped: (B, 1, ...), the moving image on the fixed one's grid.
        field: (B, n, ...) pixels, see `anatozoo.nn.warp`.
        inverse: the inverse field; None if the network predicts displacements, which may have no inverse, or
            if the inverse was not requested.
    """

    warped: Tensor
    field: Tensor
    inverse: Tensor | None


class RegNet(nn.Module):
    """Registers one image to another in one pass.

    Args:
        dims: 2 or 3.
        normalization: see `VectorCNN`.
        double_elu: see `VectorCNN`.
        dropout: see `VectorCNN`.
        velocity: predict a stationary velocity, so that the field is smoothly invertible.
        velocity_steps: squaring steps of its integration.
        levels: resolutions, from ``1 / 2**(levels - 1)`` on; each has its own network, which corrects the
            result of the coarser ones. 1 is the published network.
        padding: what the warped image shows beyond the moving one's border.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        dims: int = 2,
        *,
        normalization: Normalization = "output",
        double_elu: bool = False,
        dropout: float = 0.5,
        velocity: bool = False,
        velocity_steps: int = 7,
        levels: int = 1,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        if levels < 1 or velocity_steps < 1:
            raise ConfigError(f"levels={levels} and velocity_steps={velocity_steps} must be at least 1.")
        self.velocity, self.velocity_steps, self.padding = velocity, velocity_steps, padding
        self.networks = nn.ModuleList(
            VectorCNN(dims, normalization=normalization, double_elu=double_elu, dropout=dropout)
            for _ in range(levels)
        )

    def forward(self, moving: Tensor, fixed: Tensor, *, invert: bool = True) -> Registration:
        """Register images (B, 1, ...) in [0, 1]; every side needs ``8 * 2**(levels - 1)`` pixels.

        Args:
            moving: the image to be warped.
            fixed: the image on whose grid the result lies.
            invert: also compute the inverse field of a velocity network; no loss needs it.

        Raises:
            ConfigError: the images are too small for the number of levels.
        """
        count = len(self.networks)
        if min(moving.shape[2:]) < SHRINKAGE * 2 ** (count - 1):
            raise ConfigError(
                f"images of {tuple(moving.shape[2:])} are too small for {count} levels: every side needs "
                f"{SHRINKAGE * 2 ** (count - 1)} pixels."
            )
        field = inverse = None
        for index, network in enumerate(self.networks):
            factor = 2 ** (count - 1 - index)
            shape = tuple(side // factor for side in moving.shape[2:])
            small = [F.interpolate(image, size=shape, mode="area") for image in (moving, fixed)]
            if field is not None:
                field = resize_field(field, shape)
                inverse = None if inverse is None else resize_field(inverse, shape)
                small[0] = warp(small[0], field, padding=self.padding)
            # Warped images are in float32, whatever the weights are in.
            seen = [image.to(moving.dtype) for image in small]
            step, back = self._displacements(network(*seen).float(), invert)
            inverse = back if inverse is None or back is None else compose(back, inverse)
            field = step if field is None else compose(field, step)
        assert field is not None
        return Registration(warp(moving, field, padding=self.padding), field, inverse)

    def _displacements(self, prediction: Tensor, invert: bool) -> tuple[Tensor, Tensor | None]:
        if not self.velocity:
            return prediction, None
        back = integrate(-prediction, self.velocity_steps) if invert else None
        return integrate(prediction, self.velocity_steps), back
