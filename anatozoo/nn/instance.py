"""Instance optimisation: refine a field for one pair of images, after a network or without one."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.nn.warp import compose, integrate, warp

SMOOTHING = 3
"""Passes of averaging the correction over 3 pixels along each axis, about a Gaussian of 1.4 pixels."""


def optimise_field(
    moving: Tensor,
    fixed: Tensor,
    field: Tensor,
    inverse: Tensor | None,
    objective: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    velocity_steps: int = 7,
) -> tuple[Tensor, Tensor | None]:
    """Refine a field for its pair of images by Adam.

    The correction is composed onto the field. If the field has an inverse, the correction is a velocity, so
    that the result has one too. The correction is smoothed: Adam moves every pixel by about the same length,
    so that without smoothing neighbours fold, and the inverse no longer fits.

    Args:
        moving: (B, 1, ...) in [0, 1].
        fixed: (B, 1, ...) in [0, 1].
        field: (B, n, ...) pixels.
        inverse: its inverse, or None.
        objective: the loss of a warped image and a field.
        steps: number of steps.
        lr: learning rate, about the change per step in pixels.
        velocity_steps: squaring steps of the correction's integration.

    Returns:
        The best field of all steps and its inverse; the given ones if no step was better.
    """
    moving, fixed, field = moving.detach().clone(), fixed.detach().clone(), field.detach().clone()
    with torch.enable_grad():
        correction = torch.zeros_like(field, requires_grad=True)
        optimizer = torch.optim.Adam([correction], lr=lr)
        best, best_loss = torch.zeros_like(field), torch.inf
        for _ in range(steps + 1):
            smooth = _smoothed(correction)
            change = smooth if inverse is None else integrate(smooth, velocity_steps)
            whole = compose(field, change)
            loss = objective(warp(moving, whole), whole)
            if float(loss.detach()) < best_loss:
                best, best_loss = smooth.detach(), float(loss.detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if inverse is None:
        return compose(field, best), None
    back = integrate(-best, velocity_steps)
    return compose(field, integrate(best, velocity_steps)), compose(back, inverse)


def _smoothed(field: Tensor) -> Tensor:
    pool = F.avg_pool2d if field.ndim == 4 else F.avg_pool3d
    for _ in range(SMOOTHING):
        field = pool(field, 3, 1, 1, count_include_pad=False)
    return field
