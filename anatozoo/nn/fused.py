"""Convolution, batch normalisation and ReLU6 as one step where nothing is trained: half the time on a CPU.

Normalisation with running statistics is a scale and a shift for each channel, which go into the weights of
the convolution before it (as in Jacob et al., CVPR 2018, section 3.2). oneDNN then applies ReLU6 while it
writes the result. Weights are scaled anew at each call: that takes 2 ms, and a change is never overlooked.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.nn.depthwise import is_recorded, pad_same

_CEILING = 6.0


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, *, relu6: bool) -> Tensor:
    """`norm` of `conv` of x (B, C, H, W), with ReLU6 after it or without.

    Args:
        x: images.
        conv: without a bias; `anatozoo.nn.depthwise.SameConv2d` pads as it says.
        norm: what follows.
        relu6: whether ReLU6 follows, too.
    """
    if _is_plain(x, norm):
        y = norm(conv(x))
        return F.relu6(y) if relu6 else y
    weight, bias = _scaled(conv, norm)
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    x, padding = pad_same(x, conv)
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and _fuses(x.dtype):
        return _at_once(x, weight, bias, relu6, padding, conv.stride, conv.dilation, conv.groups)
    y = F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)
    return F.hardtanh_(y, 0.0, _CEILING) if relu6 else y


def _is_plain(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether something is trained or recorded, or something else chooses the precision of each step."""
    half = norm.weight.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type)
    return half or norm.training or is_recorded()


def _scaled(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what both layers do."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _at_once(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    relu6: bool,
    padding: tuple[int, ...] = (0, 0),
    stride: tuple[int, ...] = (1, 1),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Tensor:
    after = ("hardtanh", [0.0, _CEILING]) if relu6 else ("none", [])
    place = (padding, stride, dilation, groups)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *place, *after, "")
    return y


@cache
def _fuses(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's convolution with ReLU6, which is not public, and it does its job here.

    Processors without AVX-512, for instance, have none in bfloat16. Nothing random is made here: a fit must
    not depend on whether this was asked before.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.tensor([[4.0, 5.0], [-1.0, 0.5]], dtype=dtype)[:, :, None, None]
    try:
        y = _at_once(torch.ones(1, 2, 2, 2, dtype=dtype), weight, torch.ones(2, dtype=dtype), True)
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = torch.tensor([_CEILING, 0.5], dtype=dtype)[None, :, None, None].expand(1, 2, 2, 2)
    return torch.equal(y, expected)
