"""Masks drawn from landmarks anew in every step: other shapes, and the faults that real masks have."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.nn.augment import uniform
from anatozoo.nn.deform import smooth_field
from anatozoo.nn.graphs import organ_slices

SIDES = ("lung", "clavicle")
"""Organs of which some data sets do not tell the sides apart."""
IN_FRONT = {"lung_right": ("heart", "clavicle_right"), "lung_left": ("heart", "clavicle_left")}
"""What cuts an organ in label maps that give each pixel one label."""

FINER = 4
"""How many times as fine as the frame the grid is on which masks are drawn."""

BORDERS = {"lung_left": (21, 27, 40, -1), "lung_right": (21, 29, 43, 1)}
"""Landmarks of a lung at the outer and inner corners of its base and at the end of the heart's border, and in
which direction of x the heart lies."""


@dataclass(frozen=True)
class MaskAugment:
    """Strengths; 0 switches one off, ``*_p`` are probabilities per image.

    Attributes:
        rotation_deg: largest rotation.
        scale: largest change of size, as the logarithm of the factor.
        anisotropy: the same along each axis.
        shift: largest shift, as a share of the frame.
        elastic: size of a smooth displacement with 4 control points along each axis.
        bend: size of a finer one, with 9.
        organ_scale: largest change of size of an organ by itself.
        organ_shift: largest shift of an organ by itself.
        behind_p: a lung also takes up what the heart hides, as some data sets have it.
        exclusive_p: organs in front cut those behind.
        merge_p: lungs share one mask, and clavicles share one.
        drop_p: some organs are missing.
        coarse_p: the mask was drawn at a lower resolution.
        jagged_p: its edges are jagged.
        hole_p: it has small holes and specks.
        hard_p: pixels are in or out.
        soft_p: edges are blurred.
    """

    rotation_deg: float = 12.0
    scale: float = 0.25
    anisotropy: float = 0.12
    shift: float = 0.08
    elastic: float = 0.012
    bend: float = 0.004
    organ_scale: float = 0.05
    organ_shift: float = 0.01
    behind_p: float = 0.25
    exclusive_p: float = 0.4
    merge_p: float = 0.35
    drop_p: float = 0.4
    coarse_p: float = 0.3
    jagged_p: float = 0.2
    hole_p: float = 0.15
    hard_p: float = 0.4
    soft_p: float = 0.1


def grown_behind(points: Tensor, organs: Mapping[str, int], config: MaskAugment) -> tuple[Tensor, Tensor]:
    """Landmarks of lungs that some data sets draw through behind the heart.

    The inner corner of a lung's base moves towards the middle, the border to the heart becomes straighter,
    and the base is drawn out.

    Args:
        points: (B, N, 2) in [0, 1], upright.
        organs: landmarks per organ.
        config: strengths.

    Returns:
        The landmarks, and in which images they moved, (B,) bool.
    """
    batch, result = len(points), points.clone()
    some = chosen(batch, config.behind_p, points)
    for organ, (outer, corner, end, side) in BORDERS.items():
        part = organ_slices(organs).get(organ)
        if part is None or organs[organ] <= end:
            continue
        far = uniform((batch, 1), 0.02, 0.15 if organ == "lung_left" else 0.06, points)
        away = torch.cat([side * far, uniform((batch, 1), -0.01, 0.05, points)], 1)[:, None]
        own = points[:, part].clone()
        share = torch.linspace(1, 0, end - corner + 1, device=points.device)[:, None]
        line = own[:, end, None] + share * (own[:, corner, None] + away - own[:, end, None])
        straight = uniform((batch, 1, 1), 0.5, 1.0, points)
        base = torch.linspace(0, 1, corner - outer + 1, device=points.device)[:, None]
        drawn_out = own[:, outer : corner + 1] + base * away
        own[:, corner : end + 1] = torch.lerp(own[:, corner : end + 1] + share * away, line, straight)
        own[:, outer : corner + 1] = drawn_out
        result[:, part] = torch.where(some[:, None, None], own, points[:, part])
    return result, some


def moved(points: Tensor, organs: Mapping[str, int], config: MaskAugment) -> Tensor:
    """Landmarks (B, N, 2) in [0, 1] of other bodies: affine, elastic, and each organ a little by itself."""
    batch = len(points)
    angle = torch.deg2rad(uniform((batch,), -config.rotation_deg, config.rotation_deg, points))
    factor = torch.exp(
        uniform((batch, 1), -config.scale, config.scale, points)
        + uniform((batch, 2), -config.anisotropy, config.anisotropy, points)
    )
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    result = points + _elastic(points, 4, config.elastic) + _elastic(points, 9, config.bend)
    for part in organ_slices(organs).values():
        own = result[:, part]
        centre = own.mean(1, keepdim=True)
        grown = torch.exp(uniform((batch, 1, 2), -config.organ_scale, config.organ_scale, points))
        aside = uniform((batch, 1, 2), -config.organ_shift, config.organ_shift, points)
        result[:, part] = (own - centre) * grown + centre + aside
    shift = uniform((batch, 1, 2), -config.shift, config.shift, points)
    return ((result - 0.5) * factor[:, None]) @ turn.transpose(1, 2) + 0.5 + shift


def _elastic(points: Tensor, cells: int, strength: float) -> Tensor:
    field = strength * smooth_field(len(points), 2, (48, 48), cells, points)
    at = F.grid_sample(field, 2 * points[:, None] - 1, padding_mode="border", align_corners=True)
    return at[:, :, 0].transpose(1, 2)


def drawn(points: Tensor, organs: Mapping[str, int], side: int) -> Tensor:
    """Shares (B, organs, side, side) of the frame's pixels that each contour covers.

    Contours are filled as everywhere in anatozoo, on a grid four times as fine, and then averaged.

    Args:
        points: (B, N, 2) in [0, 1]; u stands at the pixel u · side, counted from the first one's centre.
        organs: landmarks per organ.
        side: of the frame.
    """
    fine = (points.double().cpu().numpy() * side + 0.5) * FINER - 0.5
    planes = np.empty((len(points), len(organs), side, side), np.uint8)
    for item, contours in zip(planes, fine, strict=True):
        for plane, part in zip(item, organ_slices(organs).values(), strict=True):
            mask = np.uint8(255) * draw_organ_mask(contours[part], (FINER * side,) * 2).view(np.uint8)
            cv2.resize(mask, (side, side), dst=plane, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(planes).to(points.device).to(points.dtype) / 255


def chosen(batch: int, p: float, like: Tensor) -> Tensor:
    """(B,) bool, true with probability p."""
    return torch.rand(batch, device=like.device) < p


def present(batch: int, names: list[str], config: MaskAugment, like: Tensor) -> Tensor:
    """Which organs a mask holds, (B, organs) bool: all, no clavicles, lungs alone, or any; never none."""
    everything = torch.ones(batch, len(names), dtype=torch.bool, device=like.device)
    lungs = torch.tensor([name.startswith("lung") for name in names], device=like.device)
    trunk = lungs | torch.tensor([name == "heart" for name in names], device=like.device)
    free = torch.rand(batch, len(names), device=like.device) < 0.6
    kind = torch.randint(0, 3, (batch,), device=like.device)[:, None]
    some = torch.where(kind == 0, lungs, torch.where(kind == 1, trunk, free))
    some = torch.where(some.any(1, keepdim=True), some, everything)
    return torch.where(chosen(batch, config.drop_p, like)[:, None], some, everything)


def spoiled(
    planes: Tensor, names: list[str], config: MaskAugment, known: Tensor, whole: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Masks as other data sets have them.

    Args:
        planes: (B, organs, S, S) in [0, 1], clean and whole; 0 for organs that are not known.
        names: of the organs.
        config: strengths.
        known: (B, organs) bool, organs with landmarks; no mask shows another.
        whole: (B,) bool, images in which no organ cuts another: what is behind could not be told.

    Returns:
        The planes, and which organs they hold, (B, organs) bool, never none if one is known.
    """
    batch = len(planes)
    held = present(batch, names, config, planes) & known
    held = torch.where(held.any(1, keepdim=True), held, known)
    planes = _rough(planes.clone(), config) * held[:, :, None, None]
    cut = chosen(batch, config.exclusive_p, planes)
    cut = (cut if whole is None else cut & ~whole)[:, None, None]
    left = planes.clone()
    for i, name in enumerate(names):
        for other in IN_FRONT.get(name, ()):
            if other in names:
                left[:, i] = torch.where(cut, left[:, i] * (1 - planes[:, names.index(other)]), left[:, i])
    for kind in SIDES:
        both = [i for i, name in enumerate(names) if name.startswith(kind)]
        if len(both) == 2:
            together = chosen(batch, config.merge_p, planes) & held[:, both].all(1)
            union = left[:, both].amax(1, keepdim=True).expand(-1, 2, -1, -1)
            left[:, both] = torch.where(together[:, None, None, None], union, left[:, both])
    return left, held


def _rough(planes: Tensor, config: MaskAugment) -> Tensor:
    """Coarse, jagged, with holes and specks, hard or soft; each image in its own way."""
    batch, _, side, _ = planes.shape

    def some(p: float) -> Tensor:
        return chosen(batch, p, planes).nonzero()[:, 0]

    if len(rows := some(config.coarse_p)):
        low = int(torch.randint(side // 4, side, ()))
        coarse = F.interpolate(planes[rows], size=(low, low), mode="area").gt(0.5).to(planes.dtype)
        planes[rows] = F.interpolate(coarse, size=(side, side), mode="nearest-exact")
    if len(rows := some(config.jagged_p)):
        part = F.avg_pool2d(planes[rows], 5, 1, 2, count_include_pad=False)
        strength = uniform((len(rows), 1, 1, 1), 0.1, 0.6, planes)
        cells = int(torch.randint(side // 6, side // 2, ()))
        # Noise counts where the blurred mask is neither 0 nor 1, so it moves the edge to and fro.
        noise = strength * smooth_field(len(rows), 1, (side, side), cells, planes)
        planes[rows] = (part + noise * 4 * part * (1 - part) > 0.5).to(planes.dtype)
    if len(rows := some(config.hole_p)):
        cells = int(torch.randint(side // 12, side // 4, ()))
        field = smooth_field(len(rows), 1, (side, side), cells, planes)
        spots = torch.randint(0, planes.shape[1], (len(rows),), device=planes.device)
        faulty = planes[rows] * (field < 2.2)
        faulty[torch.arange(len(rows)), spots] += field[:, 0] < -2.8
        planes[rows] = faulty.clamp_max_(1)
    if len(rows := some(config.hard_p)):
        planes[rows] = planes[rows].gt(0.5).to(planes.dtype)
    if len(rows := some(config.soft_p)):
        planes[rows] = F.avg_pool2d(planes[rows], 5, 1, 2, count_include_pad=False)
    return planes
