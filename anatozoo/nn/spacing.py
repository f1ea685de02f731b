"""Landmarks evenly spaced between anatomical anchors.

Annotators mark a few anchors, such as the costophrenic angle, and the landmarks between two of them follow
at fixed shares of the length of the contour. A network that places each landmark independently finds the
contour, but slides along it; here all landmarks of a stretch determine its two ends, and are spaced between
them. Not part of the HybridGNet papers.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.graphs import organ_slices


def way_along(points: Tensor) -> Tensor:
    """Length of a closed contour up to each vertex and back to the first, (..., N, 2) -> (..., N + 1)."""
    edges = points.roll(-1, -2) - points
    # The small term keeps the gradient finite where two vertices coincide.
    lengths = (edges.square().sum(-1) + 1e-18).sqrt()
    return torch.cat([torch.zeros_like(lengths[..., :1]), lengths.cumsum(-1)], -1)


def spacing_matrix(shape: Tensor, anchors: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Linear map from the present positions of landmarks along a contour to evenly spaced ones.

    With t(k) the position of anchor k, a landmark of the stretch from k to k + 1 belongs at
    (1 - f) t(k) + f t(k + 1), f being its share of that stretch in `shape`. The t are the least-squares fit
    to the present positions s, so that the new ones are linear: s -> P (s - w L) + w L for a contour of
    length L; w is f on the last stretch, which ends at anchor 0 one turn later.

    Args:
        shape: (N, 2) contour with the reference spacing, for example the mean shape.
        anchors: increasing indices of the anchors, the first of them 0.

    Returns:
        P (N, N) and w (N,).
    """
    count, ends = len(shape), [*anchors, len(shape)]
    way = way_along(shape.double())
    design = torch.zeros(count, len(ends), dtype=torch.float64)
    for k, (first, last) in enumerate(pairwise(ends)):
        share = (way[first:last] - way[first]) / (way[last] - way[first])
        design[first:last, k], design[first:last, k + 1] = 1 - share, share
    wrap = design[:, -1].clone()
    design[:, 0] += wrap
    design = design[:, :-1]
    return (design @ torch.linalg.pinv(design)).float(), wrap.float()


class Spacing(nn.Module):
    """Slides landmarks along their contours to the spacing of a reference shape between anchors.

    Args:
        organs: landmarks per organ.
        anchors: organ -> increasing indices of its anchors, the first of them 0. Organs without an entry do
            not change; entries of other organs are ignored.

    Raises:
        ConfigError: anchors are not increasing, do not start with 0 or go beyond the organ's landmarks.
    """

    projection: Tensor
    wrap: Tensor

    def __init__(self, organs: Mapping[str, int], anchors: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.anchors = {organ: list(anchors[organ]) for organ in organs if organ in anchors}
        self.parts = organ_slices(organs)
        for organ, chosen in self.anchors.items():
            rising = all(a < b for a, b in pairwise([*chosen, organs[organ]]))
            if chosen[:1] != [0] or not rising:
                raise ConfigError(
                    f"anchors of {organ} must start with 0 and increase below {organs[organ]}, not {chosen}."
                )
        count = sum(organs.values())
        self.register_buffer("projection", torch.eye(count))
        self.register_buffer("wrap", torch.zeros(count))
        turn = {organ: torch.arange(n) * (2 * torch.pi / n) for organ, n in organs.items()}
        self.take_from(torch.cat([torch.stack([a.cos(), a.sin()], -1) for a in turn.values()]))

    def take_from(self, shape: Tensor) -> None:
        """Copy the spacing of a shape (N, 2), except for organs whose points all coincide."""
        for organ, chosen in self.anchors.items():
            part = self.parts[organ]
            if float((shape[part] - shape[part][:1]).abs().max()) > 1e-6:
                self.projection[part, part], self.wrap[part] = spacing_matrix(shape[part].cpu(), chosen)

    def forward(self, points: Tensor) -> Tensor:
        """Slide landmarks (B, N, 2) along the polygons that they form; differentiable."""
        result = []
        for organ, part in self.parts.items():
            contour = points[:, part]
            result.append(self._spaced(contour, part) if organ in self.anchors else contour)
        return torch.cat(result, 1)

    def _spaced(self, contour: Tensor, part: slice) -> Tensor:
        way = way_along(contour)
        length, wrap = way[:, -1:], self.wrap[part]
        place = (way[:, :-1] - wrap * length) @ self.projection[part, part].T + wrap * length
        place = torch.remainder(place, length)
        # The edge of each position: edge i leads from vertex i to vertex i + 1.
        edge = (place[:, :, None] >= way[:, None, 1:-1]).sum(-1)
        start, end = way.gather(1, edge), way.gather(1, edge + 1)
        share = (place - start) / (end - start).clamp_min(1e-9)
        corners = torch.cat([contour, contour[:, :1]], 1)
        index = edge[..., None].expand(-1, -1, 2)
        return torch.lerp(corners.gather(1, index), corners.gather(1, index + 1), share[..., None])
