"""From an image to the code of a shape: an encoder and the heads of its mean and log-variance."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.blocks import build_encoder
from anatozoo.nn.losses import LARGEST_LOGVAR


def code_deviation(logvar: Tensor) -> Tensor:
    """Standard deviations of the latent code from its log-variances."""
    return (0.5 * logvar.clamp(max=LARGEST_LOGVAR)).exp()


class ShapeCoder(nn.Module):
    """The encoder of HybridGNet and of the networks that it is compared with; decoders are for subclasses.

    Gaggion et al., IEEE TMI 2022.

    Args:
        image_size: side of the square input in pixels, which the paper's encoder is tied to.
        encoder: ``"residual"`` (the paper's), a timm model name, or an encoder with its maps' ``channels``.
        latents: length of the code.
        variational: whether the code has a log-variance.

    Raises:
        ConfigError: a size that the encoder cannot take, or no latents.
    """

    def __init__(
        self, image_size: int, encoder: str | nn.Module, latents: int, *, variational: bool = True
    ) -> None:
        super().__init__()
        if image_size % 32 or image_size < 64:
            raise ConfigError(f"the frame's size={image_size} must be a multiple of 32, at least 64.")
        if latents < 1:
            raise ConfigError(f"latents={latents} must be at least 1.")
        self.image_size = image_size
        self.encoder: Any = build_encoder(encoder) if isinstance(encoder, str) else encoder
        channels: Any = self.encoder.channels
        self.deepest = max(channels)
        deepest = channels[self.deepest]
        self.reduce: nn.Module = nn.Identity()
        if encoder == "residual":
            flat = deepest * (image_size // 32) ** 2
        else:
            # A fixed 8 × 8 grid makes the weights independent of the input size and keeps the heads small.
            flat = 64 * 64
            self.reduce = nn.Sequential(nn.Conv2d(deepest, 64, 1), nn.AdaptiveAvgPool2d(8))
        self.fc_mu = nn.Linear(flat, latents)
        self.fc_logvar = nn.Linear(flat, latents) if variational else None

    def encode(self, maps: Mapping[int, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of the latent code, (B, latents) each; None where it has no variance."""
        flat = self.reduce(maps[self.deepest]).flatten(1)
        return self.fc_mu(flat), None if self.fc_logvar is None else self.fc_logvar(flat)

    def draw(self, mu: Tensor, logvar: Tensor | None) -> Tensor:
        """The code in a pass: drawn in training where it has a variance, else its mean."""
        if not self.training or logvar is None:
            return mu
        return mu + torch.randn_like(mu) * code_deviation(logvar)
