"""Detect self-intersections of closed contours, and open their loops."""

import torch
from torch import Tensor

LONGEST_LOOP = 0.2
"""Loops with up to this share of a contour's nodes are opened; larger ones mean a broken contour."""
MOST_CROSSINGS = 4
"""Contours with more crossings are tangles and stay as they are."""


def crossings(points: Tensor) -> Tensor:
    """Which edges of closed contours (B, N, 2) cross in their interiors, (B, N, N) bool, i before j."""
    start, end = points, points.roll(-1, 1)

    def side(point: Tensor) -> Tensor:
        edge, to = (end - start)[:, :, None], point[:, None] - start[:, :, None]
        return torch.sign(edge[..., 0] * to[..., 1] - edge[..., 1] * to[..., 0])

    separated = side(start) * side(end) < 0
    return (separated & separated.transpose(1, 2)).triu()


def open_loops(points: Tensor) -> Tensor:
    """Closed contours (B, N, 2) without their small loops, see `untangled`; larger ones and tangles stay."""
    longest = int(LONGEST_LOOP * points.shape[1])
    few = crossings(points).sum((1, 2)) <= MOST_CROSSINGS
    # Opening a loop can create a new crossing; the bound ends such sequences.
    for _ in range(points.shape[1]):
        opened = torch.where(few[:, None, None], untangled(points, longest=longest), points)
        if torch.equal(opened, points):
            break
        points = opened
    return points


def untangled(points: Tensor, *, longest: int | None = None) -> Tensor:
    """Closed contours whose loops are opened: their nodes are spread evenly over the gap of each loop.

    Two crossing edges divide the contour into two parts; the one with fewer nodes is the loop.

    Args:
        points: (B, N, 2) vertices in order, the last joined to the first; N of at least 4.
        longest: keep loops of more nodes; None opens all.

    Returns:
        (B, N, 2), equal to `points` outside loops. One pass: a loop within a loop needs another.
    """
    count = points.shape[1]
    result = points.clone()
    for b, i, j in crossings(points).nonzero().tolist():
        # Edges i and j cross: the nodes i+1 … j lie on one side of the crossing, the others on the other.
        first, inside = (i + 1, j - i) if 2 * (j - i) <= count else (j + 1, count - (j - i))
        if longest is not None and inside > longest:
            continue
        loop = (torch.arange(first - 1, first + inside + 1, device=points.device)) % count
        share = torch.linspace(0, 1, inside + 2, device=points.device, dtype=points.dtype)[:, None]
        result[b, loop[1:-1]] = torch.lerp(points[b, loop[:1]], points[b, loop[-1:]], share)[1:-1]
    return result
