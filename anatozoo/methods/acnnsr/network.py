"""Networks that restore fine slices from coarse ones, in pure torch.

Both add a correction, computed by convolutions of the coarse volume, to linear interpolation. They divide
each coarse slice into `factor` fine ones: ``(B, 1, D, H, W)`` to ``(B, 1, D · factor, H, W)``.
"""

from abc import abstractmethod
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.slices import interpolate_slices
from anatozoo.nn.volume_blocks import ConvBlock

THREE = (3, 3, 3)


class SuperResolution(nn.Module):
    """Base class of the networks; untrained, they interpolate linearly.

    Subclasses set `coarse`, the layers at the input's resolution, and `head`, which computes the correction,
    and implement `correction`.

    Args:
        factor: fine slices for each coarse one, at least 2.
        width: channels.
        depth: residual blocks at the coarse resolution.

    Raises:
        ConfigError: a number is not possible.
    """

    coarse: nn.Module
    head: nn.Conv3d

    def __init__(self, factor: int, width: int, depth: int) -> None:
        super().__init__()
        if factor < 2 or width < 2 or depth < 1:
            raise ConfigError(f"factor={factor} and width={width} must be at least 2, depth={depth} 1.")
        self.factor = factor

    def start_as_interpolation(self) -> None:
        """Set the correction to zero."""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # it has one

    @abstractmethod
    def correction(self, coarse: Tensor) -> Tensor:
        """The correction (B, 1, D · factor, H, W), which is added to the interpolation."""

    def forward(self, coarse: Tensor) -> Tensor:
        """Fine volumes, float32; intensities keep their unit."""
        return interpolate_slices(coarse, self.factor).float() + self.correction(coarse).float()


class TransposedSR(SuperResolution):
    """ACNN-SR as in the paper: a transposed convolution enlarges the maps, and convolutions follow.

    Oktay et al., MICCAI 2016 and IEEE TMI 37(2), 2018; the layers are anatozoo's own, because the authors
    published no code.

    The arguments are those of `SuperResolution`; the fine resolution has half of the channels.
    """

    def __init__(self, factor: int, width: int = 32, depth: int = 4) -> None:
        super().__init__(factor, width, depth)
        fine = width // 2
        self.coarse = nn.Sequential(
            ConvBlock(1, width, THREE), *(_NormalisedBlock(width) for _ in range(depth))
        )
        self.spread = nn.ConvTranspose3d(width, fine, (factor, 1, 1), stride=(factor, 1, 1))
        self.blend = ConvBlock(fine, fine, THREE)
        self.head = nn.Conv3d(fine, 1, 3, padding=1)
        self.start_as_interpolation()

    def correction(self, coarse: Tensor) -> Tensor:
        """The correction (B, 1, D · factor, H, W)."""
        return self.head(self.blend(self.spread(self.coarse(coarse))))


class SubpixelSR(SuperResolution):
    """Residual blocks without normalisation, and fine slices from groups of channels.

    Shi et al., CVPR 2016, and Lim et al., CVPR Workshops 2017 (EDSR). Nearly all computation is at the coarse
    resolution, and no layer changes the contrast.

    The arguments are those of `SuperResolution`; the fine resolution has half of the channels.
    """

    def __init__(self, factor: int, width: int = 16, depth: int = 4) -> None:
        super().__init__(factor, width, depth)
        fine = width // 2
        self.coarse = nn.Sequential(
            nn.Conv3d(1, width, 3, padding=1), *(_PlainBlock(width) for _ in range(depth))
        )
        self.spread = nn.Conv3d(width, fine * factor, 3, padding=1)
        self.head = nn.Conv3d(fine, 1, 3, padding=1)
        self.start_as_interpolation()

    def correction(self, coarse: Tensor) -> Tensor:
        """The correction (B, 1, D · factor, H, W)."""
        maps = self.spread(self.coarse(coarse))
        return self.head(F.relu(slices_from_channels(maps, self.factor)))


class _NormalisedBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(ConvBlock(width, width, THREE), nn.Conv3d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


class _PlainBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def build_network(
    name: Literal["subpixel", "transposed"],
    factor: int,
    *,
    width: int | None = None,
    depth: int | None = None,
) -> SuperResolution:
    """A network by name.

    Args:
        name: ``"subpixel"``, or ``"transposed"`` as in the paper.
        factor: fine slices for each coarse one, at least 2.
        width: channels; None takes the default of the network.
        depth: residual blocks; None takes the default of the network.

    Raises:
        ConfigError: the name is unknown or a number is not possible.
    """
    kinds: dict[str, type[SuperResolution]] = {"subpixel": SubpixelSR, "transposed": TransposedSR}
    if name not in kinds:
        raise ConfigError(f"architecture={name!r} is unknown; choose one of {', '.join(kinds)}.")
    given = {"width": width, "depth": depth}
    return kinds[name](factor, **{key: value for key, value in given.items() if value is not None})


def slices_from_channels(x: Tensor, factor: int) -> Tensor:
    """Every `factor` channels become as many neighbouring slices.

    Args:
        x: (B, C · factor, D, H, W).
        factor: neighbouring slices made of as many channels.

    Returns:
        (B, C, D · factor, H, W).
    """
    return x.unflatten(1, (-1, factor)).movedim(2, 3).flatten(2, 3)
