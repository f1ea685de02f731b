"""Losses of several methods; all are means over the annotated items of the batch."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.contours import untangled
from anatozoo.nn.graphs import chords

LARGEST_LOGVAR = 10.0


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), mean over batch and latents.

    Kingma & Welling, "Auto-encoding variational Bayes", 2014; the mean over latents is HybridGNet's choice.
    Above a log-variance of 10 the exponential continues as its tangent, so that one image cannot overflow.
    """
    low = logvar.clamp(max=LARGEST_LOGVAR)
    variance = low.exp() * (1 + logvar - low)
    return -0.5 * (1 + logvar - mu.square() - variance).mean()


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` under non-negative weights of a broadcastable shape; 0 where all weights are 0."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(1e-8)


def landmark_mse(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error over coordinates, (B, N, 2) against (B, N, 2), weight (B, N)."""
    return weighted_mean((prediction - truth).square(), weight[..., None])


LANDMARK_UNIT = 0.01
"""Landmark errors are measured in this fraction of the frame, about 10 pixels of 1024."""


def landmark_huber(prediction: Tensor, truth: Tensor, weight: Tensor, *, delta: float = 1.0) -> Tensor:
    """Huber error over coordinates, (B, N, 2) against (B, N, 2), weight (B, N).

    Errors are in percent of the frame; `delta` is where the loss changes from quadratic to linear.
    """
    error = (prediction - truth) / LANDMARK_UNIT
    value = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
    return weighted_mean(value, weight[..., None])


def contour_loss(
    prediction: Tensor,
    truth: Tensor,
    weight: Tensor,
    contours: Iterable[slice],
    *,
    delta: float = 1.0,
) -> Tensor:
    """Huber error of landmarks plus the Huber error of its component normal to the contour.

    Sliding along the contour does not change the organ's outline, leaving it does.

    Args:
        prediction: (B, N, 2) in [0, 1].
        truth: (B, N, 2) in [0, 1].
        weight: (B, N), 0 for landmarks without reference.
        contours: position of each closed contour's nodes on the node axis.
        delta: error, in percent of the frame, where the loss changes from quadratic to linear.
    """
    error = (prediction - truth) / LANDMARK_UNIT
    tangent = chords(truth, contours)
    tangent = tangent / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    across = error[..., 0] * tangent[..., 1] - error[..., 1] * tangent[..., 0]
    normal = F.huber_loss(across, torch.zeros_like(across), reduction="none", delta=delta)
    return landmark_huber(prediction, truth, weight, delta=delta) + weighted_mean(normal, weight)


def uncrossing_loss(prediction: Tensor, contours: Iterable[slice], *, delta: float = 1.0) -> Tensor:
    """Mean Huber distance of the nodes in a contour's loops from their positions without the loop.

    Losses on regions permit loops without area; this loss does not, and is 0 for simple contours.

    Args:
        prediction: (B, N, 2) in [0, 1].
        contours: position of each closed contour's nodes on the node axis.
        delta: as in `landmark_huber`.
    """
    target = prediction.detach().clone()
    for part in contours:
        target[:, part] = untangled(target[:, part])
    return landmark_huber(prediction, target, (target != prediction.detach()).any(-1).float(), delta=delta)


def focal(entropy: Tensor, gamma: float) -> Tensor:
    """The focal loss of pixels from their cross-entropy: ``(1 − p)^γ · (−log p)``.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, without the weights of classes; p is the
    probability of the truth.

    Args:
        entropy: ``−log p``, at least 0, of any shape.
        gamma: γ, 0 or at least 1; 0 gives the cross-entropy as it is.
    """
    return entropy if not gamma else (-torch.expm1(-entropy)) ** gamma * entropy


def check_base_loss(ce_weight: float, dice_weight: float, focal_gamma: float) -> None:
    """Refuse settings of a segmenter's loss that leave nothing to minimise.

    Args:
        ce_weight: weight of the cross-entropy.
        dice_weight: weight of the soft Dice loss.
        focal_gamma: exponent of `focal`.

    Raises:
        ConfigError: a weight is negative or not finite, both are 0, or the exponent is neither 0 nor at least
            1.
    """
    # Written so that NaN, which compares as nothing, is refused too.
    if not (0 <= ce_weight < math.inf and 0 <= dice_weight < math.inf and ce_weight + dice_weight > 0):
        raise ConfigError(
            f"ce_weight={ce_weight} and dice_weight={dice_weight} must be finite, must not be negative, and "
            "one above 0."
        )
    if focal_gamma != 0 and not 1 <= focal_gamma < math.inf:
        raise ConfigError(
            f"focal_gamma={focal_gamma} must be 0 for cross-entropy, or at least 1; 2 is usual."
        )


def organ_dice(probability: Tensor, truth: Tensor) -> Tensor:
    """Soft Dice of each organ in each image, with 1 added to both sums of pixels: (B, organs).

    Args:
        probability: (B, 1 + organs, ...), background first.
        truth: shares of that shape.
    """
    organs, target = probability[:, 1:].flatten(2), truth[:, 1:].flatten(2)
    return (2 * (organs * target).sum(2) + 1) / (organs.sum(2) + target.sum(2) + 1)


def masked_dice_loss(probability: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """One minus soft Dice per channel over the weighted pixels.

    Args:
        probability: (B, C, H, W) in [0, 1].
        truth: (B, C, H, W) in [0, 1].
        weight: (B, C, H, W), 0 for ignored pixels; channels without weight are left out.
    """
    dims = (-2, -1)
    overlap = 2 * (probability * truth * weight).sum(dims)
    total = ((probability + truth) * weight).sum(dims)
    dice = (overlap + 1.0) / (total + 1.0)
    return weighted_mean(1 - dice, (weight.amax(dims) > 0).to(dice.dtype))


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """How far two soft masks differ: one minus soft Dice, exactly 0 for equal ones; both have a gradient.

    The squares in the denominator are those of Milletari et al., "V-Net", 3DV 2016.

    Args:
        one: (B, C, H, W) in [0, 1].
        other: (B, C, H, W) in [0, 1].

    Returns:
        (B, C) in [0, 1].
    """
    dims = (-2, -1)
    total = (one.square() + other.square()).sum(dims)
    return 1 - (2 * (one * other).sum(dims) + 1.0) / (total + 1.0)


def dense_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice of organ channels, (B, C, H, W) each."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return weighted_mean(entropy, weight) + masked_dice_loss(torch.sigmoid(logits), truth, weight)
