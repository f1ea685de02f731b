"""Similarity of restored and true volumes within a mask, and of the grey values of two sets of images."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def psnr(found: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, (B,); the peak is the range of intensities, 1.

    Args:
        found: (B, 1, D, H, W), intensities with the range [0, 1].
        truth: (B, 1, D, H, W), intensities with the range [0, 1].
        inside: (B, D, H, W) bool, true for voxels that count.
    """
    weight = inside[:, None].to(found.dtype)
    error = ((found - truth).square() * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
    return -10 * torch.log10(error)


def ssim(found: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
    """Structural similarity, (B,), mean over the voxels that count.

    Wang et al., IEEE TIP 13(4), 2004, in 3-D: Gaussian windows of a standard deviation of 1.5 voxels,
    constants 0.01² and 0.03².

    Args:
        found: (B, 1, D, H, W), at least 8 voxels a side, intensities with the range [0, 1].
        truth: (B, 1, D, H, W), of the same shape and range.
        inside: (B, D, H, W) bool, true for voxels that count.
    """
    # Imported here: it takes seconds.
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, similarity = structural_similarity_index_measure(
        found, truth, data_range=1.0, reduction="none", return_full_image=True
    )
    weight = inside[:, None].to(similarity.dtype)
    return (similarity * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


def js_divergence(one: npt.ArrayLike, other: npt.ArrayLike, bins: int = 64) -> float:
    """Jensen-Shannon divergence of two histograms of grey values, in bits: 0 alike, 1 apart.

    Lin, IEEE Transactions on Information Theory 37(1), 1991.

    Args:
        one: grey values in [0, 1] of a set of images, of any shape.
        other: those of another set.
        bins: of equal width, over [0, 1].

    Returns:
        The divergence, NaN where a set is empty.
    """
    counts = [np.histogram(np.asarray(x, float), bins, (0.0, 1.0))[0] for x in (one, other)]
    if not all(each.sum() for each in counts):
        return float("nan")
    p, q = (each / each.sum() for each in counts)
    middle = (p + q) / 2
    bits = [float(np.sum(x[x > 0] * np.log2(x[x > 0] / middle[x > 0]))) for x in (p, q)]
    return max(0.0, sum(bits) / 2)
