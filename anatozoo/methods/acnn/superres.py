"""ACNN-SR: fine slices from coarse ones, in pure torch.

Oktay et al., IEEE TMI 37(2), 2018. The network adds to a linear interpolation what convolutions of the coarse
volume, enlarged across slices by a transposed convolution, know better.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.methods.acnn.blocks import ConvBlock


class SuperResolution(nn.Module):
    """Volumes (B, 1, D, H, W) to volumes (B, 1, D · factor, H, W).

    Args:
        factor: fine slices for each coarse one, at least 2.
        width: channels.
        depth: residual blocks at the coarse resolution.

    Raises:
        ConfigError: a number is not possible.
    """

    def __init__(self, factor: int, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        if factor < 2 or min(width, depth) < 1:
            raise ConfigError(f"factor={factor} must be at least 2, width={width} and depth={depth} 1.")
        three = (3, 3, 3)
        self.factor = factor
        self.start = ConvBlock(1, width, three)
        self.blocks = nn.ModuleList(
            nn.Sequential(ConvBlock(width, width, three), nn.Conv3d(width, width, 3, padding=1))
            for _ in range(depth)
        )
        self.spread = nn.ConvTranspose3d(width, width // 2 or 1, (factor, 1, 1), stride=(factor, 1, 1))
        self.blend = ConvBlock(width // 2 or 1, width // 2 or 1, three)
        self.head = nn.Conv3d(width // 2 or 1, 1, 3, padding=1)
        # A fresh network interpolates.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, coarse: Tensor) -> Tensor:
        """Fine volumes; intensities keep their unit."""
        x = self.start(coarse)
        for block in self.blocks:
            x = F.relu(x + block(x))
        correction = self.head(self.blend(self.spread(x))).float()
        return interpolate_slices(coarse, self.factor).float() + correction


def degrade_slices(fine: Tensor, factor: int) -> Tensor:
    """Thick slices, averages of `factor` thin ones: (B, 1, D, H, W) to (B, 1, D / factor, H, W).

    A thick slice shows the mean over its thickness, which is what makes its resolution low.

    Raises:
        ConfigError: D is no multiple of the factor.
    """
    if fine.shape[2] % factor:
        raise ConfigError(f"{fine.shape[2]} slices cannot be put together by {factor}.")
    return F.avg_pool3d(fine, (factor, 1, 1))


def interpolate_slices(coarse: Tensor, factor: int) -> Tensor:
    """Linear interpolation across slices, (B, 1, D, H, W) to (B, 1, D · factor, H, W)."""
    size = (coarse.shape[2] * factor, coarse.shape[3], coarse.shape[4])
    return F.interpolate(coarse, size=size, mode="trilinear", align_corners=False)
