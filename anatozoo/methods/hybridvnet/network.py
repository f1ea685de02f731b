"""A convolutional encoder of stacks and a graph decoder of meshes, with look-ups between them.

Gaggion et al., "Multi-view hybrid graph convolutional network for volume-to-mesh reconstruction in
cardiovascular MRI", arXiv:2311.13706. Meshes are those of `anatozoo.meshes.heart`, whose sheets
are halved ring by ring or angle by angle in place of quadric decimation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.meshes.heart import SHEETS, heart_pyramid
from anatozoo.meshes.sheets import SheetSize
from anatozoo.nn import volume_blocks
from anatozoo.nn.cheb import graph_convolution
from anatozoo.nn.code import code_deviation
from anatozoo.nn.graph_decoder import GraphConvBlock
from anatozoo.nn.sparse import SparseMatrix, sparse_tensor
from anatozoo.nn.volume_blocks import ConvBlock, channels_last, double, pool, resize_to

UNIT = 0.05
"""Positions are predicted in this fraction of the frame, and errors measured in it."""
GUIDE = 2
"""Level of the encoder at which the organs are found."""
FIRST_LOGVAR = -4.0
"""Log-variance of the code with which a fit begins."""


def sample_volume(features: Tensor, points: Tensor) -> Tensor:
    """Trilinear look-up of maps at points, zeros outside; no gradient flows to the points.

    Args:
        features: (B, C, D, H, W).
        points: (B, N, 3) x, y, z in [0, 1] of the frame's width, height and depth.

    Returns:
        (B, N, C).
    """
    grid = (2 * points.detach() - 1)[:, :, None, None].to(features.dtype)
    found = F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found[..., 0, 0].transpose(1, 2)


def moments(share: Tensor) -> tuple[Tensor, Tensor]:
    """Where organs lie and how far they reach, of soft label maps.

    Args:
        share: (B, organs, D, H, W) of each voxel, not negative.

    Returns:
        Centre and standard deviation (B, organs, 3), x, y, z in [0, 1] of the frame.
    """
    weight = share + 1e-4 / share[0, 0].numel()  # where nothing is found, the middle of the frame
    weight = weight / weight.sum((2, 3, 4), keepdim=True)
    centres, reaches = [], []
    for axis in (4, 3, 2):
        place = (torch.arange(share.shape[axis], device=share.device) + 0.5) / share.shape[axis]
        line = weight.sum([each for each in (2, 3, 4) if each != axis])
        centre = line @ place
        centres.append(centre)
        reaches.append((line * (place - centre[..., None]).square()).sum(-1).clamp_min(1e-8).sqrt())
    return torch.stack(centres, -1), torch.stack(reaches, -1)


class PlaneEncoder(nn.Module):
    """The encoder of one long-axis view: four halvings, (B, 1, S, S) to two times `latents` numbers."""

    def __init__(self, side: int, latents: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        pairs = zip([1, *widths], widths, strict=False)
        self.blocks = nn.Sequential(*(ConvBlock(*pair, (3, 3), (2, 2)) for pair in pairs))
        self.head = nn.Linear(widths[-1] * (-(-side // 16)) ** 2, 2 * latents)

    def forward(self, image: Tensor) -> Tensor:
        """Mean and log-variance (B, 2 · latents)."""
        found: Tensor = self.head(self.blocks(image).flatten(1))
        return found


class HybridVNet(nn.Module):
    """From a stack, and long-axis views where there are any, to the vertices of a heart.

    A soft label map of the encoder's third level says where the organs lie. The mean of the training's meshes
    is put there; each level of the decoder moves the vertices from where the level before has put them, and
    looks the encoder's maps up there.

    Args:
        shape: of the frame, (D, H, W).
        size: of each of the three sheets.
        latents: length of the code of the stack.
        widths: of the encoder's levels, finest first; each level but the first is halved.
        graph_widths: of the decoder's levels, finest first; between two lies a step of the pyramid.
        order: Chebyshev terms K.
        skips: for each level of the decoder, finest first, the encoder's level that is looked up there; fewer
            leave the coarsest ones without.
        views: how many long-axis views there may be, each with a code of `view_latents` numbers.
        view_side: of these square images, in pixels.
        view_latents: see `views`.
        flat: how many levels of the encoder, finest first, do not convolve across slices.
        graph_conv: see `anatozoo.nn.cheb.graph_convolution`.

    Attributes:
        mean: (N, 3) mean of the training's vertices, x, y, z in [0, 1] of the frame.

    Raises:
        ConfigError: settings that are not possible.
    """

    mean: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        size: SheetSize,
        *,
        latents: int = 32,
        widths: Sequence[int] = (8, 16, 32, 64, 64, 64),
        graph_widths: Sequence[int] = (16, 32, 32, 64, 64),
        order: int = 6,
        skips: Sequence[int] = (0, 1, 2, 3, 4),
        views: int = 0,
        view_side: int = 224,
        view_latents: int = 8,
        flat: int = 2,
        graph_conv: str = "sparse",
    ) -> None:
        super().__init__()
        if min(latents, view_latents, *widths, *graph_widths) < 1 or views < 0 or view_side < 16:
            raise ConfigError(
                f"latents={latents}, view_latents={view_latents}, widths={list(widths)} and graph_widths="
                f"{list(graph_widths)} must be at least 1, views={views} at least 0, view_side={view_side} "
                "at least 16."
            )
        if len(widths) <= GUIDE:
            raise ConfigError(f"widths={list(widths)} must be at least {GUIDE + 1} levels.")
        if len(skips) > len(graph_widths) or not all(0 <= level < len(widths) for level in skips):
            raise ConfigError(
                f"skips={list(skips)} must be levels of the encoder, 0 to {len(widths) - 1}, and no more "
                f"than the {len(graph_widths)} levels of the decoder."
            )
        strides, kernels = volume_blocks.pyramid(shape, len(widths))
        self.strides, self.skips = strides[1:], tuple(skips)
        kernels = [(1, *each[1:]) if level < flat else each for level, each in enumerate(kernels)]
        layers = [*zip([1, *widths], widths, kernels, strict=False)]
        # One convolution at full resolution, where most of the time is spent.
        self.encoder = channels_last(
            nn.ModuleList([ConvBlock(*layers[0]), *(double(*each) for each in layers[1:])])
        )
        deepest = np.asarray(shape) // np.prod(strides, axis=0)
        self.head = nn.Linear(widths[-1] * int(deepest.prod()), 2 * latents)
        with torch.no_grad():  # the noise of the code must not drown it at first
            self.head.bias[latents:] = FIRST_LOGVAR
        self.views = nn.ModuleList(PlaneEncoder(view_side, view_latents, widths[0]) for _ in range(views))
        self.view_side, self.latents = view_side, latents + views * view_latents

        levels = heart_pyramid(size, len(graph_widths) - 1)
        self.up = nn.ModuleList(SparseMatrix(sparse_tensor(step.up)) for step in levels.steps)
        self.down = nn.ModuleList(SparseMatrix(sparse_tensor(step.down)) for step in levels.steps)
        graphs = [sparse_tensor(each) for each in levels.graphs]
        deep = range(GUIDE, len(widths))
        self.guides = nn.ModuleList(nn.Conv3d(widths[level], 1 + len(SHEETS), 1) for level in deep)
        seen = [width + (level == GUIDE) * (1 + len(SHEETS)) for level, width in enumerate(widths)]
        codes = self.latents + 6 * len(SHEETS)
        self.laplacian = SparseMatrix(_laplacian(graphs[0]))
        self.coarsest = (levels.counts[-1], graph_widths[-1])
        self.start = nn.Linear(codes, self.coarsest[0] * self.coarsest[1])
        nn.init.normal_(self.start.weight, 0.0, 0.1)
        # How large the heart is, and how it is turned, is linear in the code.
        self.place = nn.Linear(codes, 3 * self.coarsest[0])
        self.blocks, self.positions = nn.ModuleList(), nn.ModuleList()
        before = graph_widths[-1]
        for level in reversed(range(len(graph_widths))):
            width = graph_widths[level]
            block = graph_convolution(graph_conv, before, width, graphs[level], order)
            self.blocks.append(GraphConvBlock(block))
            self.positions.append(graph_convolution(graph_conv, width, 3, graphs[level], 1, bias=False))
            before = width + 3 + (seen[skips[level]] if level < len(skips) else 0)
        width = graph_widths[0]
        self.last = GraphConvBlock(graph_convolution(graph_conv, before, width, graphs[0], order))
        self.output = graph_convolution(graph_conv, width, 3, graphs[0], order, bias=False)
        for part in (self.place, self.positions, self.output):
            for parameter in part.parameters():
                nn.init.normal_(parameter, 0.0, 0.01)  # a fit begins near the mean mesh
        self.register_buffer("mean", torch.full((len(SHEETS) * size.vertices, 3), 0.5))

    @torch.no_grad()
    def take_mean(self, vertices: Tensor) -> None:
        """Store the mean of the training's vertices (B, N, 3)."""
        self.mean.copy_(vertices.mean(0))

    def coarser(self, vertices: Tensor) -> list[Tensor]:
        """Vertices (B, N, 3) at each level of the decoder, finest first."""
        found = [vertices]
        for down in self.down:
            found.append(down(found[-1].transpose(0, 1)).transpose(0, 1))
        return found

    def roughness(self, vertices: Tensor) -> Tensor:
        """(B, N, 3) from each vertex to the mean of its neighbours."""
        found: Tensor = self.laplacian(vertices.transpose(0, 1))
        return found.transpose(0, 1)

    def encode(self, image: Tensor, views: Tensor | None = None) -> tuple[list[Tensor], Tensor, Tensor]:
        """Maps of each level, finest first, and mean and log-variance (B, latents) of the code.

        Args:
            image: (B, 1, D, H, W) in [0, 1].
            views: (B, views, S, S) in [0, 1], zeros where one is missing; None where all are.
        """
        maps, x = [], image
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else pool(x, self.strides[level - 1]))
            maps.append(x)
        codes = [self.head(x.flatten(1))]
        if len(self.views):
            if views is None:
                views = image.new_zeros(len(image), len(self.views), self.view_side, self.view_side)
            codes += [encoder(views[:, [number]]) for number, encoder in enumerate(self.views)]
        mu, logvar = zip(*(code.chunk(2, 1) for code in codes), strict=True)
        return maps, torch.cat(mu, 1), torch.cat(logvar, 1)

    def find(self, maps: list[Tensor]) -> Tensor:
        """Logits (B, 1 + organs, ...) of the labels at the resolution of the third level."""
        shape = maps[GUIDE].shape[2:]
        parts = [guide(each) for guide, each in zip(self.guides, maps[GUIDE:], strict=True)]
        return torch.stack([resize_to(part, shape) for part in parts]).sum(0)

    def decode(self, z: Tensor, maps: Sequence[Tensor], share: Tensor) -> list[Tensor]:
        """Vertices (B, n, 3) in [0, 1], final ones first, then those of each level, finest first.

        Args:
            z: (B, latents) codes.
            maps: of the encoder.
            share: (B, organs, ...) soft label maps.
        """
        # Squares, so that a little probability in each of the many voxels of the background has no weight.
        centres, reaches = moments(share.square())
        first = centres[:, :1]
        code = torch.cat([z, ((centres - first) / UNIT).flatten(1), (reaches / UNIT).flatten(1)], 1)
        x = F.relu(self.start(code)).view(-1, *self.coarsest)
        cavity = self.mean[: len(self.mean) // len(SHEETS)].mean(0)
        levels = self.coarser(self.mean - cavity + first)
        place = levels[-1] + UNIT * self.place(code).view(len(z), -1, 3)
        found: list[Tensor] = []
        for level in reversed(range(len(self.blocks))):
            here = len(self.blocks) - 1 - level
            x = self.blocks[here](x)
            place = place + UNIT * self.positions[here](x)
            found.insert(0, place)
            seen = [sample_volume(maps[self.skips[level]], place)] if level < len(self.skips) else []
            x = torch.cat([x, (place - levels[level]) / UNIT, *seen], -1)
            if level:
                up = self.up[level - 1]
                x, place = (up(each.transpose(0, 1)).transpose(0, 1) for each in (x, place))
        final = place + UNIT * self.output(self.last(x))
        return [final, *found]

    def forward(self, image: Tensor, views: Tensor | None = None) -> tuple[list[Tensor], ...]:
        """What `decode` gives; mean and log-variance of the code, which is drawn in training; logits."""
        maps, mu, logvar = self.encode(image, views)
        logits = self.find(maps)
        with torch.autocast(image.device.type, enabled=False):
            # Half precision would cost whole pixels of positions, and saves no time on graphs.
            mu, logvar, logits, maps = mu.float(), logvar.float(), logits.float(), [m.float() for m in maps]
            z = mu + torch.randn_like(mu) * code_deviation(logvar) if self.training else mu
            share = logits.softmax(1)
            maps[GUIDE] = torch.cat([maps[GUIDE], share], 1)
            return self.decode(z, maps, share[:, 1:]), [mu, logvar], [logits]


def _laplacian(adjacency: Tensor) -> Tensor:
    """(N, N) sparse: the mean of a vertex's neighbours without the vertex."""
    graph = adjacency.coalesce()
    count = len(graph)
    rows, columns = graph.indices()
    degree = torch.zeros(count).index_add(0, rows, torch.ones(len(rows)))
    own = torch.arange(count)
    places = torch.stack([torch.cat([rows, own]), torch.cat([columns, own])])
    values = torch.cat([1 / degree[rows], -torch.ones(count)])
    return torch.sparse_coo_tensor(places, values, (count, count), check_invariants=True)
