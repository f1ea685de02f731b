"""Interpolation of fine slices between thick ones."""

from torch import Tensor
from torch.nn import functional as F


def interpolate_slices(coarse: Tensor, factor: int) -> Tensor:
    """Linear interpolation across slices, (B, 1, D, H, W) to (B, 1, D · factor, H, W)."""
    size = (coarse.shape[2] * factor, coarse.shape[3], coarse.shape[4])
    return F.interpolate(coarse, size=size, mode="trilinear", align_corners=False)
