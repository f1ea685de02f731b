"""Filters of convolutions as unit vectors: which layers count, and how alike filters are."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def filter_layers(network: nn.Module, patterns: Sequence[str] = ()) -> list[str]:
    """Names of the convolutions whose filters are compared, in the order of their definition.

    By default all but these: those of the image, which have as many input channels as the first one; the
    heads, those that a network lists in its attribute ``heads``, or else the last one; and those with more
    filters than a filter has numbers, as many of 1 x 1 have, which cannot be orthogonal. Convolutions in
    groups, whose filters look at different channels, and transposed ones never count; nor did the latter in
    Larrazabal et al., MICCAI 2021, where all layers have fewer filters than numbers.

    Args:
        network: any module.
        patterns: names or patterns such as ``"network.blocks.*"``, which replace the rule; empty follows it.

    Returns:
        Names of modules. Empty if there is none.
    """
    found = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, CONVOLUTIONS) and not layer.transposed and layer.groups == 1
    }
    if patterns:
        return [name for name in found if any(fnmatchcase(name, pattern) for pattern in patterns)]
    heads = tuple(_heads(network)) or tuple(f"{name}." for name in list(found)[-1:])
    of_image = next((layer.in_channels for layer in found.values()), 0)
    return [
        name
        for name, layer in found.items()
        if layer.in_channels != of_image
        and 1 < layer.out_channels <= layer.weight[0].numel()
        and not f"{name}.".startswith(heads)
    ]


def _heads(network: nn.Module) -> list[str]:
    """Where the names of layers begin that networks list as their heads."""
    return [
        f"{name}.{head}".lstrip(".")
        for name, part in network.named_modules()
        if isinstance(heads := getattr(type(part), "heads", None), tuple)
        for head in heads
    ]


def unit_filters(weight: Tensor) -> Tensor:
    """The filters of a convolution as vectors of length 1, (filters, inputs · kernel) float32.

    Args:
        weight: (filters, inputs, ...); a filter of zeros stays zero.
    """
    return F.normalize(weight.float().flatten(1), dim=1)


def squared_cosines(filters: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """How alike the filters of a layer are to one another, and to those of other networks.

    Args:
        filters: (F, D), of length 1.
        others: (K, F, D), those of K networks; None is none.

    Returns:
        Scalars with a gradient for `filters`: ``½ Σ_{i≠j} cos²`` within the layer, and ``Σ_ij cos²``, on
        average over the networks (0 without any).
    """
    count, fixed = len(filters), filters.detach()
    both = fixed if others is None else torch.cat([fixed, others.flatten(0, 1)])
    squares = (filters @ both.T).float().square()
    within = squares[:, :count]
    # The diagonal is subtracted rather than taken for 1: a filter of zeros has no direction.
    half = (within.sum() - within.diagonal().sum()) / 2
    # Both factors of the product move, and symmetrically: the second one's gradient costs no second product.
    inner = 2 * half - half.detach()
    between = squares[:, count:].sum() / (1 if others is None else len(others))
    return inner, between


def mean_cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor], layers: Sequence[str]) -> float:
    """The mean of ``|cos|`` between filters of two networks, over all pairs of a layer, then over layers.

    Args:
        one: state dict of a network.
        other: that of another one of this architecture.
        layers: see `filter_layers`; at least one.

    Returns:
        A number in 0..1; 0 means that all filters of one are orthogonal to those of the other.
    """
    values = []
    for name in layers:
        a, b = (unit_filters(state[f"{name}.weight"]) for state in (one, other))
        values.append((a @ b.T).abs().mean())
    return float(torch.stack(values).mean())
