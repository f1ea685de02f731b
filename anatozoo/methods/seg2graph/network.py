"""HybridGNet behind an encoder of masks, which it sees in a place and size of their own."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.nn.graphs import organ_slices
from anatozoo.nn.hybridgnet import HybridGNet, HybridGNetOutput
from anatozoo.nn.raster import SHOWN, polygon_inside

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

    The first map, of stride 2, is not handed on: what it could show is in the planes as well.

    Args:
        planes: channels of the input, one for each organ.
        widths: channels at strides 2, 4, 8, 16 and 32.

    Attributes:
        channels: of the maps by level; level l has stride 2^(l-1), from 3 to 6.
    """

    def __init__(self, planes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.stem = ConvReLU(planes, widths[0], 2)
        self.down = nn.ModuleList(ConvReLU(i, o, 2) for i, o in pairwise(widths))
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


LARGEST_ZOOM = 4.0
"""How many times larger or smaller than the mean shape organs may be."""
PRIOR_SIDE = 64


class Seg2Graph(nn.Module):
    """Landmarks of masks.

    What a mask shows is moved and scaled, along each axis by itself, until its mean and spread are those of
    the same organs of the mean shape. So the graph network begins near the truth whatever part of the picture
    the organs take up. Its answer is moved back.

    Args:
        organs: landmarks per organ, in output order.
        side: of the square input.
        widths: of the `MaskEncoder`.
        **settings: of `HybridGNet`.
    """

    prior: Tensor

    def __init__(
        self, organs: Mapping[str, int], side: int, widths: Sequence[int] = WIDTHS, **settings: Any
    ) -> None:
        super().__init__()
        self.hybrid = HybridGNet(
            organs, side, encoder=MaskEncoder(len(organs), widths), template=True, own_planes=True, **settings
        )
        self.register_buffer("prior", torch.zeros(len(organs), PRIOR_SIDE, PRIOR_SIDE))

    def take_mean(self, mean: Tensor) -> None:
        """Take spacing, template, and place and size from a mean shape (N, 2).

        A template that has been learnt stays, and with it the place and size in which it was learnt.
        """
        self.hybrid.take_mean(mean)
        if not self.prior.any():
            parts = organ_slices(self.hybrid.organs).values()
            drawn = [polygon_inside(mean[None, part], PRIOR_SIDE, PRIOR_SIDE)[0] for part in parts]
            self.prior.copy_(torch.stack(drawn))

    def forward(self, planes: Tensor) -> HybridGNetOutput:
        """Landmarks of masks (B, organs, S, S) in [0, 1]; `dense` is None."""
        with torch.no_grad():
            shift, zoom = self._place(planes)
            side = planes.shape[-1]
            axis = torch.arange(side, device=planes.device, dtype=planes.dtype) / side
            # A landmark u stands at the pixel u · S, counted from the first one's centre.
            x, y = (2 * (shift[:, i, None] + zoom[:, i, None] * axis) + 1 / side - 1 for i in (0, 1))
            grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
            placed = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
        found = self.hybrid(placed, zoom)
        back = [shift[:, None] + zoom[:, None] * each for each in (found.landmarks, *found.positions)]
        return HybridGNetOutput(back[0], tuple(back[1:]), found.mu, found.logvar, None)

    def _place(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and zoom (B, 2) from places in the mean shape's frame to places in the mask's, x and y."""
        shown = planes.flatten(2).amax(2) > SHOWN
        means, spreads = _moments((planes * shown[:, :, None, None]).amax(1), 0.0)
        mass = (self.prior * shown[:, :, None, None]).amax(1)
        prior_means, prior_spreads = _moments(mass, 0.5 / PRIOR_SIDE - 0.5 / planes.shape[-1])
        zoom = (spreads / prior_spreads.clamp_min(1e-4)).clamp(1 / LARGEST_ZOOM, LARGEST_ZOOM)
        # An empty mask, and a network that has not seen a mean shape yet, leave everything in its place.
        known = shown.any(1, keepdim=True) & (prior_spreads > 1e-4)
        return torch.where(known, means - zoom * prior_means, 0.0), torch.where(known, zoom, 1.0)


def _moments(mass: Tensor, first: float) -> tuple[Tensor, Tensor]:
    """Mean and spread along x and y, (B, 2) each, of masses (B, H, W) on pixels from `first` on."""
    total = mass.sum((1, 2)).clamp_min(1e-6)
    means, spreads = [], []
    for dim in (1, 2):
        share = mass.sum(dim) / total[:, None]
        place = torch.arange(share.shape[1], device=mass.device, dtype=mass.dtype) / share.shape[1] + first
        mean = (share * place).sum(1)
        means.append(mean)
        spreads.append((share * (place - mean[:, None]).square()).sum(1).clamp_min(0).sqrt())
    return torch.stack(means, 1), torch.stack(spreads, 1)
