"""Polygons on pixel grids: occupancy, hard and differentiable."""

import torch
from torch import Tensor

SHOWN = 0.5
"""Share of a pixel that an organ must cover somewhere, or else a mask does not show it."""


def grid_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres of a grid as x, y in [0, 1], (height, width, 2)."""
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def polygon_inside(points: Tensor, height: int, width: int) -> Tensor:
    """Which pixel centres lie inside closed polygons, by the even-odd rule.

    Args:
        points: (B, N, 2) vertices, x, y in [0, 1] of the frame.
        height: rows of the grid.
        width: columns of the grid.

    Returns:
        (B, height, width) bool.
    """
    x1, y1 = points.unbind(-1)
    x2, y2 = points.roll(-1, 1).unbind(-1)
    centres = grid_centres(height, width, points)
    xs, ys = centres[0, :, 0], centres[:, 0, 1]
    # Edges are counted per row first: only the x of a crossing depends on the edge, not on the column.
    rows = ys[None, :, None]
    crosses = (y1[:, None] > rows) != (y2[:, None] > rows)
    slope = (x2 - x1) / torch.where(y1 == y2, torch.ones_like(y1), y2 - y1)
    at = x1[:, None] + (rows - y1[:, None]) * slope[:, None]
    # A crossing turns everything to its right over, so a running sum along the row needs no pixel-edge pairs.
    first = torch.searchsorted(xs.contiguous(), at.contiguous())
    turns = torch.zeros(len(points), height, width + 1, dtype=torch.int16, device=points.device)
    turns.scatter_add_(2, first, crosses.to(torch.int16))
    return turns[..., :width].cumsum(-1, dtype=torch.int16) % 2 == 1


def nearest_edges(points: Tensor, size: int) -> Tensor:
    """For each pixel of a square grid, the nearest edge of closed polygons, without a gradient.

    Args:
        points: (B, N, 2) vertices, x, y in [0, 1].
        size: side of the grid.

    Returns:
        (B, size * size) int64: the number of the vertex where the edge starts.
    """
    with torch.no_grad():
        edge = points.roll(-1, 1) - points
        long = edge.square().sum(-1).clamp_min(1e-12)[:, None, None]
        # What depends on the column or on the row alone is computed once for each.
        along = (torch.arange(size, device=points.device, dtype=points.dtype) + 0.5) / size
        x, y = (along[:, None] - points[:, None, :, axis] for axis in (0, 1))
        (ex, ey), x, y = edge[:, None, None].unbind(-1), x[:, None], y[:, :, None]
        from_start, far = x * ex + y * ey, x.square() + y.square()
        share = (from_start / long).clamp_(0, 1)
        return (far + share * (share * long - 2 * from_start)).argmin(-1).flatten(1)


def soft_polygon(points: Tensor, size: int, softness: float, edges: Tensor | None = None) -> Tensor:
    """Differentiable occupancy of closed polygons on a square grid.

    The sigmoid of the signed distance to the nearest edge; gradients flow through that distance.

    Args:
        points: (B, N, 2) vertices, x, y in [0, 1].
        size: side of the grid.
        softness: width of the transition as a fraction of the frame.
        edges: nearest edge of each pixel, see `nearest_edges`, which saves most of the time and memory; None
            looks at all edges.

    Returns:
        (B, size, size) in (0, 1).
    """
    inside = polygon_inside(points.detach(), size, size)
    centres = grid_centres(size, size, points).reshape(1, -1, 1, 2)
    start, edge = points[:, None], (points.roll(-1, 1) - points)[:, None]
    if edges is not None:
        which = edges[..., None].expand(-1, -1, 2)
        start, edge = (x[:, 0].gather(1, which)[:, :, None] for x in (start, edge))
    along = ((centres - start) * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-12)
    gap = centres - start - along.clamp(0, 1)[..., None] * edge
    distance = gap.square().sum(-1).amin(-1).add(1e-12).sqrt().view(inside.shape)
    return torch.sigmoid(torch.where(inside, distance, -distance) / softness)
