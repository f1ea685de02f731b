"""Instance optimisation: a field made better for one pair of images, after the network or without it."""

from collections.abc import Callable

import torch
from torch import Tensor

from anatozoo.nn.warp import compose, integrate, warp


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
    """Correct a field for its own pair by Adam.

    The correction is composed onto the field. Where the field has an inverse, the correction is a velocity,
    so that the result has one too.

    Args:
        moving: (B, 1, ...) in [0, 1].
        fixed: the same.
        field: (B, n, ...) pixels.
        inverse: its inverse, or None.
        objective: the loss of a warped image and a field.
        steps: number of steps.
        lr: learning rate, in pixels: about what a step can change.
        velocity_steps: doublings of the correction's integration.

    Returns:
        The best field of all steps and its inverse; the given ones if no step was better.
    """
    moving, fixed, field = moving.detach().clone(), fixed.detach().clone(), field.detach().clone()
    with torch.enable_grad():
        correction = torch.zeros_like(field, requires_grad=True)
        optimizer = torch.optim.Adam([correction], lr=lr)
        best, best_loss = torch.zeros_like(field), torch.inf
        for _ in range(steps + 1):
            change = correction if inverse is None else integrate(correction, velocity_steps)
            whole = compose(field, change)
            loss = objective(warp(moving, whole), whole)
            if float(loss.detach()) < best_loss:
                best, best_loss = correction.detach().clone(), float(loss.detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if inverse is None:
        return compose(field, best), None
    back = integrate(-best, velocity_steps)
    return compose(field, integrate(best, velocity_steps)), compose(back, inverse)
