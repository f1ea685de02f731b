"""Displacement fields: warping, composition, integration of velocities, Jacobian determinants.

A field is ``(B, n, ...)`` in pixels of its own grid, one channel per axis in the order of the axes: rows then
columns in 2-D; slices, rows, columns in 3-D. It points into the image: ``warped(p) = image(p + field(p))``.
Positions are pixel indices, so the first and last pixel centres are the corners of the grid
(``align_corners=True``).

MONAI's ``Warp`` computes the same, but warns on construction and stores the grid of the last batch, which
export does not support; its ``DVF2DDF`` takes the field as zero beyond the border by default, so that the
integrated field tears there.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError, GeometryError

Mode = Literal["linear", "nearest"]
Padding = Literal["zeros", "border"]

_MODES = {"linear": "bilinear", "nearest": "nearest"}  # grid_sample's names, in 3-D too


def identity_grid(field: Tensor) -> Tensor:
    """Index of every pixel of a field's grid, (1, n, ...), of the field's type and device."""
    axes = [torch.arange(size, dtype=field.dtype, device=field.device) for size in field.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def warp(image: Tensor, field: Tensor, mode: Mode = "linear", padding: Padding = "zeros") -> Tensor:
    """Warp an image by a field.

    ``"linear"`` is differentiable with respect to image and field. ``"nearest"`` has no gradient with respect
    to the field: a loss on labels warped in this mode trains nothing.

    Args:
        image: (B, C, ...).
        field: (B, n, ...) pixels.
        mode: interpolation.
        padding: values beyond the border: ``"zeros"``, reached over one pixel, or the ``"border"`` itself.

    Returns:
        (B, C, ...), at least float32 even under autocast: bfloat16 loses half a pixel of 256.

    Raises:
        GeometryError: the shapes do not match.
        ConfigError: mode or padding is unknown.
    """
    dims = field.shape[1]
    if dims not in (2, 3) or field.ndim != dims + 2 or image.ndim != dims + 2:
        raise GeometryError(
            f"an image {tuple(image.shape)} and a field {tuple(field.shape)} do not belong together: "
            "(B, C, H, W) goes with (B, 2, H, W), and (B, C, D, H, W) with (B, 3, D, H, W)."
        )
    if image.shape[2:] != field.shape[2:]:
        raise GeometryError(
            f"image and field lie on different grids: {tuple(image.shape[2:])} and {tuple(field.shape[2:])}."
        )
    if mode not in _MODES or padding not in ("zeros", "border"):
        raise ConfigError(f"mode {mode!r} with padding {padding!r}: use linear or nearest, zeros or border.")
    kind = torch.promote_types(torch.promote_types(image.dtype, field.dtype), torch.float32)
    field = field.to(kind)
    positions = identity_grid(field) + field
    # grid_sample wants the last axis first, and -1 … 1 between the first and the last pixel centre.
    scaled = [2 * positions[:, i] / max(field.shape[2 + i] - 1, 1) - 1 for i in reversed(range(dims))]
    grid = torch.stack(scaled, -1)
    return F.grid_sample(image.to(kind), grid, mode=_MODES[mode], padding_mode=padding, align_corners=True)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The field that warps like `first` followed by `second`, (B, n, ...) each.

    ``warp(image, compose(first, second))`` equals ``warp(warp(image, first), second)`` except for the second
    interpolation. Beyond the border, `first` keeps its value at the border.
    """
    return second + warp(first, second, padding="border")


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """Displacement after unit time in a stationary velocity field, by scaling and squaring.

    ``integrate(-velocity)`` is the inverse. Arsigny et al., MICCAI 2006.

    Args:
        velocity: (B, n, ...) pixels per unit of time.
        steps: squaring steps; the first step is ``velocity / 2**steps`` and should be well below a pixel.

    Raises:
        ConfigError: `steps` is negative.
    """
    if steps < 0:
        raise ConfigError(f"steps={steps} must be at least 0.")
    field = velocity / 2**steps
    for _ in range(steps):
        field = compose(field, field)
    return field


def resize_field(field: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A field on a grid of another size over the same area, (B, n, ...) to (B, n, ...).

    Displacements are scaled with the grid. Corners are pixel edges here, which a change of resolution keeps
    in place.
    """
    size = field.shape[2:]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    resized = F.interpolate(field, size=shape, mode=mode, align_corners=False)
    factors = torch.tensor(
        [new / old for new, old in zip(shape, size, strict=True)], dtype=field.dtype, device=field.device
    )
    return resized * factors.view(1, -1, *[1] * len(size))


def jacobian_determinant(field: Tensor) -> Tensor:
    """Jacobian determinant of ``p + field(p)`` at each pixel, (B, ...).

    1 keeps the area or volume, above 1 the moving image is compressed there, 0 or less is a fold. Central
    differences, one-sided at the border.

    Raises:
        GeometryError: the grid is one pixel wide along an axis.
    """
    dims = field.shape[1]
    if min(field.shape[2:]) < 2:
        raise GeometryError(f"a field on a grid {tuple(field.shape[2:])} has no derivative along every axis.")
    rows = torch.gradient(
        field.float() if field.dtype == torch.bfloat16 else field, dim=list(range(2, dims + 2))
    )
    jacobian = torch.stack(rows, -1).movedim(1, -2)
    return torch.linalg.det(jacobian + torch.eye(dims, dtype=jacobian.dtype, device=jacobian.device))


def folding_fraction(field: Tensor) -> Tensor:
    """Share of the pixels where the field folds, that is, its Jacobian determinant is not positive, (B,)."""
    return (jacobian_determinant(field) <= 0).flatten(1).to(torch.float32).mean(1)
