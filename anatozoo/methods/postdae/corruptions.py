"""Degradations of label maps, 2-D and 3-D, batched: typical errors of segmenters, and worse.

The paper has random shapes added and removed, morphology, and labels swapped near a border. Every function
draws its own parameters for each item of a batch, on the batch's device. Label maps are (B, ...) uint8, which
takes a quarter of the memory traffic of float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.methods.postdae.strengths import DegradeConfig
from anatozoo.nn.deform import smooth_field, uniform

AVG_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
SHAPE_SIDE = 96
"""Shapes are drawn on a grid of about this many pixels along each axis."""


class Degradation(NamedTuple):
    """Input of a degradation.

    Attributes:
        labels: (B, ...) uint8.
        severity: (B,) in [0, 1]; scales the degradation.
        table: (C, C), probability that a label is confused with another; rows sum to 1, the diagonal is 0.
        config: strengths.
    """

    labels: Tensor
    severity: Tensor
    table: Tensor
    config: DegradeConfig

    @property
    def classes(self) -> int:
        """Number of labels, background included."""
        return len(self.table)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of a label map."""
        return tuple(self.labels.shape[1:])

    @property
    def side(self) -> float:
        """Mean side of the frame in pixels."""
        return sum(self.shape) / len(self.shape)

    def each(self, values: Tensor) -> Tensor:
        """Values (B,) reshaped to broadcast over the pixels; integers become labels."""
        values = (
            values if values.is_floating_point() or values.dtype == torch.bool else values.to(torch.uint8)
        )
        return values.view(-1, *[1] * len(self.shape))

    def organs(self) -> Tensor:
        """One random label (B,) above 0 of those that each item contains; 1 if it contains none."""
        flat = self.labels.flatten(1)
        there = torch.stack([(flat == value).any(1) for value in range(1, self.classes)], 1).float()
        there[there.sum(1) == 0, 0] = 1.0
        return 1 + torch.multinomial(there, 1)[:, 0]

    def taken_for(self) -> Tensor:
        """A label (B, C) that each label of each item is confused with, drawn from the table."""
        drawn = torch.multinomial(self.table, len(self.labels), replacement=True)
        return drawn.T.to(torch.uint8).contiguous()


def extent(labels: Tensor) -> tuple[Tensor, Tensor]:
    """First and last pixel of the anatomy along each axis, (B, n) float each; the frame if there is none."""
    dims, low, high = range(1, labels.ndim), [], []
    for axis in dims:
        there = labels > 0
        for other in reversed(dims):
            there = there if other == axis else there.any(other)
        size, empty = there.shape[1], ~there.any(1)
        low.append(there.float().argmax(1).masked_fill(empty, 0))
        high.append((size - 1 - there.flip(1).float().argmax(1)).masked_fill(empty, size - 1))
    return torch.stack(low, 1).float(), torch.stack(high, 1).float()


def look_up(labels: Tensor, offset: Tensor) -> Tensor:
    """The label at an offset (B, n, ...) in pixels from each pixel, nearest neighbour, border repeated."""
    shape = labels.shape[1:]
    index = torch.zeros_like(labels, dtype=torch.int64)
    for axis, size in enumerate(shape):
        at = torch.arange(size, device=labels.device).view(
            [-1 if a == axis else 1 for a in range(len(shape))]
        )
        index = index * size + (at + offset[:, axis].round().long()).clamp(0, size - 1)
    return labels.flatten(1).gather(1, index.flatten(1)).view_as(labels)


def add_shapes(d: Degradation) -> Tensor:
    """Ellipsoids, boxes and bars of random place, size, direction and label, background included."""
    labels, n = d.labels.clone(), len(d.shape)
    batch = len(labels)
    low, high = extent(labels)
    span = (high - low + 1).clamp_min(0.1 * d.side)
    # Drawn on a coarser grid if the frame is large: their outlines need no precision.
    step = max(round(d.side / SHAPE_SIDE), 1)
    coarse = tuple(-(-side // step) for side in d.shape)
    axes = [step * torch.arange(s, device=labels.device) + (step - 1) / 2 for s in coarse]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    for number in range(d.config.shapes):
        centre = low - 0.1 * span + 1.2 * span * uniform((batch, n), 0, 1, labels)
        # Many small ones, few large ones.
        largest = d.config.shape_size * (0.3 + 0.7 * d.severity)
        radius = span.mean(1) * (0.04 + largest * uniform((batch,), 0, 1, labels).square())
        radii = (radius[:, None] * torch.exp(uniform((batch, n), -1.0, 0.5, labels))).clamp_min(1.0)
        turn = torch.linalg.qr(torch.randn(batch, n, n, device=labels.device))[0]
        inside = (turn @ (place - centre[..., None]) / radii[..., None]).abs()
        is_box = torch.rand(batch, 1, device=labels.device) < 0.4
        within = torch.where(is_box, inside.amax(1), inside.square().sum(1)) < 1
        value = torch.randint(1, d.classes, (batch,), device=labels.device)
        value = value * (torch.rand(batch, device=labels.device) < 0.6)
        drawn = torch.rand(batch, device=labels.device) < (1.0 if number == 0 else 0.2 + 0.6 * d.severity)
        within = (within & drawn[:, None]).view(batch, *coarse)
        for axis in range(n if step > 1 else 0):
            within = within.repeat_interleave(step, 1 + axis).narrow(1 + axis, 0, d.shape[axis])
        labels = torch.where(within, d.each(value), labels)
    return labels


def box_blur(x: Tensor, radius: int) -> Tensor:
    """Mean over a box of ``2 * radius + 1`` pixels, (B, ...) float, cut at the border."""
    for axis in range(x.ndim - 1, 0, -1):
        size = x.shape[axis]
        at = torch.arange(size, device=x.device)
        low, high = (at - radius).clamp_min(0), (at + radius + 1).clamp_max(size)
        sums = F.pad(x.cumsum(axis), [0, 0] * (x.ndim - 1 - axis) + [1, 0])
        width = (high - low).view([-1 if a == axis else 1 for a in range(x.ndim)])
        x = (sums.index_select(axis, high) - sums.index_select(axis, low)) / width
    return x


def morphology(d: Degradation) -> Tensor:
    """Dilation, erosion, opening or closing of two organs.

    A mask blurred by a box and thresholded at another value than 0.5 grows or shrinks by up to the box's
    radius, and loses thinner parts. One box therefore serves all items.
    """
    labels, device = d.labels, d.labels.device
    batch = len(labels)
    radius = int(torch.randint(1, max(round(d.config.morphology * d.side), 1) + 1, ()))
    for _ in range(2):
        organ = d.each(Degradation(labels, d.severity, d.table, d.config).organs())
        was = labels == organ
        grows = torch.rand(batch, device=device) < 0.5
        limit = 0.5 - torch.where(grows, 0.45, -0.45) * (0.2 + 0.8 * d.severity)
        now = box_blur(was.float(), radius) > d.each(limit)
        back = d.each(torch.rand(batch, device=device) < 0.5)
        now = torch.where(back, box_blur(now.float(), radius) > d.each(1 - limit), now)
        over = d.each(torch.rand(batch, device=device) < 0.5)
        gained = now & ~was & (over | (labels == 0))
        labels = torch.where(gained, organ, labels.masked_fill(was & ~now, 0))
    return labels


def swap_borders(d: Degradation) -> Tensor:
    """Give pixels the label of a pixel nearby, which changes only pixels near borders."""
    n = len(d.shape)
    reach = 1 + d.each(d.severity)[:, None] * (d.config.swap * d.side - 1)
    offset = uniform((len(d.labels), n, *d.shape), -1, 1, d.labels) * reach
    share = d.each(uniform((len(d.labels),), 0.1, 0.9, d.labels))
    chosen = torch.rand(d.labels.shape, device=d.labels.device) < share
    return torch.where(chosen, look_up(d.labels, offset), d.labels)


def bend(d: Degradation) -> Tensor:
    """A local deformation, with waves much shorter than an organ."""
    cells = int(torch.randint(6, 18, ()))
    field = smooth_field(len(d.labels), len(d.shape), d.shape, cells, d.labels)
    return look_up(d.labels, field * d.each(0.2 + 0.8 * d.severity)[:, None] * d.config.elastic * d.side)


def remove_organ(d: Degradation) -> Tensor:
    """Remove an organ, wholly or all but remains of it; at the highest severities two."""
    labels = d.labels
    for least in (0.0, 0.75):
        organ = Degradation(labels, d.severity, d.table, d.config).organs()
        remains = smooth_field(len(labels), 1, d.shape, int(torch.randint(3, 9, ())), labels)[:, 0]
        whole = d.each(torch.rand(len(labels), device=labels.device) < 0.7)
        gone = (labels == d.each(organ)) & (whole | (remains < 0.8)) & d.each(d.severity >= least)
        labels = labels.masked_fill(gone, 0)
    return labels


def occlude(d: Degradation) -> Tensor:
    """Blank a band through the anatomy, or one end of it."""
    batch, n = len(d.labels), len(d.shape)
    low, high = extent(d.labels)
    direction = torch.randn(batch, n, device=d.labels.device)
    along = F.one_hot(torch.randint(0, n, (batch,), device=d.labels.device), n).float()
    upright = torch.rand(batch, 1, device=d.labels.device) < 0.75
    direction = torch.where(upright, along, direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-6))
    reach = (direction.abs() * (high - low + 1)).sum(1)
    centre = (low + high) / 2
    depth = -(direction * centre).sum(1)
    for axis, size in enumerate(d.shape):
        at = torch.arange(size, device=d.labels.device, dtype=torch.float32)
        lead = [-1 if a == axis else 1 for a in range(n)]
        depth = depth.view(-1, *[1] * n) if axis == 0 else depth
        depth = depth + d.each(direction[:, axis]) * at.view(lead)
    position = depth / d.each(reach) + 0.5  # 0 … 1 through the anatomy
    width = d.config.occlusion * (0.3 + 0.7 * d.severity)
    end = torch.randint(0, 3, (batch,), device=d.labels.device)
    start = torch.rand(batch, device=d.labels.device) * (1 - width)
    # From beyond one end, from beyond the other, or in between.
    start = torch.where(end == 0, -1.0, start)
    stop = torch.where(end == 0, width, torch.where(end == 1, 2.0, start + width))
    start = torch.where(end == 1, 1 - width, start)
    return d.labels.masked_fill((position > d.each(start)) & (position < d.each(stop)), 0)


def confuse(d: Degradation) -> Tensor:
    """Give an organ, or a part of it, the label of another."""
    organ = d.organs()
    other = d.taken_for().gather(1, organ[:, None])[:, 0]
    part = smooth_field(len(d.labels), 1, d.shape, int(torch.randint(2, 7, ())), d.labels)[:, 0]
    taken = (d.labels == d.each(organ)) & (part > d.each(1.5 - 3.5 * d.severity))
    return torch.where(taken, d.each(other), d.labels)


def add_blobs(d: Degradation) -> Tensor:
    """Irregular patches of background, of one organ, or copied from elsewhere."""
    batch, device = len(d.labels), d.labels.device
    field = smooth_field(batch, 1, d.shape, int(torch.randint(6, 25, ())), d.labels)[:, 0]
    share = d.config.blobs * (0.1 + 0.9 * d.severity)
    limit = torch.stack([f.quantile(1 - s) for f, s in zip(_thinned(field), share, strict=True)])
    low, high = extent(d.labels)
    shift = (high - low) * uniform((batch, len(d.shape)), -0.3, 0.3, d.labels)
    elsewhere = look_up(d.labels, shift.view(*shift.shape, *[1] * len(d.shape)).expand(-1, -1, *d.shape))
    kind = d.each(torch.randint(0, 3, (batch,), device=device))
    organ = d.each(torch.randint(1, d.classes, (batch,), device=device))
    value = torch.where(kind == 0, 0, torch.where(kind == 1, organ, elsewhere))
    return torch.where(field > d.each(limit), value, d.labels)


def _thinned(field: Tensor) -> Tensor:
    """A regular sample (B, about 4096) of each item's values, enough for a quantile."""
    flat = field.flatten(1)
    return flat[:, :: max(flat.shape[1] // 4096, 1)]


def speckle(d: Degradation) -> Tensor:
    """Small cells of wrong labels, more in some places than in others."""
    n, batch = len(d.shape), len(d.labels)
    density = torch.sigmoid(
        2 * smooth_field(batch, 1, d.shape, int(torch.randint(3, 13, ())), d.labels)[:, 0]
    )
    low, high = extent(d.labels)
    reach = (0.25 * (high - low + 1)).view(batch, n, *[1] * n)
    cell = int(torch.randint(1, 5, ()))
    coarse = tuple(-(-s // cell) for s in d.shape)
    drawn = torch.rand(batch, 1 + n, *coarse, device=d.labels.device)
    if cell > 1:
        drawn = F.interpolate(drawn, scale_factor=float(cell), mode="nearest")
    for axis, size in enumerate(d.shape):
        drawn = drawn.narrow(2 + axis, 0, size)
    elsewhere = look_up(d.labels, (2 * drawn[:, 1:] - 1) * reach)
    other = d.taken_for().gather(1, d.labels.flatten(1).long()).view_as(d.labels)
    near = d.each(torch.rand(batch, device=d.labels.device) < 0.7)
    share = d.config.speckle * d.each(0.05 + 0.95 * d.severity)
    return torch.where(drawn[:, 0] < share * density, torch.where(near, elsewhere, other), d.labels)


def coarsen(d: Degradation) -> Tensor:
    """Keep the most frequent label of each cell of a coarse grid, with smooth transitions between cells."""
    n, result = len(d.shape), []
    for labels, severity in zip(d.labels, d.severity.tolist(), strict=True):
        most = 2 + severity * max(d.config.coarse * d.side - 2, 0)
        cell = round(float(uniform((), 2, most, labels)))
        # The grid has a random origin, so that cells do not align with organs in all items.
        before = torch.randint(0, cell, (n,)).tolist()
        padding = [side for start in reversed(before) for side in (start, 0)]
        shares = AVG_POOL[n](F.pad(indicator(labels[None], d.classes), padding), cell, ceil_mode=True)
        smooth = F.interpolate(shares, scale_factor=float(cell), mode=LINEAR[n], align_corners=False)
        for axis, (start, size) in enumerate(zip(before, d.shape, strict=True)):
            smooth = smooth.narrow(2 + axis, start, size)
        result.append(largest(smooth)[0])
    return torch.stack(result)


def classify(d: Degradation) -> Tensor:
    """Simulate an uncertain pixel classifier: blurred evidence, noise on many scales, preferred labels.

    Thin organs vanish in their neighbours, borders fray, and islands and holes appear.
    """
    batch, n, device = len(d.labels), len(d.shape), d.labels.device
    radius = 1 + int(torch.randint(0, max(round(d.config.classifier * d.side), 1), ()))
    evidence = box_blur(indicator(d.labels, d.classes).flatten(0, 1), radius)
    evidence = evidence.view(batch, d.classes, *d.shape)
    strength = (0.05 + 0.55 * d.severity).view(-1, *[1] * (n + 1))
    favour = torch.randn(batch, d.classes, *[1] * n, device=device)
    noise = torch.zeros_like(evidence)
    for octave in range(3):
        # Cells of any proportions: random forests with features along rows leave streaks.
        cells = [int(torch.randint(5, 13, ())) * 3**octave for _ in range(n)]
        coarse = torch.randn(batch, d.classes, *[min(c, s) for c, s in zip(cells, d.shape, strict=True)])
        noise += F.interpolate(coarse.to(device), size=d.shape, mode=LINEAR[n], align_corners=False)
    return largest(evidence + strength * (0.35 * favour + 0.5 * noise))


KINDS: dict[str, Callable[[Degradation], Tensor]] = {
    "elastic": bend,
    "coarse": coarsen,
    "morphology": morphology,
    "classifier": classify,
    "confusion": confuse,
    "shapes": add_shapes,
    "blobs": add_blobs,
    "missing": remove_organ,
    "occlusion": occlude,
    "swap": swap_borders,
    "speckle": speckle,
}
"""All kinds, in the order in which they are applied."""


def indicator(labels: Tensor, classes: int) -> Tensor:
    """Label maps (B, ...) uint8 as (B, C, ...) float32."""
    values = torch.arange(classes, dtype=torch.uint8, device=labels.device)
    return (labels[:, None] == values.view(-1, *[1] * (labels.ndim - 1))).float()


def largest(probability: Tensor) -> Tensor:
    """Index (B, ...) uint8 of the largest channel of (B, C, ...); six times as fast as argmax on a CPU."""
    best = probability[:, 0]
    labels = torch.zeros_like(best, dtype=torch.uint8)
    for value in range(1, probability.shape[1]):
        labels = labels.masked_fill(probability[:, value] > best, value)
        best = torch.maximum(best, probability[:, value])
    return labels
