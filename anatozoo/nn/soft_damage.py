"""Soft damage of label maps, 2-D and 3-D: what a network that segments gives where it errs and is unsure.

Autoencoders of shapes that shall judge predictions learn from it. Hard label maps alone tell them nothing of
probabilities, which a prediction is made of. Label maps are (B, C, ...), background first.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.nn.deform import ShapeConfig, deform, uniform

LINEAR = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class SoftDamage:
    """How often and how strongly label maps are damaged; 0 switches a kind off.

    Attributes:
        clean_p: share of items that stay as they are.
        boxes: largest number of boxes in an item, each erased, moved or of a wrong label.
        box_size: longest side of a box, as a share of the anatomy's mean extent.
        elastic: size of a smooth displacement that the clean map does not have, as a share of the frame.
        slices_p: share of the items of volumes in which one slice in ten lies elsewhere or is empty.
        noise: largest standard deviation of smooth noise on the logits, in units of their temperature.
        temperature: largest temperature of the softmax; 1 and less leaves it at 1.
        blur: largest share, up to 1, of a mean over 3 pixels along each axis, which softens borders.
    """

    clean_p: float = 0.15
    boxes: int = 4
    box_size: float = 0.4
    elastic: float = 0.01
    slices_p: float = 0.25
    noise: float = 3.0
    temperature: float = 4.0
    blur: float = 1.0


def damage(clean: Tensor, config: SoftDamage) -> Tensor:
    """Damage label maps: elastic, boxes, slices, then soft, each item with strengths of its own.

    Args:
        clean: (B, C, ...) one-hot or soft.
        config: strengths.

    Returns:
        (B, C, ...), which sum to 1 over C.
    """
    found = clean
    if config.elastic:
        bend = ShapeConfig(0.0, 0.0, 0.0, 0.0, config.elastic, cells=9)
        [found] = deform(found, bend)
    if config.boxes:
        found = damage_boxes(found, config)
    if config.slices_p and clean.ndim == 5:
        found = damage_slices(found, config.slices_p)
    found = soften(found, config)
    stays = _each(uniform((len(clean),), 0, 1, clean) < config.clean_p, clean)
    return torch.where(stays, clean, found)


def damage_boxes(maps: Tensor, config: SoftDamage) -> Tensor:
    """Erase, move or misclass what is in boxes around the anatomy, up to `SoftDamage.boxes` an item.

    A box that is moved shows what lies some way off, so that organs are cut, joined or doubled.
    """
    batch, classes, *shape = maps.shape
    anatomy, dims = 1 - maps[:, 0], len(shape)
    place = _places(shape, maps)
    extent = _extent(anatomy)
    for _ in range(config.boxes):
        centre = _somewhere(anatomy, extent)
        sides = extent * uniform((batch, dims), 0.05, config.box_size, maps)
        within = (place - _each(centre, maps)).abs() <= _each(sides.clamp_min(1.0) / 2, maps)
        inside = within.all(1, keepdim=True) & _each(uniform((batch,), 0, 1, maps) < 0.6, maps)
        kind = torch.randint(0, 3, (batch,), device=maps.device)
        label = torch.randint(0, classes, (batch,), device=maps.device) * (kind > 0)  # 0 erases
        put = _each(F.one_hot(label, classes).to(maps.dtype), maps).expand_as(maps)
        steps = (extent * uniform((batch, dims), -0.5, 0.5, maps)).round().long().tolist()
        moved = torch.stack(
            [torch.roll(one, step, list(range(1, 1 + dims))) for one, step in zip(maps, steps, strict=True)]
        )
        maps = torch.where(inside, torch.where(_each(kind == 2, maps), moved, put), maps)
        anatomy = 1 - maps[:, 0]
    return maps


def damage_slices(maps: Tensor, share: float) -> Tensor:
    """Empty or shift single slices of some volumes (B, C, D, H, W)."""
    batch, _, depth = maps.shape[:3]
    rows = []
    hit = (uniform((batch, depth), 0, 1, maps) < 0.1) & (uniform((batch, 1), 0, 1, maps) < share)
    empty = F.one_hot(torch.zeros((), dtype=torch.long, device=maps.device), maps.shape[1]).to(maps.dtype)
    for volume, chosen in zip(maps, hit.tolist(), strict=True):
        slices = list(volume.unbind(1))
        for z in (z for z, is_hit in enumerate(chosen) if is_hit):
            step = torch.randint(-4, 5, (2,)).tolist()
            gone = bool(torch.rand(()) < 0.5)
            slices[z] = empty[:, None, None].expand_as(slices[z]) if gone else slices[z].roll(step, (1, 2))
        rows.append(torch.stack(slices, 1))
    return torch.stack(rows)


def soften(maps: Tensor, config: SoftDamage) -> Tensor:
    r"""Softmax of noisy logits at a random temperature.

    ``softmax((log p + σ n) / T)`` with p the map after a small blur, n smooth noise of variance 1 in each
    item and channel, whose scale all items share, σ the product of `SoftDamage.noise` and the square of a
    uniform number, and log T uniform from 0 to that of `SoftDamage.temperature`.
    """
    if not (config.blur or config.noise or config.temperature > 1):
        return maps
    batch, classes, *shape = maps.shape
    dims = len(shape)
    share = _each(uniform((batch,), 0, min(config.blur, 1.0), maps), maps)
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[dims]
    sides = (1 if dims == 3 and shape[0] * 3 <= max(shape) else 3, 3, 3)[-dims:]
    smooth = pool(maps, sides, 1, tuple(side // 2 for side in sides), count_include_pad=False)
    logits = torch.lerp(maps, smooth, share).clamp_min(1e-3).log()
    if config.noise:
        level = int(torch.randint(2, 6, ()))
        coarse = [max(2, -(-side // 2**level)) for side in shape]
        drawn = torch.randn(batch, classes, *coarse, device=maps.device)
        strength = _each(config.noise * uniform((batch,), 0, 1, maps).square(), maps)
        noise = F.interpolate(drawn, tuple(shape), mode=LINEAR[dims])
        spread = noise.flatten(2).std(2).clamp_min(1e-6)
        logits = logits + strength * noise / _each(spread, maps)
    warmth = torch.tensor(max(config.temperature, 1.0)).log().item()
    return (logits / _each(torch.exp(warmth * uniform((batch,), 0, 1, maps)), maps)).softmax(1)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Values (B,) or (B, n) to broadcast over maps (B, C or n, ...)."""
    values = values[:, None] if values.ndim == 1 else values
    return values.view(*values.shape, *[1] * (like.ndim - 2))


def _places(shape: list[int], like: Tensor) -> Tensor:
    """Positions (1, n, ...) of the pixels, in the order of the axes."""
    axes = [torch.arange(side, device=like.device, dtype=torch.float32) for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def _extent(anatomy: Tensor) -> Tensor:
    """How far the anatomy (B, ...) reaches along each axis, (B, n) pixels; the frame where there is none."""
    sides = []
    for axis in range(1, anatomy.ndim):
        others = [other for other in range(1, anatomy.ndim) if other != axis]
        count = (anatomy.amax(others) > 0.5).sum(1)
        sides.append(torch.where(count > 0, count, anatomy.shape[axis]))
    return torch.stack(sides, 1).float()


def _somewhere(anatomy: Tensor, extent: Tensor) -> Tensor:
    """A pixel (B, n) of the anatomy of each item, give or take a quarter of its extent."""
    flat = anatomy.flatten(1) + 1e-6
    drawn = torch.multinomial(flat, 1)[:, 0]
    centre = torch.stack(torch.unravel_index(drawn, anatomy.shape[1:]), 1).float()
    return centre + extent * uniform((len(anatomy), extent.shape[1]), -0.25, 0.25, anatomy)
