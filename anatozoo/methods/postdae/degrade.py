"""Batched degradation of label maps, 2-D and 3-D."""

from collections.abc import Sequence

import torch
from torch import Tensor

from anatozoo.methods.postdae.corruptions import KINDS, Degradation, box_blur, indicator, largest
from anatozoo.methods.postdae.strengths import DegradeConfig
from anatozoo.nn.deform import uniform
from anatozoo.nn.soft_damage import SoftDamage, soften


def confusion_table(classes: int, rates: Tensor | None = None) -> Tensor:
    """Probability (C, C) that a label is confused with another; rows sum to 1, the diagonal is 0.

    Args:
        classes: C, background included.
        rates: (C, C) confusion matrix of a model, true label in rows; None is uniform.
    """
    table = torch.ones(classes, classes) if rates is None else rates.float().clone()
    table.fill_diagonal_(0)
    # A floor for all entries: what one model never confuses, another does.
    table = table / table.sum(1, keepdim=True).clamp_min(1e-8) + 0.1 / classes
    table.fill_diagonal_(0)
    return table / table.sum(1, keepdim=True)


def degrade(
    clean: Tensor, config: DegradeConfig, table: Tensor, kinds: Sequence[str] | None = None
) -> Tensor:
    """Degrade label maps.

    Args:
        clean: (B, C, ...) one-hot or soft, background first.
        config: probabilities and strengths.
        table: see `confusion_table`.
        kinds: apply exactly these kinds to every item, for validation; empty for none. None draws at random.

    Returns:
        (B, C, ...) one-hot: clean borders are as hard as damaged ones, because a network must not recognise
        damage by its hard borders.
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
    """Make the borders of some label maps hard and of others soft, (B, C, ...) to (B, C, ...).

    With `DegradeConfig.soft_p`, some become what a network finds that is not sure, see
    `anatozoo.nn.soft_damage.soften`; Young et al., arXiv 2202.02952.
    """
    draw = uniform((len(probability),), 0, 1, probability)
    each = [-1, *[1] * (probability.ndim - 1)]
    if config.soften > 0 and config.soften_p > 0:
        share = uniform((len(probability),), 0.2, 1, probability) * (draw < config.soften_p)
        most = max(round(config.soften * sum(probability.shape[2:]) / (probability.ndim - 2)), 1)
        radius = int(torch.randint(1, most + 1, ()))
        smooth = box_blur(probability.flatten(0, 1), radius).view_as(probability)
        probability = torch.lerp(probability, smooth, share.view(each))
    hard = indicator(largest(probability), probability.shape[1]).to(probability.dtype)
    probability = torch.where((draw > 1 - config.hard_p).view(each), hard, probability)
    if not config.soft_p:  # no random number is drawn, so that fits without it stay what they were
        return probability
    soft = uniform((len(probability),), 0, 1, probability) < config.soft_p
    unsure = SoftDamage(noise=config.soft_noise, temperature=config.soft_temperature)
    return torch.where(soft.view(each), soften(probability, unsure), probability)
