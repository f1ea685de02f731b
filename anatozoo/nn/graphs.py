"""Contour graphs of organs: one closed cycle per organ, and its coarse version.

The matrices follow Gaggion et al., "Improving anatomical plausibility in medical image segmentation via
hybrid graph neural networks", IEEE TMI 2022.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.organs import ORGAN_SETS

Upsampling = Literal["wrap", "copy"]


def check_organs(organs: Mapping[str, int]) -> dict[str, int]:
    """Return `organs` as a plain dict after a check.

    Args:
        organs: number of landmarks of each organ, in the order of the network's output.

    Raises:
        ConfigError: there is no organ, or one has fewer than four landmarks.
    """
    if not organs:
        raise ConfigError("organs is empty: give at least one, for example {'heart': 26}.")
    for name, count in organs.items():
        if int(count) != count or count < 4:
            raise ConfigError(f"organ {name!r} has {count} landmarks; a closed contour needs at least 4.")
    return {str(name): int(count) for name, count in organs.items()}


def organ_counts(organs: str | Mapping[str, int]) -> dict[str, int]:
    """Landmarks per organ from a set's name or a mapping.

    Raises:
        ConfigError: the name is unknown, or see `check_organs`.
    """
    return check_organs(_set_of(organs) if isinstance(organs, str) else organs)


def organ_names(organs: str | Sequence[str]) -> list[str]:
    """Organs in the order of their labels, from a set's name or a list.

    Raises:
        ConfigError: the name is unknown, the list is empty or names an organ twice.
    """
    names = [str(organ) for organ in (_set_of(organs) if isinstance(organs, str) else organs)]
    if not names or len(set(names)) != len(names) or not all(names) or len(names) > 254:
        raise ConfigError(f"organs={names} must be 1 to 254 different names.")
    return names


def _set_of(name: str) -> Mapping[str, int]:
    if name not in ORGAN_SETS:
        raise ConfigError(
            f"organs={name!r} is unknown; choose one of {', '.join(ORGAN_SETS)}, a list or a mapping."
        )
    return ORGAN_SETS[name]


def coarse(organs: Mapping[str, int]) -> dict[str, int]:
    """Number of nodes of each organ after pooling: half, rounded up."""
    return {name: (count + 1) // 2 for name, count in organs.items()}


def organ_slices(organs: Mapping[str, int]) -> dict[str, slice]:
    """Position of each organ's nodes on the node axis."""
    slices, start = {}, 0
    for name, count in organs.items():
        slices[name] = slice(start, start + count)
        start += count
    return slices


def chords(points: Tensor, contours: Iterable[slice]) -> Tensor:
    """Vectors (B, N, 2) from each node's predecessor to its successor along its closed contour.

    Positions are shifted rather than looked up: an average of weights also averages buffers, and would
    shorten indices among them.

    Args:
        points: (B, N, 2).
        contours: position of each contour's nodes on the node axis, in order and without gaps.
    """
    parts = [points[:, part] for part in contours]
    return torch.cat([part.roll(-1, 1) - part.roll(1, 1) for part in parts], 1)


def adjacency(organs: Mapping[str, int]) -> Tensor:
    """Adjacency of the closed contours, (N, N) float32 with ones beside the (cyclic) diagonal."""
    return torch.block_diag(*[_ring(count) for count in organs.values()])


def _ring(count: int) -> Tensor:
    nodes = torch.arange(count)
    matrix = torch.zeros(count, count)
    matrix[nodes, nodes.roll(1)] = matrix[nodes, nodes.roll(-1)] = 1.0
    return matrix


def downsampling(organs: Mapping[str, int]) -> Tensor:
    """Pooling matrix (M, N): coarse node i is the mean of the nodes 2i and 2i + 1.

    The last coarse node of an organ with an odd number of landmarks copies its last landmark.
    """
    blocks = []
    for count in organs.values():
        block = torch.zeros((count + 1) // 2, count)
        for i in range(len(block)):
            pair = [j for j in (2 * i, 2 * i + 1) if j < count]
            block[i, pair] = 1.0 / len(pair)
        blocks.append(block)
    return torch.block_diag(*blocks)


def upsampling(organs: Mapping[str, int], mode: Upsampling = "wrap") -> Tensor:
    """Unpooling matrix (N, M): even nodes copy their coarse node, odd ones average its two neighbours.

    Args:
        organs: landmarks of each organ on the fine graph.
        mode: rule for the last odd node of an organ, which has no next coarse node. ``"wrap"`` closes the
            contour (CheXmask and later work); ``"copy"`` repeats the last coarse node (the TMI 2022 release).
            Weights trained with one mode give other landmarks with the other.

    Raises:
        ConfigError: the mode is neither of the two.
    """
    if mode not in ("wrap", "copy"):
        raise ConfigError(f"upsampling={mode!r} is unknown; choose 'wrap' (CheXmask) or 'copy' (TMI 2022).")
    blocks = []
    for count in organs.values():
        half = (count + 1) // 2
        block = torch.zeros(count, half)
        for i in range(count):
            low = i // 2
            if i % 2 == 0:
                block[i, low] = 1.0
                continue
            high = low + 1
            if high == half:
                high = 0 if mode == "wrap" else low
            block[i, low] += 0.5
            block[i, high] += 0.5
        blocks.append(block)
    return torch.block_diag(*blocks)
