"""Thick slices from thin ones, as a scanner would have measured them."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError

Profile = Literal["gaussian", "box"]
PROFILES = ("gaussian", "box")
_FWHM = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""


def degrade_slices(fine: Tensor, factor: int, profile: Profile = "gaussian") -> Tensor:
    """Thick slices, each centred on `factor` thin ones: blur, then subsampling.

    Args:
        fine: (B, C, D, H, W); the first and last slices are repeated beyond the ends.
        factor: thin slices for each thick one.
        profile: weights of the thin slices. ``"gaussian"``: a Gaussian whose width at half maximum is the
            distance of the thick slices, because the excitation of a slice falls off smoothly and reaches
            into its neighbours; ``"box"``: the plain mean of its own thin slices.

    Returns:
        (B, C, D / factor, H, W).

    Raises:
        ConfigError: D is not a multiple of the factor, or the profile is unknown.
    """
    if fine.shape[2] % factor:
        raise ConfigError(f"{fine.shape[2]} slices cannot be put together by {factor}.")
    weights = slice_profile(factor, profile).to(fine)
    beside = (len(weights) - factor) // 2
    padded = F.pad(fine, (0, 0, 0, 0, beside, beside), mode="replicate") if beside else fine
    channels = fine.shape[1]
    kernel = weights.view(1, 1, -1, 1, 1).repeat(channels, 1, 1, 1, 1)
    return F.conv3d(padded, kernel, stride=(factor, 1, 1), groups=channels)


def slice_profile(factor: int, profile: str) -> Tensor:
    """Weights of thin slices in a thick one, symmetric, of sum 1.

    Args:
        factor: thin slices for each thick one.
        profile: see `degrade_slices`.

    Returns:
        (3 · factor,) for a Gaussian, which covers the neighbours' slices, or (factor,) for a box.

    Raises:
        ConfigError: the profile is unknown.
    """
    if profile not in PROFILES:
        raise ConfigError(f"profile={profile!r} is unknown; choose one of {', '.join(PROFILES)}.")
    count = factor if profile == "box" else 3 * factor
    away = torch.arange(count) - (count - 1) / 2
    weights = torch.ones(count) if profile == "box" else torch.exp(-0.5 * (away * _FWHM / factor) ** 2)
    return weights / weights.sum()
