"""Augmentation of volumes with label maps: MONAI's transforms, and motion between slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.nn.deform import reorder


@dataclass(frozen=True)
class StackAugment:
    """Strengths of the augmentation; 0 switches a transform off.

    Attributes:
        rotation_deg: largest rotation within slices.
        scale: largest change of size, as a share.
        reorder_p: probability that a stack gets one of 16 random orders: slices, rows or columns mirrored,
            rows and columns exchanged. For files without directions.
        gamma: largest change of the exponent of intensities, as a share.
        contrast: largest change of the factor of intensities, as a share.
        noise: largest standard deviation of Gaussian noise.
        blur: largest standard deviation of a blur within slices, in pixels.
        bias: largest coefficient of a smooth multiplicative field, as of coils.
        probability: probability of each transform.
    """

    rotation_deg: float = 30.0
    scale: float = 0.15
    reorder_p: float = 0.0
    gamma: float = 0.3
    contrast: float = 0.2
    noise: float = 0.03
    blur: float = 0.8
    bias: float = 0.2
    probability: float = 0.5


@dataclass(frozen=True)
class Motion:
    """Motion between slices of one stack, as between different breath-holds.

    The motion augmentation of Oktay et al., IEEE TMI 2018, in the rows 3D-Seg-MAug, AE-Seg-M and ACNN-Seg.

    Attributes:
        shift_px: standard deviation of the shift of a slice in pixels of the frame; 0 switches it off.
        probability: probability that a stack is affected.
        labels_follow: shift labels with the image. If False, the network learns to segment the heart as it
            would be without motion.
    """

    shift_px: float = 0.0
    probability: float = 0.5
    labels_follow: bool = True


def shift_slices(volume: Tensor, shift: Tensor) -> Tensor:
    """Shift every slice within its plane, linear interpolation, 0 from beyond the border.

    Args:
        volume: (B, C, D, H, W).
        shift: (B, D, 2) pixels, (x, y); positive moves the content to higher indices.
    """
    batch, _, depth, height, width = volume.shape
    slices = volume.transpose(1, 2).flatten(0, 1)
    size = shift.new_tensor([width, height])
    matrix = torch.eye(2, 3, device=volume.device).repeat(batch * depth, 1, 1)
    matrix[:, :, 2] = -2 * shift.flatten(0, 1) / size
    grid = F.affine_grid(matrix, list(slices.shape), align_corners=False).to(volume.dtype)
    moved = F.grid_sample(slices, grid, padding_mode="zeros", align_corners=False)
    return moved.unflatten(0, (batch, depth)).transpose(1, 2)


def move(image: Tensor, labels: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """Shift the slices of some of the stacks.

    Args:
        image: (B, 1, D, H, W).
        labels: (B, D, H, W).
        motion: size and probability of the shifts.
    """
    if not motion.shift_px or not motion.probability:
        return image, labels
    affected = torch.rand(len(image), 1, 1, device=image.device) < motion.probability
    shift = motion.shift_px * affected * torch.randn(len(image), image.shape[2], 2, device=image.device)
    # Whole pixels, so that images are not blurred and labels not interpolated.
    shift = shift.round()
    moved = shift_slices(image, shift)
    if not motion.labels_follow:
        return moved, labels
    return moved, shift_slices(labels[:, None].float(), shift)[:, 0].round().to(labels.dtype)


def augment(image: Tensor, labels: Tensor, config: StackAugment) -> tuple[Tensor, Tensor]:
    """Transform every stack by its own random parameters, image and labels alike.

    Args:
        image: (B, 1, D, H, W) in [0, 1].
        labels: (B, D, H, W).
        config: strengths.

    Returns:
        Image in [0, 1] and labels, of the same shapes.
    """
    transforms = _transforms(config)
    images, maps = [], []
    for stack, label in zip(image, labels, strict=True):
        if config.reorder_p and float(torch.rand(())) < config.reorder_p:
            order = int(torch.randint(16, ()))
            stack, label = reorder(stack, order), reorder(label, order)
        transforms.set_random_state(seed=int(torch.randint(2**31, ())))
        item = transforms({"image": stack, "labels": label[None]})
        images.append(_plain(item["image"]).clamp(0, 1))
        maps.append(_plain(item["labels"])[0].to(labels.dtype))
    return torch.stack(images), torch.stack(maps)


def crop(
    image: Tensor, labels: Tensor, shape: Sequence[int], *, random: bool, foreground: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A central or random crop of each stack.

    Args:
        image: (B, 1, ...), each side at least that of `shape`.
        labels: (B, ...).
        shape: shape of the crop.
        random: crop each stack at random.
        foreground: share of the random crops that lie around a random voxel of the anatomy.
    """
    room = [side - wanted for side, wanted in zip(labels.shape[1:], shape, strict=True)]
    images, maps = [], []
    for stack, label in zip(image, labels, strict=True):
        start = [int(torch.randint(free + 1, ())) if random else free // 2 for free in room]
        if random and foreground and float(torch.rand(())) < foreground and bool(label.any()):
            anatomy = label.nonzero()
            centre = anatomy[int(torch.randint(len(anatomy), ()))].tolist()
            start = [
                min(max(at - side // 2, 0), free) for at, side, free in zip(centre, shape, room, strict=True)
            ]
        part = tuple(slice(first, first + side) for first, side in zip(start, shape, strict=True))
        images.append(stack[(slice(None), *part)])
        maps.append(label[part])
    return torch.stack(images), torch.stack(maps)


def _plain(found: Any) -> Tensor:
    """The result of a transform without MONAI's metadata, which not all transforms accept."""
    plain: Tensor = found.as_tensor() if hasattr(found, "as_tensor") else found
    return plain


@cache
def _transforms(config: StackAugment) -> Any:
    # Imported when first used: it takes seconds.
    from monai.transforms.compose import Compose
    from monai.transforms.intensity import dictionary as intensity
    from monai.transforms.spatial import dictionary as spatial

    c = config
    chosen: list[Any] = []
    keys = ("image", "labels")
    if c.rotation_deg or c.scale:
        angle = c.rotation_deg * torch.pi / 180
        chosen.append(
            spatial.RandAffined(
                keys,
                prob=c.probability,
                rotate_range=(angle, 0.0, 0.0),  # about the axis across the slices
                scale_range=(0.0, c.scale, c.scale),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            )
        )
    if c.bias:
        chosen.append(intensity.RandBiasFieldd("image", prob=c.probability, coeff_range=(0.0, c.bias)))
    if c.gamma:
        chosen.append(
            intensity.RandAdjustContrastd("image", prob=c.probability, gamma=(1 - c.gamma, 1 + c.gamma))
        )
    if c.contrast:
        chosen.append(intensity.RandScaleIntensityd("image", factors=c.contrast, prob=c.probability))
    if c.blur:
        within = (0.0, c.blur)
        chosen.append(
            intensity.RandGaussianSmoothd(
                "image", sigma_x=(1e-3, 2e-3), sigma_y=within, sigma_z=within, prob=c.probability
            )
        )
    if c.noise:
        chosen.append(intensity.RandGaussianNoised("image", prob=c.probability, std=c.noise))
    return Compose(chosen)
