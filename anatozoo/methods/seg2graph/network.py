"""The encoder of label maps that stands in front of HybridGNet's graph decoder."""

from collections.abc import Sequence

from torch import Tensor, nn

WIDTHS = (16, 32, 48, 64, 96)


class ConvReLU(nn.Sequential):
    """3 x 3 convolution and ReLU, without normalisation: planes have one scale, and training is faster so."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        super().__init__(conv, nn.ReLU(inplace=True))


class MaskEncoder(nn.Module):
    """Strided and residual convolutions over one plane for each organ.

    The first map has stride 2 and is not handed on: masks are so simple that what it shows is also in the planes.

    Args:
        planes: channels of the input, one for each organ.
        widths: channels at strides 2, 4, 8, 16 and 32.

    Attributes:
        channels: of the maps by level; level l has stride 2^(l-1), from 3 to 6.
    """

    def __init__(self, planes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.stem = ConvReLU(planes, widths[0], 2)
        self.down = nn.ModuleList(ConvReLU(i, o, 2) for i, o in zip(widths[:-1], widths[1:], strict=True))
        self.blocks = nn.ModuleList(nn.Sequential(ConvReLU(o, o), ConvReLU(o, o)) for o in widths[1:])
        self.channels = dict(enumerate(widths[1:], start=3))

    def forward(self, planes: Tensor) -> dict[int, Tensor]:
        """Map (B, planes, S, S) in [0, 1] to {level: (B, C, S/2^(l-1), ...)}."""
        x = self.stem(2 * planes - 1)
        maps = {}
        for level, down, block in zip(self.channels, self.down, self.blocks, strict=True):
            x = down(x)
            x = x + 0.5 * block(x)
            maps[level] = x
        return maps
