"""Convolution and batch normalisation in 2-D and 3-D."""

from torch import Tensor, nn

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class ConvNorm(nn.Module):
    """Convolution with a kernel of 3 pixels and batch normalisation, (B, C_in, ...) to (B, C_out, ...).

    Args:
        dims: 2 or 3.
        in_channels: input channels.
        out_channels: output channels.
        normalize: whether batch normalisation follows.
        stride: 1 keeps the size, 2 halves it.
    """

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, *, normalize: bool, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = CONV[dims](in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm = NORM[dims](out_channels) if normalize else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution and normalisation."""
        return self.norm(self.conv(x))
