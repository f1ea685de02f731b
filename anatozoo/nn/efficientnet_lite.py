"""EfficientNet-Lite0 as a feature extractor under timm's names: importing timm takes twice as long as torch.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the Lite
variant of Google's TPU models: no squeeze-and-excitation, ReLU6, and TensorFlow's padding. Parameters and
results are those of ``timm.create_model("tf_efficientnet_lite0", features_only=True)``.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.depthwise import SameConv2d, is_recorded
from anatozoo.nn.fused import conv_norm

EPSILON = 1e-3
"""Of the batch normalisation, as in TensorFlow."""
STEM = 32
IN_FULL = 4
"""Stages that keep float32 where the later ones are computed in half precision."""


class Stage(NamedTuple):
    """Blocks of one width.

    Attributes:
        blocks: how many.
        kernel: side of the depthwise kernels.
        stride: of the first block.
        expansion: times that the block's width is that of its input.
        channels: of the output.
        tapped: whether the output is a feature map.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    tapped: bool = True


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80, tapped=False),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192, tapped=False),
    Stage(1, 3, 1, 6, 320),
)


def convolution(ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the side, or divides it by the stride."""
    settings: dict[str, Any] = {"stride": stride, "groups": groups, "bias": False}
    if stride > 1:
        return SameConv2d(ins, outs, kernel, **settings)
    return nn.Conv2d(ins, outs, kernel, padding=kernel // 2, **settings)


class Separable(nn.Module):
    """A depthwise convolution and a linear one of single pixels, the block of the first stage."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = convolution(ins, ins, kernel, stride, ins)
        self.bn1 = nn.BatchNorm2d(ins, EPSILON)
        self.conv_pw = convolution(ins, outs, 1)
        self.bn2 = nn.BatchNorm2d(outs, EPSILON)
        self.skips = stride == 1 and ins == outs

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = conv_norm(x, self.conv_dw, self.bn1, relu6=True)
        y = conv_norm(y, self.conv_pw, self.bn2, relu6=False)
        return x + y if self.skips else y


class Inverted(nn.Module):
    """Expansion, depthwise convolution and linear projection (Sandler et al., CVPR 2018)."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = ins * expansion
        self.conv_pw = convolution(ins, wide, 1)
        self.bn1 = nn.BatchNorm2d(wide, EPSILON)
        self.conv_dw = convolution(wide, wide, kernel, stride, wide)
        self.bn2 = nn.BatchNorm2d(wide, EPSILON)
        self.conv_pwl = convolution(wide, outs, 1)
        self.bn3 = nn.BatchNorm2d(outs, EPSILON)
        self.skips = stride == 1 and ins == outs

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = conv_norm(x, self.conv_pw, self.bn1, relu6=True)
        y = conv_norm(y, self.conv_dw, self.bn2, relu6=True)
        y = conv_norm(y, self.conv_pwl, self.bn3, relu6=False)
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """Feature maps (B, C, S / 2^l, …) for l of 1 to 5, of images (B, channels, S, S).

    Args:
        channels: of the image.
        deepest: stride of the last map, 2 to 32; the stages behind it are left out.

    Raises:
        ConfigError: there is no map of that stride.
    """

    def __init__(self, channels: int = 1, deepest: int = 32) -> None:
        super().__init__()
        strides = [2 ** (1 + sum(s.stride > 1 for s in STAGES[: i + 1])) for i in range(len(STAGES))]
        if deepest not in strides:
            raise ConfigError(f"EfficientNet-Lite0 has maps of the strides 2 to 32, not {deepest}.")
        self.stages = [stage for stage, stride in zip(STAGES, strides, strict=True) if stride <= deepest]
        self.conv_stem = convolution(channels, STEM, 3, 2)
        self.bn1 = nn.BatchNorm2d(STEM, EPSILON)
        self.blocks = nn.Sequential()
        ins = STEM
        for stage in self.stages:
            blocks = nn.Sequential()
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                shape = (ins, stage.channels, stage.kernel, stride)
                blocks.append(
                    Separable(*shape) if stage.expansion == 1 else Inverted(*shape, stage.expansion)
                )
                ins = stage.channels
            self.blocks.append(blocks)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # as its authors draw them; normalisation begins as the identity
                fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
                nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / fan_out))
        self.widths = [stage.channels for stage in self.stages if stage.tapped]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The five maps, the finest first.

        Under autocast to bfloat16 on a CPU, where nothing is recorded, stem and first stages stay in float32:
        their maps are the largest in number and the smallest in range, and rounded they cost whole pixels.
        """
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or is_recorded():
            return self._maps(x, None)
        with torch.autocast("cpu", enabled=False):
            return self._maps(x.float(), torch.get_autocast_dtype("cpu"))

    def _maps(self, x: Tensor, half: torch.dtype | None) -> list[Tensor]:
        x = conv_norm(x, self.conv_stem, self.bn1, relu6=True)
        maps = []
        for number, (stage, blocks) in enumerate(zip(self.stages, self.blocks, strict=True)):
            if half is not None and number == IN_FULL:
                x = x.to(half)
            x = blocks(x)
            if stage.tapped:
                maps.append(x)
        return maps
