"""The graph decoder of organ contours: from the code of a shape to landmarks.

Gaggion et al., "Improving anatomical plausibility in medical image segmentation via hybrid graph neural
networks", IEEE TMI 2022.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs
from anatozoo.nn.cheb import graph_convolution, node_norm
from anatozoo.nn.igsc import window_average


class GraphConvBlock(nn.Module):
    """Chebyshev convolution, feature standardisation per node, ReLU."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, N, F)."""
        return F.relu(node_norm(self.conv(x)))


class SkipConnection(nn.Module):
    """Image-to-graph skip connection: predict positions, sample the map there, concatenate all."""

    def __init__(self, level: int, window: int, lookup: str, conv: nn.Module) -> None:
        super().__init__()
        self.level, self.window, self.lookup = level, window, lookup
        self.position = conv

    def forward(
        self, x: Tensor, maps: Mapping[int, Tensor], template: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Return features (B, N, F + C + 2) and positions (B, N, 2), which start from `template`."""
        position = self.position(x) + template
        sampled = window_average(maps[self.level], position, self.window, lookup=self.lookup)
        return torch.cat([x, sampled, position], -1), position


class GraphDecoder(nn.Module):
    """Base class of networks that decode codes of shapes on the organs' graph.

    A subclass calls `add_decoder` in its constructor. The layers are its own: the decoder's parameters have
    the same names in all of them, so that one network can start from another.
    """

    up: Tensor
    down: Tensor

    def add_decoder(
        self,
        organs: Mapping[str, int],
        latents: int,
        features: int,
        order: int,
        upsampling: graphs.Upsampling,
        *,
        skips: Sequence[int] = (),
        channels: Mapping[int, int] | None = None,
        window: int = 3,
        lookup: str = "average",
        graph_conv: str = "static",
        template: bool = False,
    ) -> None:
        """Make the layers.

        Args:
            organs: landmarks per organ, in output order.
            latents: length of the code.
            features: width of the fine graph layers; the coarse ones have half.
            order: Chebyshev terms K.
            upsampling: ``"wrap"`` or ``"copy"``, see `anatozoo.nn.graphs.upsampling`.
            skips: levels of an encoder's maps for image-to-graph skips, coarse graph first; at most two.
            channels: of the encoder's maps, by level; None where there is no image.
            window: side of the look-up window in pixels of the map.
            lookup: ``"average"`` or ``"roi_align"``, see `anatozoo.nn.igsc.window_average`.
            graph_conv: ``"static"`` or ``"pyg"``.
            template: predict positions relative to a learned mean shape (not part of the paper).

        Raises:
            ConfigError: a combination that cannot be built.
        """
        if len(skips) > 2:
            raise ConfigError(f"skips={tuple(skips)}: at most two image-to-graph skips are possible.")
        for name, value, least in (("order", order, 1), ("features", features, 2)):
            if value < least:
                raise ConfigError(f"{name}={value} must be at least {least}.")
        if window < 1 or window % 2 == 0:
            raise ConfigError(f"window={window} must be odd and positive.")
        if lookup not in ("average", "roi_align"):
            raise ConfigError(f"lookup={lookup!r} is unknown; choose 'average' or 'roi_align'.")
        widths = channels or {}
        if any(level not in widths or level < 2 for level in skips):
            raise ConfigError(
                f"skips={tuple(skips)}: this encoder has the levels {sorted(widths)}, from 2 on."
            )
        self.features, half = features, features // 2
        fine, coarse = graphs.adjacency(organs), graphs.adjacency(graphs.coarse(organs))
        self.register_buffer("up", graphs.upsampling(organs, upsampling))

        def conv(i: int, o: int, graph: Tensor, k: int = order, bias: bool = True) -> nn.Module:
            return graph_convolution(graph_conv, i, o, graph, k, bias=bias)

        self.expand = nn.Linear(latents, half * len(coarse))
        nn.init.normal_(self.expand.weight, 0.0, 0.1)
        self.coarse1 = GraphConvBlock(conv(half, half, coarse))
        self.coarse2 = GraphConvBlock(conv(half, half, coarse))
        self.skip1 = self.skip2 = None
        extra1 = extra2 = 0
        if len(skips) > 0:
            self.skip1 = SkipConnection(skips[0], window, lookup, conv(half, 2, coarse, 1, False))
            extra1 = widths[skips[0]] + 2
        self.coarse3 = GraphConvBlock(conv(half + extra1, features, coarse))
        self.fine1 = GraphConvBlock(conv(features, features, fine))
        if len(skips) > 1:
            self.skip2 = SkipConnection(skips[1], window, lookup, conv(features, 2, fine, 1, False))
            extra2 = widths[skips[1]] + 2
        self.fine2 = GraphConvBlock(conv(features + extra2, features, fine))
        self.head = conv(features, 2, fine, 1, False)
        self.template = None
        if template:
            # Positions are corrections of a mean shape, and start as that shape.
            self.template = nn.Parameter(torch.full((len(fine), 2), 0.5))
            self.register_buffer("down", graphs.downsampling(organs), persistent=False)
            for layer in (self.head, *(s.position for s in (self.skip1, self.skip2) if s is not None)):
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)

    def decode_nodes(
        self, z: Tensor, maps: Mapping[int, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Decode.

        Args:
            z: (B, latents).
            maps: an encoder's maps by level, at which the skips look.

        Returns:
            Landmarks (B, N, 2), intermediate positions, coarse first, and the last node features (B, N, F).
        """
        positions: tuple[Tensor, ...] = ()
        fine: Tensor | float = 0.0 if self.template is None else self.template
        coarse = 0.0 if self.template is None else self.down @ self.template
        x = F.relu(self.expand(z)).view(len(z), self.up.shape[1], self.features // 2)
        x = self.coarse2(self.coarse1(x))
        if self.skip1 is not None:
            x, position = self.skip1(x, maps, coarse)
            positions += (position,)
        x = self.coarse3(x)
        x = self.fine1(self.up.to(x.dtype) @ x)
        if self.skip2 is not None:
            x, position = self.skip2(x, maps, fine)
            positions += (position,)
        x = self.fine2(x)
        return self.head(x) + fine, positions, x
