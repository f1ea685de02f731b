"""Losses of registration: similarity of images, smoothness of fields, agreement of labels.

Images are ``(B, C, ...)`` in [0, 1], fields ``(B, n, ...)`` in pixels (see `anatozoo.nn.warp`); every loss is
a mean over the batch and is minimised.

Local correlation and mutual information are MONAI's, which lacks total variation and global correlation.
MONAI's diffusion loss takes central differences, which are zero for a field that alternates from pixel to
pixel, so that the roughest field costs nothing; its bending energy has another stencil, hence other values,
in the oldest release that anatozoo supports. Both are forward differences here.
"""

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError

Similarity = Literal["ncc", "lncc", "mse", "mi"]
Smoothness = Literal["tv_sum", "tv_mean", "diffusion", "bending"]


def ncc_loss(warped: Tensor, fixed: Tensor, eps: float = 1e-5) -> Tensor:
    """Minus the normalised cross-correlation of whole images, in -1 … 1.

    Args:
        warped: (B, C, ...); channels are correlated separately.
        fixed: (B, C, ...).
        eps: added to the product of the standard deviations, so that a constant image gives 0. The authors'
            port has 1e-5, the paper's TensorFlow code none.
    """
    a, b = warped.flatten(2), fixed.flatten(2)
    a, b = a - a.mean(2, keepdim=True), b - b.mean(2, keepdim=True)
    # A clamp inside the root: the derivative of the root at 0, of a constant image, is infinite.
    scale = (a.square().mean(2) * b.square().mean(2)).clamp_min(1e-20).sqrt()
    return -((a * b).mean(2) / (scale + eps)).mean()


def local_ncc_loss(warped: Tensor, fixed: Tensor, window: int = 9) -> Tensor:
    """Minus the squared cross-correlation in windows around every pixel, in -1 … 0.

    Args:
        warped: (B, 1, ...).
        fixed: (B, 1, ...).
        window: side of the square or cubic window in pixels, odd.
    """
    value: Tensor = _monai_loss("lncc", fixed.ndim - 2, window)(warped, fixed)
    return value


def mutual_information_loss(warped: Tensor, fixed: Tensor, bins: int = 32) -> Tensor:
    """Minus the mutual information in nats, from a joint histogram with Gaussian (Parzen) windows.

    For images of different modalities. Values must be in [0, 1]; the rest is clipped.

    Args:
        warped: (B, C, ...).
        fixed: (B, C, ...).
        bins: number of bins of each image.
    """
    value: Tensor = _monai_loss("mi", 0, bins)(warped, fixed)
    return value


@cache
def _monai_loss(kind: str, dims: int, size: int) -> Any:
    # Imported when first used: it takes seconds.
    from monai.losses.image_dissimilarity import (
        GlobalMutualInformationLoss,
        LocalNormalizedCrossCorrelationLoss,
    )

    if kind == "mi":
        return GlobalMutualInformationLoss(num_bins=size)
    return LocalNormalizedCrossCorrelationLoss(spatial_dims=dims, kernel_size=size)


def similarity_loss(kind: Similarity, warped: Tensor, fixed: Tensor, *, window: int = 9) -> Tensor:
    """The similarity loss of this name; all are computed in float32.

    Args:
        kind: ``"ncc"``, ``"lncc"``, ``"mse"`` or ``"mi"``.
        warped: (B, 1, ...) in [0, 1].
        fixed: (B, 1, ...) in [0, 1].
        window: side of the windows of ``"lncc"``.

    Raises:
        ConfigError: the name is unknown.
    """
    with torch.autocast(fixed.device.type, enabled=False):
        return _similarity(kind, warped.float(), fixed.float(), window)


def _similarity(kind: Similarity, warped: Tensor, fixed: Tensor, window: int) -> Tensor:
    if kind == "ncc":
        return ncc_loss(warped, fixed)
    if kind == "lncc":
        return local_ncc_loss(warped, fixed, window)
    if kind == "mse":
        return F.mse_loss(warped, fixed)
    if kind == "mi":
        return mutual_information_loss(warped, fixed)
    raise ConfigError(f"similarity={kind!r} is unknown; choose ncc, lncc, mse or mi.")


def total_variation(field: Tensor, form: Literal["sum", "mean"] = "sum") -> Tensor:
    """Total variation, mean over the batch.

    Args:
        field: (B, n, ...).
        form: ``"sum"`` adds absolute differences of neighbours over pixels and channels, as the AC-RegNet
            paper's TensorFlow code does; ``"mean"`` averages them, and then over the axes, as the authors'
            PyTorch port does. At 64 × 64 the first is about 16,000 times the second, so their weights differ.

    Raises:
        ConfigError: the form is unknown.
    """
    axes = range(2, field.ndim)
    if form == "sum":
        return torch.stack([field.diff(dim=axis).abs().sum() for axis in axes]).sum() / len(field)
    if form == "mean":
        return torch.stack([field.diff(dim=axis).abs().mean() for axis in axes]).mean()
    raise ConfigError(f"form={form!r} is unknown; choose sum or mean.")


def diffusion(field: Tensor) -> Tensor:
    """Mean squared difference of neighbours, averaged over the axes: the gradient of the field, squared."""
    return torch.stack([field.diff(dim=axis).square().mean() for axis in range(2, field.ndim)]).mean()


def bending_energy(field: Tensor) -> Tensor:
    """Mean over pixels and channels of the squared second derivatives; mixed ones count twice.

    Zero for every affine field. Rueckert et al., IEEE TMI 1999.
    """
    axes = range(2, field.ndim)
    terms = [field.diff(n=2, dim=axis).square().mean() for axis in axes]
    terms += [2 * field.diff(dim=i).diff(dim=j).square().mean() for i in axes for j in axes if i < j]
    return torch.stack(terms).sum()


def smoothness_loss(kind: Smoothness, field: Tensor) -> Tensor:
    """The smoothness loss of this name, in float32.

    Raises:
        ConfigError: the name is unknown.
    """
    field = field.float()
    if kind == "tv_sum":
        return total_variation(field, "sum")
    if kind == "tv_mean":
        return total_variation(field, "mean")
    if kind == "diffusion":
        return diffusion(field)
    if kind == "bending":
        return bending_energy(field)
    raise ConfigError(f"smoothness={kind!r} is unknown; choose tv_sum, tv_mean, diffusion or bending.")


def label_cross_entropy(warped: Tensor, fixed: Tensor) -> Tensor:
    """Cross-entropy of the fixed labels under the softmax of the warped ones, mean over pixels.

    As in AC-RegNet the warped one-hot labels stand in for logits, so a perfect overlap still costs
    ``log(1 + (C - 1) / e)``.

    Args:
        warped: (B, C, ...), one-hot labels warped linearly.
        fixed: (B, C, ...), one-hot.
    """
    return F.cross_entropy(warped.float(), fixed.float())


def label_dice_loss(warped: Tensor, fixed: Tensor) -> Tensor:
    """One minus soft Dice, mean over the labels that either image has, background (channel 0) left out.

    Args:
        warped: (B, C, ...), one-hot labels warped linearly.
        fixed: (B, C, ...), one-hot.
    """
    a, b = warped.float().flatten(2)[:, 1:], fixed.float().flatten(2)[:, 1:]
    total = a.sum(2) + b.sum(2)
    dice = 2 * (a * b).sum(2) / total.clamp_min(1e-6)
    present = (total > 0).to(dice.dtype)
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def code_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (B,) of codes (B, K), summed over K."""
    return (a.float() - b.float()).square().sum(1)
