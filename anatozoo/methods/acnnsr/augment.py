"""Augmentation of fine volumes and of the thick slices made of them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SliceAugment:
    """Strengths of the augmentation; 0 switches one off.

    Attributes:
        flip_p: probability of a mirror image along each axis; 0 by default, as a shape prior knows sides.
        contrast: largest change of the factor of intensities, as a share.
        noise: largest standard deviation of Gaussian noise on the thick slices; the fine ones stay clean, so
            that the network learns to remove it.
    """

    flip_p: float = 0.0
    contrast: float = 0.2
    noise: float = 0.0


def augment(target: Tensor, inside: Tensor, config: SliceAugment) -> tuple[Tensor, Tensor]:
    """Flip a batch of fine volumes, and scale the intensities of each.

    Args:
        target: (B, 1, D, H, W).
        inside: (B, D, H, W), flipped alike.
        config: strengths.
    """
    for axis in (1, 2, 3):
        if torch.rand(()) < config.flip_p:
            target, inside = target.flip(axis + 1), inside.flip(axis)
    change = 1 + config.contrast * (2 * torch.rand(len(target), 1, 1, 1, 1) - 1)
    return target * change.to(target), inside


def add_noise(thick: Tensor, config: SliceAugment) -> Tensor:
    """Thick slices (B, 1, D, H, W) with Gaussian noise, whose strength is drawn for each volume."""
    if not config.noise:
        return thick
    strength = config.noise * torch.rand(len(thick), 1, 1, 1, 1).to(thick)
    return thick + strength * torch.randn_like(thick)
