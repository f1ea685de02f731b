"""Losses of closed contours whose nodes have no reference: distance, spacing, length, bending, region.

Each takes one contour for each image and gives one value for each image, so that a caller can leave out those
without annotation. Lengths are in percent of the frame, so that their squares are of the size of other
losses. Gaggion et al., "Mask-HybridGNet", arXiv 2602.21179, learn contours from masks by such terms;
elasticity and curvature are the inner energies of Kass et al., "Snakes: active contour models", IJCV 1988.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.nn.losses import LANDMARK_UNIT
from anatozoo.nn.raster import nearest_edges, soft_polygon


def squared_distance(points: Tensor, contour: Tensor) -> Tensor:
    """Squared distance of points to the nearest place on closed contours, on their edges too.

    Args:
        points: (B, n, 2) in [0, 1].
        contour: (B, m, 2) vertices in order, the last joined to the first.

    Returns:
        (B, n) in squares of a percent of the frame; both arguments have a gradient.
    """
    points, contour = points / LANDMARK_UNIT, contour / LANDMARK_UNIT
    start, edge = contour[:, None], (contour.roll(-1, 1) - contour)[:, None]
    gap = points[:, :, None] - start
    share = (gap * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-9)
    return (gap - share.clamp(0, 1)[..., None] * edge).square().sum(-1).amin(-1)


def chamfer(prediction: Tensor, outline: Tensor, *, delta: float = 1.0) -> Tensor:
    """Chamfer distance of contours: the mean Huber distance of each one's nodes to the other contour, summed.

    The published loss takes squares, as a large `delta` does but for a factor of 2, and measures to the
    other's nodes, so that its value depends on where they lie along the outline.

    Args:
        prediction: (B, n, 2) in [0, 1].
        outline: (B, m, 2) in [0, 1].
        delta: distance, in percent of the frame, where the loss changes from quadratic to linear.

    Returns:
        (B,); 0 for a contour whose nodes and edges are those of the outline.
    """
    there, back = squared_distance(prediction, outline), squared_distance(outline, prediction)
    return _huber(there, delta).mean(1) + _huber(back, delta).mean(1)


def _huber(squares: Tensor, delta: float) -> Tensor:
    """Huber loss of distances from their squares; the root is taken where it has a finite gradient."""
    far = delta * (squares.clamp_min(delta**2).sqrt() - delta / 2)
    return torch.where(squares <= delta**2, squares / 2, far)


def edge_lengths(contour: Tensor) -> Tensor:
    """Lengths (B, n) of the edges of closed contours (B, n, 2), in percent of the frame."""
    squares = ((contour.roll(-1, 1) - contour) / LANDMARK_UNIT).square().sum(-1)
    # The root of 0 has no finite gradient.
    return (squares + 1e-12).sqrt()


def uneven_edges(contour: Tensor) -> Tensor:
    """Variance of the edge lengths of closed contours (B, n, 2), divided by their squared mean, (B,)."""
    lengths = edge_lengths(contour)
    mean = lengths.mean(1, keepdim=True)
    return (lengths / mean.clamp_min(1e-6) - 1).square().mean(1)


def elasticity(contour: Tensor) -> Tensor:
    """Mean squared edge length of closed contours (B, n, 2), which draws them together, (B,)."""
    return edge_lengths(contour).square().mean(1)


def curvature(contour: Tensor) -> Tensor:
    """Mean squared second difference of closed contours (B, n, 2), which keeps them from bending, (B,)."""
    bend = (contour.roll(-1, 1) - 2 * contour + contour.roll(1, 1)) / LANDMARK_UNIT
    return bend.square().sum(-1).mean(1)


def raster_loss(contour: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy and soft Dice loss of the region in closed contours, drawn in a differentiable way.

    The border is about as soft as that of a mask of shares, so that the loss of an equal region is small,
    not 0.

    Args:
        contour: (B, n, 2) in [0, 1], where 0 is the edge of the first pixel.
        mask: (B, s, s), shares of cells in [0, 1].

    Returns:
        (B,).
    """
    size = mask.shape[-1]
    drawn = soft_polygon(contour, size, 0.3 / size, nearest_edges(contour, size)).flatten(1)
    truth = mask.flatten(1)
    # Far from the border the drawn share is 0 or 1 in float32, and its logarithm would be infinite.
    entropy = F.binary_cross_entropy(drawn.clamp(1e-4, 1 - 1e-4), truth, reduction="none").mean(1)
    dice = (2 * (drawn * truth).sum(1) + 1) / (drawn.sum(1) + truth.sum(1) + 1)
    return entropy + 1 - dice


def annealed(first: float, last: float, share: float) -> float:
    """A weight on its way from `first` to `last`: by equal factors, or by equal steps where one of them is 0.

    Args:
        first: its value at a share of 0.
        last: its value from a share of 1 on.
        share: of the way, at least 0.
    """
    share = min(share, 1.0)
    if min(first, last) <= 0:
        return first + share * (last - first)
    return float(first * (last / first) ** share)
