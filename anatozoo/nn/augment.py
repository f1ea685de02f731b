"""Batched augmentation of radiographs with landmarks and masks, on whatever device the batch lies.

Every transform draws one set of parameters per image. Images are (B, 1, S, S) in [0, 1], landmarks
(B, N, 2) and masks (B, C, H, W) in the same square frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ShapeAugment:
    """Strengths of what moves a shape as a whole; 0 switches one off.

    Attributes:
        rotation_deg: largest rotation about the frame's centre.
        scale: largest change of size, as a logarithm.
        anisotropy: largest change of each side, as a logarithm.
        shift: largest shift, in shares of the frame.
    """

    rotation_deg: float = 3.0
    scale: float = 0.0
    anisotropy: float = 0.2
    shift: float = 0.03


@dataclass(frozen=True)
class AugmentConfig(ShapeAugment):
    """Strengths of the augmentation; 0 switches a transform off, ``*_p`` are probabilities per image.

    Attributes:
        elastic: standard deviation of the smooth deformation, in shares of the frame.
        gamma: largest logarithm of the exponent of the grey values.
        contrast: largest change of their slope, and twice that of their offset.
        noise: largest standard deviation of the noise.
        blur_p: blurred images.
        opacity_p: images with smooth bright areas, as of consolidation or effusion.
        invert_p: inverted images.
        occlusion_p: images with a grey rectangle.
        collimation_p: images with dark borders.
        text_p: images with marks like text.
        opacity: largest brightness of those areas, 1 for white.
        collimation: largest width of those borders, in shares of the frame.
        curve_p: images whose grey values go through a random increasing curve, as from another device.
        local_contrast_p: images whose contrast is made even or uneven locally, as equalisation does.
        lines_p: images with a few tubes, wires or lines.
    """

    rotation_deg: float = 8.0
    scale: float = 0.18
    anisotropy: float = 0.08
    shift: float = 0.05
    elastic: float = 0.015
    gamma: float = 0.45
    contrast: float = 0.25
    noise: float = 0.04
    blur_p: float = 0.25
    opacity_p: float = 0.35
    invert_p: float = 0.05
    occlusion_p: float = 0.25
    collimation_p: float = 0.15
    text_p: float = 0.2
    opacity: float = 0.6
    collimation: float = 0.08
    curve_p: float = 0.0
    local_contrast_p: float = 0.0
    lines_p: float = 0.0


def uniform(shape: tuple[int, ...], low: float, high: float, like: Tensor) -> Tensor:
    """Uniform random tensor on the device and of the type of `like`."""
    return torch.rand(shape, device=like.device, dtype=like.dtype) * (high - low) + low


def move_shapes(points: Tensor, config: ShapeAugment) -> Tensor:
    """Landmarks (B, N, 2) in [0, 1], each shape scaled, turned and shifted as a whole."""
    batch = len(points)
    angle = torch.deg2rad(uniform((batch,), -config.rotation_deg, config.rotation_deg, points))
    zoom = uniform((batch, 1), -config.scale, config.scale, points)
    factor = torch.exp(zoom + uniform((batch, 2), -config.anisotropy, config.anisotropy, points))
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], 1)
    shift = uniform((batch, 1, 2), -config.shift, config.shift, points)
    return ((points - 0.5) * factor[:, None]) @ turn + 0.5 + shift


def chance(p: float, like: Tensor) -> Tensor:
    """(B, 1, 1, 1) of ones with probability p, zeros else."""
    return (torch.rand(len(like), 1, 1, 1, device=like.device) < p).to(like.dtype)


def smooth_field(like: Tensor, channels: int, cells: int) -> Tensor:
    """Smooth random field (B, channels, S, S), about N(0, 1) at its control points."""
    coarse = torch.randn(len(like), channels, cells, cells, device=like.device, dtype=like.dtype)
    return F.interpolate(coarse, size=like.shape[-2:], mode="bicubic", align_corners=True)


def warp(
    image: Tensor, landmarks: Tensor, masks: Tensor | None, config: AugmentConfig
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Random affine and elastic deformation of images, landmarks and masks alike."""
    batch = len(image)
    angle = torch.deg2rad(uniform((batch,), -config.rotation_deg, config.rotation_deg, image))
    zoom = torch.exp(uniform((batch, 1), -config.scale, config.scale, image))
    stretch = torch.exp(uniform((batch, 2), -config.anisotropy, config.anisotropy, image))
    sx, sy = (zoom * stretch).unbind(1)
    cos, sin = angle.cos(), angle.sin()
    # Maps output to input, in coordinates centred on the frame.
    matrix = torch.stack([torch.stack([cos / sx, -sin / sx], -1), torch.stack([sin / sy, cos / sy], -1)], 1)
    shift = uniform((batch, 1, 2), -config.shift, config.shift, image)
    size = image.shape[-1]
    axis = (torch.arange(size, device=image.device, dtype=image.dtype) + 0.5) / size - 0.5
    out = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    field = smooth_field(image, 2, 5) * config.elastic
    source = (out.reshape(1, -1, 2) - shift) @ matrix.transpose(1, 2)
    source = source.view(batch, size, size, 2) + field.permute(0, 2, 3, 1)
    grid = 2 * source
    warped = F.grid_sample(image, grid, padding_mode="zeros", align_corners=False)
    if masks is not None:
        small = F.interpolate(
            grid.permute(0, 3, 1, 2), size=masks.shape[-2:], mode="bilinear", align_corners=False
        )
        masks = F.grid_sample(masks, small.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)
    # Landmarks go the other way: solve M (p - t) + d(p) = q for p by fixed-point iteration.
    inverse = torch.linalg.inv(matrix).transpose(1, 2)
    half_pixel = 0.5 / size
    target = landmarks + half_pixel - 0.5
    point = target @ inverse + shift
    for _ in range(6):
        moved = F.grid_sample(field, 2 * point[:, None], padding_mode="border", align_corners=False)
        point = (target - moved[:, :, 0].transpose(1, 2)) @ inverse + shift
    return warped, point + 0.5 - half_pixel, masks


def rectangles(like: Tensor, low: float, high: float) -> Tensor:
    """One random upright rectangle per image, mask (B, 1, S, S); sides in [low, high] of the frame."""
    batch, size = len(like), like.shape[-1]
    side = uniform((batch, 2), low, high, like)
    centre = uniform((batch, 2), 0.0, 1.0, like)
    axis = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / size
    inside = (axis[None, :, None] - centre[:, None]).abs() < side[:, None] / 2
    return (inside[:, None, :, None, 1] & inside[:, None, None, :, 0]).to(like.dtype)


def text_like(like: Tensor) -> Tensor:
    """Marks like burnt-in text: rows of random strokes in a random corner region, mask (B, 1, S, S)."""
    batch, size = len(like), like.shape[-1]
    cells = max(size // 6, 8)
    strokes = (torch.rand(batch, 1, cells, cells, device=like.device) < 0.5).to(like.dtype)
    strokes = F.interpolate(strokes, size=(size, size), mode="nearest")
    box = rectangles(like, 0.04, 0.25)
    axis = torch.arange(size, device=like.device)
    lines = ((axis // max(size // 40, 1)) % 2 == 0).to(like.dtype)
    return strokes * box * lines[None, None, :, None]


def curved(image: Tensor, knots: int = 6) -> Tensor:
    """Grey values through a random increasing curve per image, piecewise linear, from 0 to 1."""
    steps = -torch.rand(len(image), knots, device=image.device, dtype=image.dtype).clamp_min(1e-3).log()
    height = F.pad(steps.cumsum(1) / steps.sum(1, keepdim=True), (1, 0))
    # A line of heights is looked up at the grey values, which bilinear sampling interpolates.
    at = torch.stack([2 * image[:, 0] - 1, torch.zeros_like(image[:, 0])], -1)
    return F.grid_sample(height[:, None, None], at, padding_mode="border", align_corners=True)


def locally_contrasted(image: Tensor) -> Tensor:
    """Contrast against the surroundings, raised or lowered by a random amount per image."""
    batch, size = len(image), image.shape[-1]
    around = F.interpolate(
        F.adaptive_avg_pool2d(image, 8), size=(size, size), mode="bicubic", align_corners=False
    )
    return image + (image - around) * uniform((batch, 1, 1, 1), -0.4, 1.2, image)


def lines_like(like: Tensor, most: int = 3) -> Tensor:
    """Curved lines of random width like tubes and wires, mask (B, 1, S, S) with soft edges."""
    batch, size = len(like), like.shape[-1]
    half, points = max(size // 2, 1), 12
    ends = uniform((batch, most, 3, 2), -0.1, 1.1, like)
    t = torch.linspace(0, 1, points, device=like.device, dtype=like.dtype)[:, None]
    start, middle, end = (ends[:, :, i, None] for i in range(3))
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    axis = (torch.arange(half, device=like.device, dtype=like.dtype) + 0.5) / half
    x, y = axis[None, None, :], axis[None, :, None]
    width = uniform((batch, most, 1, 1), 0.001, 0.008, like)
    width = width * (torch.rand(batch, most, 1, 1, device=like.device) < 0.6)
    mark = torch.zeros(batch, half, half, device=like.device, dtype=like.dtype)
    for line in range(most):
        a, b = curve[:, line, :-1], curve[:, line, 1:]
        nearest = torch.full_like(mark, torch.inf)
        for i in range(points - 1):
            p, d = a[:, i, :, None, None], (b - a)[:, i, :, None, None]
            along = ((x - p[:, 0]) * d[:, 0] + (y - p[:, 1]) * d[:, 1]) / d.square().sum(1).clamp_min(1e-9)
            along = along.clamp(0, 1)
            distance = (x - p[:, 0] - along * d[:, 0]).square() + (y - p[:, 1] - along * d[:, 1]).square()
            nearest = torch.minimum(nearest, distance)
        drawn = ((width[:, line] - nearest.sqrt()) * half + 0.5).clamp(0, 1) * (width[:, line] > 0)
        mark = torch.maximum(mark, drawn)
    return F.interpolate(mark[:, None], size=(size, size), mode="bilinear", align_corners=False)


def recolour(image: Tensor, config: AugmentConfig) -> Tensor:
    """Random gamma, contrast, local opacity, blur, noise, text, occlusion, collimation and inversion."""
    batch = len(image)
    frame = (image > 0).to(image.dtype)  # padding stays black whatever happens to the anatomy
    if config.curve_p:
        image = torch.lerp(image, curved(image), chance(config.curve_p, image))
    if config.local_contrast_p:
        image = torch.lerp(image, locally_contrasted(image), chance(config.local_contrast_p, image))
    x = image.clamp(0, 1) ** torch.exp(uniform((batch, 1, 1, 1), -config.gamma, config.gamma, image))
    gain = 1 + uniform((batch, 1, 1, 1), -config.contrast, config.contrast, image)
    offset = uniform((batch, 1, 1, 1), -config.contrast / 2, config.contrast / 2, image)
    x = (x - 0.5) * gain + 0.5 + offset
    if config.opacity_p:
        # Consolidation, effusion, soft tissue: a smooth field pulls grey values up where it is positive.
        haze = smooth_field(image, 1, 6).clamp(0, 2) * uniform((batch, 1, 1, 1), 0.1, config.opacity, image)
        x = x + chance(config.opacity_p, image) * haze * (0.85 - x).clamp_min(0)
    if config.blur_p:
        factor = 2 if image.shape[-1] <= 320 else 3
        low = F.interpolate(F.avg_pool2d(x, factor), size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = torch.lerp(x, low, chance(config.blur_p, image) * uniform((batch, 1, 1, 1), 0.3, 1.0, image))
    if config.noise:
        x = x + torch.randn_like(x) * uniform((batch, 1, 1, 1), 0, config.noise, image)
    if config.invert_p:
        x = torch.lerp(x, 1 - x, chance(config.invert_p, image))
    x = x.clamp(0, 1) * frame
    if config.text_p:
        mark = text_like(image) * chance(config.text_p, image)
        x = torch.lerp(x, uniform((batch, 1, 1, 1), 0.7, 1.0, image).expand_as(x), mark)
    if config.lines_p:
        mark = lines_like(image) * chance(config.lines_p, image) * uniform((batch, 1, 1, 1), 0.3, 1.0, image)
        x = torch.lerp(x, uniform((batch, 1, 1, 1), 0.6, 1.0, image).expand_as(x), mark)
    if config.occlusion_p:
        hole = rectangles(image, 0.05, 0.3) * chance(config.occlusion_p, image)
        x = torch.lerp(x, uniform((batch, 1, 1, 1), 0.0, 1.0, image).expand_as(x), hole)
    if config.collimation_p:
        border = uniform((batch, 4), 0.0, config.collimation, image)
        axis = (torch.arange(image.shape[-1], device=image.device, dtype=image.dtype) + 0.5) / image.shape[-1]
        columns = (axis > border[:, :1]) & (axis < 1 - border[:, 1:2])
        rows = (axis > border[:, 2:3]) & (axis < 1 - border[:, 3:])
        open_field = (rows[:, None, :, None] & columns[:, None, None, :]).to(x.dtype)
        x = x * torch.maximum(open_field, 1 - chance(config.collimation_p, image))
    return x


def augment(
    image: Tensor, landmarks: Tensor, masks: Tensor | None, config: AugmentConfig
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Deform, then recolour a batch; see the two functions."""
    image, landmarks, masks = warp(image, landmarks, masks, config)
    return recolour(image, config), landmarks, masks
