"""One gradient from several: rules that keep what domains or tasks agree on.

All functions take gradients (D, P) of D domains over P components and give one of (P,). It is divided by D:
without any rule it is the mean over the domains, so that learning rate, clipping and weight decay keep their
scale. The papers take the sum.
"""

import torch
from torch import Tensor


def agreeing(gradients: Tensor) -> Tensor:
    """(P,) bool, where all domains have the same sign; zero agrees with nothing."""
    return (gradients > 0).all(0) | (gradients < 0).all(0)


def agreed_sum(gradients: Tensor, agree: Tensor) -> Tensor:
    """Agr-Sum: zero where domains disagree.

    Mansilla et al., ICCV 2021. NaN and infinity stay, so that a loss that is no number does not go unnoticed.

    Args:
        gradients: (D, P).
        agree: (P,), see `agreeing`.
    """
    mean = gradients.mean(0)
    return mean.where(agree | ~mean.isfinite(), 0)


def agreed_or_random(gradients: Tensor, agree: Tensor, random: torch.Generator) -> Tensor:
    """Agr-Rand: noise where domains disagree, from N(0, s²) with s the mean magnitude where they agree.

    Mansilla et al., ICCV 2021. If no component agrees, s is 0.

    Args:
        gradients: (D, P).
        agree: (P,), see `agreeing`.
        random: of the gradients' device.
    """
    kept = agreed_sum(gradients, agree)
    scale = (kept * agree).abs().sum() / agree.sum().clamp_min(1)
    noise = torch.randn(kept.shape, generator=random, device=kept.device, dtype=kept.dtype)
    return kept.where(agree | ~kept.isfinite(), noise * scale)


def projected(gradients: Tensor, order: list[int]) -> Tensor:
    """PCGrad: each gradient loses what opposes another one; then their mean.

    Yu et al., NeurIPS 2020: for each i, and each other j, ``g_i ← g_i − (g_i · G_j / ‖G_j‖²) G_j`` if
    ``g_i · G_j < 0``, where G are the gradients as they came. All of it happens in the span of the gradients,
    so that their dot products are enough.

    Args:
        gradients: (D, P).
        order: of the domains, the order in which each meets the others.
    """
    dots = (gradients @ gradients.T).double().cpu()
    weights = torch.eye(len(gradients), dtype=torch.float64)
    for i in order:
        for j in order:
            along = weights[i] @ dots[j]
            if i != j and along < 0:
                weights[i, j] -= along / dots[j, j]
    return weights.mean(0).to(gradients) @ gradients
