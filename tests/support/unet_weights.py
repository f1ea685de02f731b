"""Weights of a U-Net as its authors store them: their names and shapes, random values."""

import torch
from torch import Tensor

_WIDTHS = (8, 16, 32, 64, 128)


def authors_unet(classes: int = 3) -> dict[str, Tensor]:
    """A state dict of the TMI 2022 release's U-Net with this many output channels."""
    draw = torch.Generator().manual_seed(0)
    blocks = {f"dconv_down{i}": pair for i, pair in enumerate(zip((1, *_WIDTHS), _WIDTHS, strict=False), 1)}
    blocks["bottleneck"] = (128, 128)
    below = (*_WIDTHS[1:], 128)
    blocks |= {f"dconv_up{i}": (w + b, w) for i, (w, b) in enumerate(zip(_WIDTHS, below, strict=True), 1)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (i, o) in blocks.items():
        if i != o:
            shapes |= {f"{name}.skip.0.weight": (o, i, 1, 1), f"{name}.skip.1.weight": (o,)}
            shapes[f"{name}.skip.1.bias"] = (o,)
        for part, width in (("0", i), ("3", o)):
            shapes |= {f"{name}.block.{part}.weight": (width,), f"{name}.block.{part}.bias": (width,)}
        for part, width in (("2", i), ("5", o)):
            shapes |= {f"{name}.block.{part}.weight": (o, width, 3, 3), f"{name}.block.{part}.bias": (o,)}
    shapes |= {"conv_last.weight": (classes, 8, 1, 1), "conv_last.bias": (classes,)}
    return {name: 0.1 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
