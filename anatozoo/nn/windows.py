"""A network that sees one window at a time, on a larger image."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from anatozoo.errors import GeometryError

SIGMA = 0.125
"""Standard deviation of a window's weights, in sides of the window."""
LEAST = 1e-3
"""Smallest weight of a voxel."""


def in_windows(
    image: Tensor, window: Sequence[int], network: Callable[[Tensor], Tensor], overlap: float
) -> Tensor:
    """What a network gives for an image, as the weighted mean over overlapping windows.

    The middle of a window counts most: weights are a Gaussian. Positions and weights are those of MONAI's
    sliding windows, whose import takes seconds and brings torchvision with it.

    Args:
        image: (1, C, ...), no side shorter than the window's.
        window: sides of what the network sees.
        network: from ``(1, C, *window)`` to (1, K, ...), whose sides are whole multiples of the window's.
        overlap: share of a window that neighbours have in common, 0 to below 1.

    Returns:
        (1, K, ...), as many times larger than the image as the network's answers are than the window.

    Raises:
        GeometryError: a side of the image is shorter than the window's.
    """
    size = tuple(image.shape[2:])
    if any(side < own for side, own in zip(size, window, strict=True)):
        raise GeometryError(f"an image of {size} voxels is smaller than the window of {tuple(window)}.")
    if size == tuple(window):
        return network(image)
    weights, total, count = _weights(window).to(image), image.new_zeros(()), image.new_zeros(())
    factors = [1] * len(size)
    for number, first in enumerate(_starts(size, window, overlap)):
        found = network(image[_parts(first, window)])
        if number == 0:
            factors = [own // side for own, side in zip(found.shape[2:], window, strict=True)]
            for axis, factor in enumerate(factors):
                weights = weights.repeat_interleave(factor, axis)
            whole = [side * factor for side, factor in zip(size, factors, strict=True)]
            total, count = image.new_zeros(1, found.shape[1], *whole), image.new_zeros(whole)
        there = _parts([a * factor for a, factor in zip(first, factors, strict=True)], weights.shape)
        total[there] += found * weights
        count[there] += weights
    return total / count


def _weights(window: Sequence[int]) -> Tensor:
    """Weights of a window's voxels."""
    weights = torch.ones(())
    for side in window:
        place = torch.arange(side) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(place**2) / (2 * (SIGMA * side) ** 2))
    return weights.clamp_min(max(LEAST, weights.min().item()))


def _starts(size: Sequence[int], window: Sequence[int], overlap: float) -> Iterator[tuple[int, ...]]:
    """First voxels of the windows: at equal distances, the last of an axis as far back as the image ends."""
    axes = []
    for side, own in zip(size, window, strict=True):
        step = max(1, int(own * (1 - overlap)))
        count = math.ceil((side - own) / step) + 1
        axes.append([min(number * step, side - own) for number in range(count)])
    yield from product(*axes)


def _parts(starts: Sequence[int], sides: Sequence[int]) -> tuple[Any, ...]:
    """An index of the last axes: a window, in all images and channels."""
    return (..., *(slice(start, start + side) for start, side in zip(starts, sides, strict=True)))
