"""Contour refinement: graph nodes look along their normals for the organ's edge and move there.

Not part of the HybridGNet papers. The idea is that of active contours with a learned force (Kass et al.,
"Snakes", IJCV 1988; Peng et al., "Deep Snake", CVPR 2020), on the HybridGNet's own organ graph.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs
from anatozoo.nn.cheb import graph_convolution, node_norm
from anatozoo.nn.igsc import sample_points

SAMPLES = 9


class RefinerOutput(NamedTuple):
    """Contours after each step, each (B, N, 2), and the organ logits (B, organs, S/4, S/4)."""

    steps: tuple[Tensor, ...]
    dense: Tensor


class ConvNorm(nn.Sequential):
    """3 × 3 convolution, group normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(8, out_channels),
            nn.ReLU(),
        )


class Pyramid(nn.Module):
    """Feature pyramid from the deepest map down to stride 4, and the organ logits there."""

    def __init__(self, channels: Mapping[int, int], width: int, organs: int) -> None:
        super().__init__()
        self.levels = [level for level in sorted(channels, reverse=True) if level >= 3]
        self.lateral = nn.ModuleList(nn.Conv2d(channels[level], width, 1) for level in self.levels)
        self.smooth = nn.ModuleList(ConvNorm(width, width) for _ in self.levels)
        self.organs = nn.Sequential(ConvNorm(width, width), nn.Conv2d(width, organs, 1))

    def forward(self, maps: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Return features (B, width, S/4, S/4) and logits (B, organs, S/4, S/4)."""
        x = None
        for level, lateral, smooth in zip(self.levels, self.lateral, self.smooth, strict=True):
            y = lateral(maps[level])
            if x is not None:
                y = y + F.interpolate(x, size=y.shape[-2:], mode="bilinear", align_corners=False)
            x = smooth(y)
        assert x is not None
        return x, self.organs(x)


class RefinementStep(nn.Module):
    """Sample features along each node's normal, exchange them along the contour, move the node.

    Args:
        organs: landmarks per organ.
        image_features: channels of the sampled map.
        node_features: features per node carried between steps.
        reach: largest distance along the normal for sampling and moving, as a fraction of the frame.
        order: Chebyshev terms.
        graph_conv: kind of graph convolution.
        own_planes: whether each node also looks at its organ's plane of the input.
    """

    offsets: Tensor

    def __init__(
        self,
        organs: Mapping[str, int],
        image_features: int,
        node_features: int,
        reach: float,
        *,
        order: int,
        graph_conv: str,
        own_planes: bool = False,
    ) -> None:
        super().__init__()
        self.reach, self.parts = reach, list(graphs.organ_slices(organs).values())
        graph = graphs.adjacency(organs)
        self.register_buffer("offsets", torch.linspace(-reach, reach, SAMPLES), persistent=False)
        self.profile = nn.Linear(SAMPLES * (image_features + own_planes), node_features)
        self.embedding = nn.Parameter(torch.zeros(len(graph), 16))
        inner = node_features + node_features + 16 + 2
        self.mix = graph_convolution(graph_conv, inner, node_features, graph, order)
        self.mix2 = graph_convolution(graph_conv, node_features, node_features, graph, order)
        self.move = nn.Linear(node_features, 2)
        nn.init.normal_(self.embedding, 0.0, 0.1)
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)

    def forward(
        self, position: Tensor, nodes: Tensor, features: Tensor, planes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the moved positions (B, N, 2) and node features (B, N, node_features).

        `planes` are those of the organs, (B, organs, S, S), where the step looks at them.
        """
        tangent = graphs.chords(position, self.parts)
        tangent = tangent / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        normal = torch.stack([tangent[..., 1], -tangent[..., 0]], -1)
        points = position[:, :, None] + self.offsets[:, None] * normal[:, :, None]
        profile = sample_points(features, points, align="index").flatten(2)
        if planes is not None:
            own = [
                sample_points(planes[:, i, None], points[:, part], align="index").flatten(2)
                for i, part in enumerate(self.parts)
            ]
            profile = torch.cat([profile, torch.cat(own, 1)], -1)
        x = torch.cat([F.relu(self.profile(profile)), nodes, position - 0.5, self._embedded(position)], -1)
        x = F.relu(node_norm(self.mix(x)))
        x = F.relu(node_norm(self.mix2(x))) + x
        move = self.move(x) * self.reach
        return position + move[..., :1] * normal + move[..., 1:] * tangent, x

    def _embedded(self, position: Tensor) -> Tensor:
        return self.embedding.expand(len(position), -1, -1)


class ContourRefiner(nn.Module):
    """A feature pyramid and a sequence of refinement steps of shrinking reach.

    No gradient flows from a step to its starting positions: each step learns to correct its input, and
    earlier steps keep their own supervision.

    Args:
        organs: landmarks per organ.
        channels: channels of each encoder level.
        node_features: features per node that the decoder hands over.
        reaches: reach of each step as a fraction of the frame, for example (0.05, 0.025).
        width: channels of the pyramid and features per node.
        order: Chebyshev terms.
        graph_conv: kind of graph convolution.
        dense_organs: channels of the auxiliary masks; None takes the number of organs.
        own_planes: whether each node also looks at its organ's plane of the input, at full resolution.
    """

    def __init__(
        self,
        organs: Mapping[str, int],
        channels: Mapping[int, int],
        node_features: int,
        reaches: Sequence[float],
        *,
        width: int = 64,
        order: int = 6,
        graph_conv: str = "static",
        dense_organs: int | None = None,
        own_planes: bool = False,
    ) -> None:
        super().__init__()
        if any(not 0 < reach < 0.5 for reach in reaches):
            raise ConfigError(
                f"refine={tuple(reaches)}: each reach is a fraction of the frame, 0 < reach < 0.5."
            )
        dense = dense_organs or len(organs)
        self.pyramid = Pyramid(channels, width, dense)
        self.compress = nn.Conv2d(width, 24, 1)
        self.enter = nn.Linear(node_features, width)
        self.steps = nn.ModuleList(
            RefinementStep(
                organs, 24 + dense, width, reach, order=order, graph_conv=graph_conv, own_planes=own_planes
            )
            for reach in reaches
        )

    def forward(
        self,
        landmarks: Tensor,
        nodes: Tensor,
        maps: Mapping[int, Tensor],
        settle: Callable[[Tensor], Tensor],
        planes: Tensor | None = None,
    ) -> RefinerOutput:
        """Refine (B, N, 2) landmarks with node features (B, N, node_features) and the encoder's maps.

        `settle` is applied to the landmarks after each step. `planes` (B, organs, S, S) are the input's,
        where the nodes look at them.
        """
        features, dense = self.features(maps)
        return RefinerOutput(self.refine(landmarks, nodes, features, settle, planes), dense)

    def features(self, maps: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """What the steps look at, (B, C, S/4, S/4), and the organ logits (B, organs, S/4, S/4)."""
        features, dense = self.pyramid(maps)
        return torch.cat([self.compress(features), dense.sigmoid()], 1), dense

    def refine(
        self,
        landmarks: Tensor,
        nodes: Tensor,
        features: Tensor,
        settle: Callable[[Tensor], Tensor],
        planes: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Contours after each step, by the `features` of their images or of one image for all contours."""
        nodes = self.enter(nodes)
        steps: list[Tensor] = []
        for step in self.steps:
            landmarks, nodes = step(landmarks.detach(), nodes, features, planes)
            landmarks = settle(landmarks)
            steps.append(landmarks)
        return tuple(steps)
