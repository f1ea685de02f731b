"""Losses shared by the methods; all are means over the batch of the items that have a truth."""

import torch
from torch import Tensor
from torch.nn import functional as F


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), mean over batch and latents.

    Kingma & Welling, "Auto-encoding variational Bayes", 2014; the mean over latents is HybridGNet's choice.
    """
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).mean()


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` under non-negative weights of a broadcastable shape; 0 where all weights are 0."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(1e-8)


def landmark_mse(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error over coordinates, (B, N, 2) against (B, N, 2), weight (B, N)."""
    return weighted_mean((prediction - truth).square(), weight[..., None])


def landmark_smooth_l1(prediction: Tensor, truth: Tensor, weight: Tensor, *, beta: float = 0.01) -> Tensor:
    """Smooth L1 error over coordinates in units of `beta`, (B, N, 2) against (B, N, 2), weight (B, N)."""
    error = F.smooth_l1_loss(prediction, truth, beta=beta, reduction="none") / beta
    return weighted_mean(error, weight[..., None])


def contour_loss(
    prediction: Tensor,
    truth: Tensor,
    weight: Tensor,
    previous: Tensor,
    following: Tensor,
    *,
    beta: float = 0.01,
) -> Tensor:
    """Smooth L1 error of landmarks plus the same error across the contour alone, in units of `beta`.

    Sliding along the contour does not change the organ's outline, leaving it does: the second term counts
    only the component along the truth's normal.

    Args:
        prediction: (B, N, 2) in [0, 1].
        truth: (B, N, 2).
        weight: (B, N), 0 where a landmark has no truth.
        previous: (N,) index of each node's predecessor on its contour.
        following: (N,) index of its successor.
        beta: error, as a fraction of the frame, where the loss turns from quadratic to linear.
    """
    error = prediction - truth
    tangent = truth[:, following] - truth[:, previous]
    tangent = tangent / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    across = error[..., 0] * tangent[..., 1] - error[..., 1] * tangent[..., 0]
    normal = F.smooth_l1_loss(across, torch.zeros_like(across), beta=beta, reduction="none") / beta
    return landmark_smooth_l1(prediction, truth, weight, beta=beta) + weighted_mean(normal, weight)


def bending_loss(
    prediction: Tensor,
    reference: Tensor,
    weight: Tensor,
    previous: Tensor,
    following: Tensor,
    *,
    beta: float = 0.01,
) -> Tensor:
    """Smooth L1 difference of a contour's bending from a reference shape's, in units of `beta`.

    Bending is the second difference along the contour. A region alone does not forbid loops and spikes of no
    area; this does, and leaves position and size free.

    Args:
        prediction: (B, N, 2) in [0, 1].
        reference: (N, 2), for example the mean shape.
        weight: (B, N), 0 where a landmark is not to be judged.
        previous: (N,) index of each node's predecessor on its contour.
        following: (N,) index of its successor.
        beta: difference, as a fraction of the frame, where the loss turns from quadratic to linear.
    """
    bend = prediction[:, previous] + prediction[:, following] - 2 * prediction
    usual = reference[previous] + reference[following] - 2 * reference
    return landmark_smooth_l1(bend, usual.expand_as(bend), weight, beta=beta)


def masked_dice_loss(probability: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """One minus soft Dice per channel over the pixels that count.

    Args:
        probability: (B, C, H, W) in [0, 1].
        truth: (B, C, H, W) in [0, 1].
        weight: (B, C, H, W), 0 where a pixel is not to be judged; channels without any weight are left out.
    """
    dims = (-2, -1)
    overlap = 2 * (probability * truth * weight).sum(dims)
    total = ((probability + truth) * weight).sum(dims)
    dice = (overlap + 1.0) / (total + 1.0)
    return weighted_mean(1 - dice, (weight.amax(dims) > 0).to(dice.dtype))


def dense_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice of organ channels, (B, C, H, W) each."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return weighted_mean(entropy, weight) + masked_dice_loss(torch.sigmoid(logits), truth, weight)
