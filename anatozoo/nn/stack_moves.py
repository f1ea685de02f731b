"""Turns, stretches and shifts of stacks within their slices, with the points in them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def in_plane(angle: Tensor, factor: Tensor) -> Tensor:
    """Matrices (B, 2, 2) that stretch by factors (B, 2) along x and y, then turn by angles (B,), x to y."""
    c, s = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], 1)
    return turn * factor[:, None]


def move_stack(
    image: Tensor, matrix: Tensor, shift: Tensor, shape: tuple[int, ...], mode: str = "bilinear"
) -> Tensor:
    """Move what stacks show, about the middle, and crop them.

    Args:
        image: (B, C, D, H', W'), centre on centre with the crop.
        matrix: (B, 2, 2), see `in_plane`.
        shift: (B, 3) pixels, x, y and z, after it; whole numbers along z blur nothing.
        shape: (D, H, W) of the crop.
        mode: ``"bilinear"`` interpolates along all axes, ``"nearest"`` is for labels.

    Returns:
        (B, C, D, H, W), 0 from beyond the border.
    """
    own = image.shape[:1:-1]
    z, y, x = (torch.arange(side, device=image.device) - (side - 1) / 2 for side in shape)
    out = torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], -1)
    places = out.to(image.dtype) - shift[:, None, None, None]
    back = torch.linalg.inv(matrix).to(image.dtype)
    flat = places[..., :2].flatten(1, 3) @ back.transpose(1, 2)
    places = torch.cat([flat.view(*places.shape[:-1], 2), places[..., 2:]], -1)
    grid = 2 * places / places.new_tensor(own)
    return F.grid_sample(image, grid, mode=mode, padding_mode="zeros", align_corners=False)


def move_points(points: Tensor, matrix: Tensor, shift: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Where points (B, N, 3) in [0, 1] of a frame (D, H, W) lie after `move_stack` to the same frame."""
    size = points.new_tensor(shape[::-1])
    places = (points - 0.5) * size
    places = torch.cat([places[..., :2] @ matrix.transpose(1, 2), places[..., 2:]], -1)
    return (places + shift[:, None]) / size + 0.5


def points_back(points: Tensor, matrix: Tensor, shift: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `move_points`."""
    size = points.new_tensor(shape[::-1])
    places = (points - 0.5) * size - shift[:, None]
    places = torch.cat([places[..., :2] @ torch.linalg.inv(matrix).transpose(1, 2), places[..., 2:]], -1)
    return places / size + 0.5
