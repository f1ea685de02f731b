"""Label maps in the form of the networks."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError, DataError


def check_labels(labels: Sequence[str]) -> list[str]:
    """Names of the organs as a list.

    Raises:
        ConfigError: a name is empty or given twice.
    """
    names = list(labels)
    if len(set(names)) != len(names) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"organs={names} must be different names.")
    return names


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Label maps (B, ...) of integers below `classes` as (B, classes, ...) float32.

    Raises:
        DataError: a label is negative or too large.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"label maps hold values from {low} to {high}, but there are {classes} classes, background "
            "included; the values 1, 2, ... are those of `organs`, in order."
        )
    return F.one_hot(labels.long(), classes).movedim(-1, 1).float()


def swap_neighbours(labels: Tensor, probability: float) -> Tensor:
    """Noise of the AC-RegNet paper: swap the pixels 2k and 2k + 1 of a row with this probability.

    Args:
        labels: (B, C, ...) one-hot; all channels of a pixel move together. A last odd column stays.
        probability: probability of each swap, 0 … 1.
    """
    even = labels.shape[-1] // 2 * 2
    pairs = labels[..., :even].unflatten(-1, (-1, 2))
    draw = torch.rand(pairs[:, :1, ..., :1].shape, device=labels.device)
    swapped = torch.where(draw < probability, pairs.flip(-1), pairs).flatten(-2)
    return torch.cat([swapped, labels[..., even:]], -1)
