"""Batched degradation of label maps, 2-D and 3-D: which kinds, how often and how strongly."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anatozoo.methods.postdae.corruptions import KINDS, Degradation, box_blur, indicator, largest
from anatozoo.nn.deform import uniform


@dataclass(frozen=True)
class DegradeConfig:
    """How often and how strongly label maps are degraded; a probability of 0 switches a kind off.

    Each kind is applied to an item with its own probability, so that several may come together. Sizes are
    shares of the frame's mean side, those of shapes and occlusions of the anatomy's extent, at a severity of
    1; each item has a random severity.

    Attributes:
        clean_p: share of items that stay as they are.
        shapes_p: ellipsoids, boxes and bars of any label, background included.
        shapes: largest number of them.
        shape_size: largest radius.
        morphology_p: dilation, erosion, opening or closing of organs.
        morphology: largest radius.
        swap_p: pixels near a border take the label of a pixel nearby.
        swap: how far it may lie.
        elastic_p: local deformation.
        elastic: its size.
        missing_p: an organ is absent, or all but remains of it.
        occlusion_p: a band or an end of the anatomy is blank.
        occlusion: its largest width.
        confusion_p: an organ, or a part of it, has another organ's label.
        blobs_p: irregular patches of wrong labels.
        blobs: largest share of the frame that they cover.
        speckle_p: many small parts and holes, as a classifier of single pixels leaves them.
        speckle: largest share of pixels.
        classifier_p: what a classifier of single pixels finds that is not sure of itself.
        classifier: how far around a pixel it looks.
        coarse_p: borders of a much lower resolution.
        coarse: largest width of a cell.
        soften_p: borders are blurred.
        soften: width of the transition.
        hard_p: borders are hard; those of other items are as soft as deforming the shapes made them.
    """

    clean_p: float = 0.15
    shapes_p: float = 0.3
    shapes: int = 5
    shape_size: float = 0.3
    morphology_p: float = 0.25
    morphology: float = 0.03
    swap_p: float = 0.25
    swap: float = 0.03
    elastic_p: float = 0.15
    elastic: float = 0.012
    missing_p: float = 0.25
    occlusion_p: float = 0.4
    occlusion: float = 0.5
    confusion_p: float = 0.15
    blobs_p: float = 0.15
    blobs: float = 0.25
    speckle_p: float = 0.2
    speckle: float = 0.4
    classifier_p: float = 0.4
    classifier: float = 0.06
    coarse_p: float = 0.1
    coarse: float = 0.06
    soften_p: float = 0.4
    soften: float = 0.02
    hard_p: float = 0.25


def confusion_table(classes: int, rates: Tensor | None = None) -> Tensor:
    """How often a label is taken for another, (C, C), rows that sum to 1 with a diagonal of 0.

    Args:
        classes: C, background included.
        rates: (C, C) shares of the true label (row) that a model gave another (column); None takes all alike.
    """
    table = torch.ones(classes, classes) if rates is None else rates.float().clone()
    table.fill_diagonal_(0)
    # Something of everything: what one model never confused, another one does.
    table = table / table.sum(1, keepdim=True).clamp_min(1e-8) + 0.1 / classes
    table.fill_diagonal_(0)
    return table / table.sum(1, keepdim=True)


def degrade(
    clean: Tensor, config: DegradeConfig, table: Tensor, kinds: Sequence[str] | None = None
) -> Tensor:
    """Degrade label maps.

    Args:
        clean: (B, C, ...) one-hot or soft, background first.
        config: how often and how strongly.
        table: see `confusion_table`.
        kinds: do exactly these to every item, for validation; none leaves all as they are. None draws.

    Returns:
        (B, C, ...) one-hot: clean borders are as hard as damaged ones, for a network must not tell by their
        softness which are which.
    """
    batch = len(clean)
    before = largest(clean)
    labels = before.clone()
    table = table.to(clean.device)
    severity = uniform((batch,), 0, 1, clean)
    if kinds is not None:
        severity = 0.3 + 0.7 * severity
    dirty = uniform((batch,), 0, 1, clean) >= config.clean_p
    for name, function in KINDS.items():
        if kinds is None:
            chosen = (dirty & (uniform((batch,), 0, 1, clean) < getattr(config, f"{name}_p"))).nonzero()[:, 0]
        else:
            chosen = torch.arange(batch if name in kinds else 0, device=clean.device)
        if len(chosen):
            labels[chosen] = function(Degradation(labels[chosen], severity[chosen], table, config))
    return indicator(labels, clean.shape[1]).to(clean.dtype)


def render(probability: Tensor, config: DegradeConfig) -> Tensor:
    """Make some label maps hard and others soft, all borders of a map alike, (B, C, ...) to (B, C, ...)."""
    draw = uniform((len(probability),), 0, 1, probability)
    each = [-1, *[1] * (probability.ndim - 1)]
    if config.soften > 0 and config.soften_p > 0:
        share = uniform((len(probability),), 0.2, 1, probability) * (draw < config.soften_p)
        most = max(round(config.soften * sum(probability.shape[2:]) / (probability.ndim - 2)), 1)
        radius = int(torch.randint(1, most + 1, ()))
        smooth = box_blur(probability.flatten(0, 1), radius).view_as(probability)
        probability = torch.lerp(probability, smooth, share.view(each))
    hard = indicator(largest(probability), probability.shape[1]).to(probability.dtype)
    return torch.where((draw > 1 - config.hard_p).view(each), hard, probability)
