"""Instance normalisation of maps in channels-last order, without a copy of them in another order.

torch's copies such maps to the other order and back, forward and backward, which took a quarter of a training
step of HybridGNet. The same kernels, asked image by image, keep the order.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def trains_in_place(x: Tensor, *norms: nn.Module) -> bool:
    """Whether x (B, C, H, W) is trained on a CPU in channels-last order, and all norms are torch's."""
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]  # torch's types leave it out
        and x.device.type == "cpu"
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.shape[2] * x.shape[3] > 1
        and all(type(norm) is nn.InstanceNorm2d and norm.weight.dtype == torch.float32 for norm in norms)
        and x.dtype in (torch.float32, torch.bfloat16)
    )


def image_norm(x: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
    """`norm` of maps x (B, C, H, W) for which `trains_in_place` holds."""
    found: Tensor = _ImageNorm.apply(x, norm.weight, norm.bias, norm.eps)
    return found


def scaled_plane(x: Tensor, conv: nn.Conv2d, norm: nn.InstanceNorm2d, dtype: torch.dtype) -> Tensor:
    """`norm` of `conv` with a kernel of one pixel and no bias, of images x (B, 1, H, W): a scale and a shift.

    Args:
        x: images.
        conv: what multiplies them.
        norm: what follows.
        dtype: of the result (B, C, H, W), which is in channels-last order.
    """
    variance, mean = torch.var_mean(x.float(), (2, 3), correction=0)
    factor = conv.weight.view(1, -1)
    scale = norm.weight * factor * torch.rsqrt(factor * factor * variance + norm.eps)
    shift = norm.bias - scale * mean
    pixels = x.to(dtype).view(len(x), -1, 1)
    rows = torch.baddbmm(shift[:, None].to(dtype), pixels, scale[:, None].to(dtype))
    return rows.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


class _ImageNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        found = torch.empty_like(x)
        mean, inverse = weight.new_empty(2, *x.shape[:2])
        for i in range(len(x)):
            torch.native_batch_norm(
                x[i : i + 1],
                weight,
                bias,
                None,
                None,
                True,
                0.0,
                eps,
                out=(found[i : i + 1], mean[i], inverse[i]),
            )
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return found

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        x, weight, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        asked = ctx.needs_input_grad[0]
        of_x = torch.empty_like(x) if asked else None
        of_weight, of_bias = torch.zeros(2, len(weight), dtype=weight.dtype)
        for i in range(len(x)):
            one = slice(i, i + 1)
            part, scale, shift = torch.ops.aten.native_batch_norm_backward(
                gradient[one],
                x[one],
                weight,
                None,
                None,
                mean[i],
                inverse[i],
                True,
                ctx.eps,
                [asked, True, True],
            )
            if of_x is not None:
                of_x[one] = part
            of_weight += scale
            of_bias += shift
        return of_x, of_weight, of_bias, None
