"""The input of objectives from a training step of any network: label maps, points, images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Maps:
    """Label maps, 2-D or 3-D.

    Args:
        probability: (B, 1 + organs, ...) of the prediction, background first, with a gradient.
        truth: (B, 1 + organs, ...) in [0, 1], the reference.
        known: (B, organs) bool, whether an organ is annotated; None if all are.
    """

    probability: Tensor
    truth: Tensor
    known: Tensor | None = None

    @property
    def complete(self) -> Tensor | None:
        """(B,) bool, true for items whose organs are all annotated; None if that holds for all items."""
        return None if self.known is None else self.known.all(1)


@dataclass(frozen=True, eq=False)
class Points:
    """Landmarks.

    Args:
        found: (B, N, 2) in [0, 1] of the frame, the prediction, with a gradient.
        truth: (B, N, 2), the reference.
        weight: (B, N), above 0 where a landmark is known.
    """

    found: Tensor
    truth: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Images as the output of a network.

    Args:
        found: (B, 1, ...), the prediction, with a gradient.
        truth: (B, 1, ...), the reference.
    """

    found: Tensor
    truth: Tensor


def over_background(planes: Sequence[Tensor]) -> Tensor:
    """Label maps (B, 1 + organs, ...) from planes (B, ...) in [0, 1]; later ones cover earlier ones."""
    left = torch.ones_like(planes[0])
    shares = []
    for plane in reversed(planes):
        shares.append(left * plane)
        left = left * (1 - plane)
    return torch.stack([left, *reversed(shares)], 1)
