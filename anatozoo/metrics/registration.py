"""What a displacement field does, and how far it is from where it should be.

A field is (B, n, ...) in pixels of its grid, tensor or array, as in `anatozoo.nn.warp`: where to look in the
moving image, one channel per axis in the order of the axes (rows, columns; slices, rows, columns). Points are
(x, y[, z]) pixels. Every function gives one number per pair, (B,) float64 on the CPU. Lengths are in pixels,
and with a spacing (x, y[, z]) of the grid in millimetres; no spacing is ever taken to be 1 mm.

A field that is not finite is refused: NaN is not below zero, and such a field would seem not to fold.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import GeometryError
from anatozoo.metrics.landmarks import landmark_error_mm, landmark_error_px
from anatozoo.metrics.surface import Spacing, axis_spacing, known_spacing
from anatozoo.nn import warp

LEAST_DETERMINANT = 1e-9


def folding_fraction(field: npt.ArrayLike | Tensor) -> Tensor:
    """Share of the pixels where the field folds: its Jacobian determinant is not positive; 0..1, (B,).

    Central differences, one-sided at the border; the same for every spacing.

    Raises:
        GeometryError: not the shape of a field, a number that is not finite, or a grid one pixel wide.
    """
    return warp.folding_fraction(_field(field)).cpu().double()


def log_jacobian_sd(field: npt.ArrayLike | Tensor, least: float = LEAST_DETERMINANT) -> Tensor:
    """Standard deviation over the pixels of the logarithm of the Jacobian determinant, (B,); 0 is rigid.

    Where the field folds there is no logarithm. A determinant below `least` counts as `least`, so that a fold
    makes the number worse, by how much depends on `least`: read it beside `folding_fraction`. Used in the
    Learn2Reg challenges, Hering et al., IEEE TMI 2023. Divided by the number of pixels, not one less.

    Args:
        field: (B, n, ...) pixels.
        least: above 0.

    Raises:
        GeometryError: see `folding_fraction`; or `least` is not positive.
    """
    if not 0 < least < float("inf"):
        raise GeometryError(f"least={least} must be a positive number.")
    determinant = warp.jacobian_determinant(_field(field))
    return determinant.double().clamp_min(least).log().flatten(1).std(1, correction=0).cpu()


def smoothness(field: npt.ArrayLike | Tensor, spacing_mm: Spacing = None) -> Tensor:
    """Mean squared gradient of the field, over pixels, components and axes, (B,); 0 is a pure shift.

    Central differences, one-sided at the border; without unit. With a spacing, of displacements in
    millimetres by millimetres, which is the same where the spacing is that of all axes.

    Raises:
        GeometryError: see `folding_fraction`; or the spacing is not positive.
    """
    vectors = _field(field)
    spacing = _spacing(spacing_mm, vectors)
    _require_area(vectors)
    axes = range(2, vectors.ndim)
    slopes = torch.stack(torch.gradient(vectors, dim=list(axes)), 1)  # (B, axis, component, ...)
    ratio = (spacing[None, :] / spacing[:, None]).to(slopes)
    slopes = slopes * ratio.view(1, *ratio.shape, *[1] * len(axes))
    return slopes.double().square().flatten(1).mean(1).cpu()


def moved_landmarks(field: npt.ArrayLike | Tensor, fixed: npt.ArrayLike | Tensor) -> Tensor:
    """Where the field takes landmarks of the fixed images in the moving ones, (B, N, n) float64 pixels.

    A position p goes to p + field(p), so that nothing has to be inverted. The field is interpolated linearly,
    and goes on beyond its border as it is there.

    Args:
        field: (B, n, ...) pixels.
        fixed: (B, N, n) landmarks (x, y[, z]) in pixels of the field's grid.

    Raises:
        GeometryError: shapes do not belong together, or a number is not finite.
    """
    # In single precision a coordinate of 1000 px is off by 0.00006.
    vectors, start = _field(field).cpu().double(), _numbers(fixed).cpu().double()
    dims = vectors.shape[1]
    if start.ndim != 3 or start.shape[0] != len(vectors) or start.shape[2] != dims or not start.shape[1]:
        raise GeometryError(
            f"landmarks {tuple(start.shape)} do not belong to {len(vectors)} fields in {dims}-D: give "
            f"({len(vectors)}, N, {dims}) with at least one landmark."
        )
    # grid_sample counts x first, and -1 … 1 between the first and the last pixel centre.
    last = torch.tensor(vectors.shape[2:][::-1], dtype=vectors.dtype) - 1
    grid = (2 * start / last.clamp_min(1) - 1).view(len(start), *[1] * (dims - 1), -1, dims)
    found = F.grid_sample(vectors, grid, padding_mode="border", align_corners=True)
    return start + found.flatten(2).movedim(1, 2).flip(-1)


def target_registration_error_px(
    field: npt.ArrayLike | Tensor, fixed: npt.ArrayLike | Tensor, moving: npt.ArrayLike | Tensor
) -> Tensor:
    """Mean distance of `moved_landmarks` from their partners in the moving images, in pixels, (B,).

    A field of zeros gives the error before registration. Percentiles and single distances: give the moved
    landmarks to `anatozoo.metrics.landmarks`.

    Args:
        field: (B, n, ...) pixels.
        fixed: (B, N, n) landmarks (x, y[, z]) of the fixed images, in pixels of the field's grid.
        moving: (B, N, n) the same landmarks of the moving images, in pixels of that grid.

    Raises:
        GeometryError: shapes do not belong together, or a number is not finite.
    """
    pairs = _landmark_pairs(field, fixed, moving)
    return torch.tensor([landmark_error_px(a, b) for a, b in pairs], dtype=torch.float64)


def target_registration_error_mm(
    field: npt.ArrayLike | Tensor,
    fixed: npt.ArrayLike | Tensor,
    moving: npt.ArrayLike | Tensor,
    spacing_mm: Spacing,
) -> Tensor:
    """`target_registration_error_px` in millimetres, (B,); one number or (x, y[, z]) for all pairs.

    Raises:
        GeometryError: see there; or the spacing is None or not positive.
    """
    pairs = _landmark_pairs(field, fixed, moving)
    return torch.tensor([landmark_error_mm(a, b, spacing_mm) for a, b in pairs], dtype=torch.float64)


def inverse_consistency_error_px(field: npt.ArrayLike | Tensor, inverse: npt.ArrayLike | Tensor) -> Tensor:
    """Mean distance by which the way there and back misses its start, in pixels, (B,).

    From each pixel by `inverse` and from there by `field`. Pixels that `inverse` takes out of the image are
    left out, since nobody knows how the field goes on there; NaN where none stays inside.

    Args:
        field: (B, n, ...) pixels.
        inverse: field of the other direction on the same grid.

    Raises:
        GeometryError: shapes do not belong together, or a number is not finite.
    """
    return _inverse_error(field, inverse, None)


def inverse_consistency_error_mm(
    field: npt.ArrayLike | Tensor, inverse: npt.ArrayLike | Tensor, spacing_mm: Spacing
) -> Tensor:
    """`inverse_consistency_error_px` in millimetres, (B,); one number or (x, y[, z]) for all pairs.

    Raises:
        GeometryError: see there; or the spacing is None or not positive.
    """
    known_spacing(spacing_mm, _field(field).shape[1])
    return _inverse_error(field, inverse, spacing_mm)


def _inverse_error(field: Any, inverse: Any, spacing_mm: Spacing) -> Tensor:
    there, back = _field(inverse).cpu().double(), _field(field).cpu().double()
    if there.shape != back.shape:
        raise GeometryError(
            f"fields of shapes {tuple(back.shape)} and {tuple(there.shape)} are not one another's inverse."
        )
    spacing = _spacing(spacing_mm, there).view(1, -1, *[1] * (there.ndim - 2))
    last = torch.tensor(there.shape[2:]).view(1, -1, *[1] * (there.ndim - 2)) - 1
    position = warp.identity_grid(there) + there
    inside = ((position >= 0) & (position <= last)).all(1).flatten(1)
    distance = torch.linalg.vector_norm(warp.compose(back, there) * spacing, dim=1).flatten(1)
    return (distance * inside).sum(1) / inside.sum(1)


def _landmark_pairs(field: Any, fixed: Any, moving: Any) -> list[tuple[Tensor, Tensor]]:
    moved, goal = moved_landmarks(field, fixed), _numbers(moving).cpu().double()
    if moved.shape != goal.shape:
        raise GeometryError(
            f"landmarks {tuple(moved.shape)} of the fixed and {tuple(goal.shape)} of the moving images: give "
            "those that both have, in one order."
        )
    return list(zip(moved, goal, strict=True))


def _numbers(values: Any) -> Tensor:
    tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    # The determinants of a fold are near 0: in half precision their signs are chance.
    tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    if not torch.isfinite(tensor).all():
        raise GeometryError("a displacement field or landmark is NaN or infinite; look where it came from.")
    return tensor


def _field(field: Any) -> Tensor:
    tensor = _numbers(field)
    if tensor.ndim not in (4, 5) or tensor.shape[1] != tensor.ndim - 2 or not tensor.numel():
        raise GeometryError(f"a field is (B, 2, H, W) or (B, 3, D, H, W), not {tuple(tensor.shape)}.")
    return tensor


def _require_area(field: Tensor) -> None:
    if min(field.shape[2:]) < 2:
        raise GeometryError(f"a field on a grid {tuple(field.shape[2:])} has no derivative along every axis.")


def _spacing(spacing_mm: Spacing, field: Tensor) -> Tensor:
    return torch.from_numpy(axis_spacing(spacing_mm, field.shape[1]).copy())
