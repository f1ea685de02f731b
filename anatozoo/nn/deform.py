"""Batched random deformation of images and label maps, 2-D and 3-D, for augmentation."""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTH = {2: "bicubic", 3: "trilinear"}


@dataclass(frozen=True)
class ShapeConfig:
    """Strengths of the deformation; 0 switches a transform off.

    Attributes:
        rotation_deg: largest rotation, about each axis in 3-D.
        scale: largest change of size, as the logarithm of the factor.
        anisotropy: largest change of size along each axis, as the logarithm of the factor.
        shift: largest shift, as a share of the frame.
        elastic: size of a smooth displacement, as a share of the frame.
        cells: control points of that displacement along each axis.
        reorder_p: probability that an item gets a random order of rows, columns and slices, see `reorder`;
            for slices without known directions.
    """

    rotation_deg: float = 8.0
    scale: float = 0.15
    anisotropy: float = 0.1
    shift: float = 0.06
    elastic: float = 0.012
    cells: int = 5
    reorder_p: float = 0.0


def reorder(values: Tensor, order: int, dims: int = 3) -> Tensor:
    """Images or volumes in one of the orders in which rows, columns and slices may be stored.

    Args:
        values: (..., H, W) or (..., D, H, W); planes that are not square keep rows and columns.
        order: 0 to 7 in 2-D, to 15 in 3-D. Its bits mirror the columns (1), the rows (2) and, in 3-D, the
            slices (4); the last one (4 or 8) exchanges rows and columns before that.
        dims: 2 or 3.
    """
    if order & 1 << dims and values.shape[-1] == values.shape[-2]:
        values = values.transpose(-1, -2)
    return values.flip([-1 - axis for axis in range(dims) if order & 1 << axis])


def uniform(shape: tuple[int, ...], low: float, high: float, like: Tensor) -> Tensor:
    """Uniform random numbers, float32, on the device of `like`."""
    return torch.rand(shape, device=like.device) * (high - low) + low


def smooth_field(batch: int, channels: int, shape: tuple[int, ...], cells: int, like: Tensor) -> Tensor:
    """Smooth random field (B, channels, ...), N(0, 1) at its control points, `cells` along each axis."""
    coarse = torch.randn(batch, channels, *[cells] * len(shape), device=like.device)
    return F.interpolate(coarse, size=shape, mode=SMOOTH[len(shape)], align_corners=True)


def random_grid(batch: int, shape: tuple[int, ...], config: ShapeConfig, like: Tensor) -> Tensor:
    """Sampling grids for `grid_sample` that rotate, scale, shift and bend, without mirroring.

    Args:
        batch: number of independent deformations.
        shape: shape of the frame, rows first.
        config: strengths.
        like: gives the device.

    Returns:
        (B, ..., n) float32, for ``align_corners=False``.
    """
    n = len(shape)
    sides = torch.tensor(shape[::-1], device=like.device, dtype=torch.float32)
    # Positions in shares of the largest side, (x, y[, z]), so that oblong frames are rotated without shear.
    unit = sides / sides.max()
    axes = [(torch.arange(s, device=like.device) + 0.5) / s - 0.5 for s in shape]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1) * unit
    zoom = uniform((batch, 1), -config.scale, config.scale, like)
    stretch = uniform((batch, n), -config.anisotropy, config.anisotropy, like)
    matrix = _rotation(batch, n, config.rotation_deg, like) / torch.exp(zoom + stretch)[:, None]
    shift = uniform((batch, 1, n), -config.shift, config.shift, like)
    source = (place.reshape(1, -1, n) - shift) @ matrix.transpose(1, 2)
    source = source.view(batch, *shape, n)
    if config.elastic:
        field = smooth_field(batch, n, shape, config.cells, like)
        source = source + config.elastic * field.movedim(1, -1)
    return 2 * source / unit


def deform(probability: Tensor, config: ShapeConfig, *others: Tensor) -> tuple[Tensor, ...]:
    """Deform label maps, each by its own random deformation.

    Args:
        probability: (B, C, ...) one-hot or soft, background first.
        config: strengths.
        others: further maps of the same shape, deformed like the first.

    Returns:
        All maps, (B, C, ...), with background beyond the frame.
    """
    grid = random_grid(len(probability), tuple(probability.shape[2:]), config, probability)
    given = torch.cat([maps[:, 1:] for maps in (probability, *others)], 1)
    [given] = _reordered(config, given)
    moved = F.grid_sample(given, grid.to(probability.dtype), padding_mode="zeros", align_corners=False)
    return tuple(
        torch.cat([(1 - organs.sum(1, keepdim=True)).clamp(0, 1), organs], 1)
        for organs in moved.chunk(1 + len(others), 1)
    )


def deform_image(image: Tensor, labels: Tensor | None, config: ShapeConfig) -> tuple[Tensor, Tensor | None]:
    """Deform images and their label maps, each by its own random deformation.

    Args:
        image: (B, 1, ...), linear interpolation, border repeated beyond the frame.
        labels: (B, ...) integers, nearest neighbour, 0 beyond the frame.
        config: strengths.

    Returns:
        Both, of the same shapes and types.
    """
    grid = random_grid(len(image), tuple(image.shape[2:]), config, image).to(image.dtype)
    image, *given = _reordered(config, image, *([] if labels is None else [labels[:, None]]))
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    if labels is None:
        return moved, None
    labels = given[0][:, 0]
    found = F.grid_sample(labels[:, None].to(image.dtype), grid, mode="nearest", align_corners=False)
    return moved, found[:, 0].round().to(labels.dtype)


def _reordered(config: ShapeConfig, *maps: Tensor) -> list[Tensor]:
    """Maps (B, C, ...) with some items in another order, the same in all maps."""
    if not config.reorder_p:
        return list(maps)
    dims = maps[0].ndim - 2
    orders = [
        int(torch.randint(2 ** (dims + 1), ())) if float(torch.rand(())) < config.reorder_p else 0
        for _ in maps[0]
    ]
    return [
        torch.stack([reorder(item, order, dims) for item, order in zip(values, orders, strict=True)])
        for values in maps
    ]


def _rotation(batch: int, n: int, largest_deg: float, like: Tensor) -> Tensor:
    """Random rotations (B, n, n), about each axis in turn."""
    result = torch.eye(n, device=like.device).expand(batch, n, n)
    for first, second in combinations(range(n), 2):
        angle = uniform((batch,), -largest_deg, largest_deg, like) * (math.pi / 180)
        turn = torch.eye(n, device=like.device).repeat(batch, 1, 1)
        turn[:, first, first] = turn[:, second, second] = angle.cos()
        turn[:, first, second], turn[:, second, first] = -angle.sin(), angle.sin()
        result = turn @ result
    return result
