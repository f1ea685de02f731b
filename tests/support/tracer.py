"""A model that finds landmarks of masks without a network: an ellipse of each mask's mean and spread."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anatozoo.frames.spec import FrameSpec
from anatozoo.organs import CHEST_ORGANS
from anatozoo.tasks.mask_contours import MaskContourTask

ORGANS = dict(CHEST_ORGANS)
PLACES = {
    "lung_right": (28, 52, 14, 32),
    "lung_left": (73, 52, 13, 30),
    "heart": (52, 66, 11, 14),
    "clavicle_right": (30, 14, 13, 4),
    "clavicle_left": (70, 14, 13, 4),
}
"""Ellipses (x, y, half width, half height) in a picture of 100 x 100 pixels."""


class Tracer(MaskContourTask):
    """Landmarks on the ellipse that has a plane's mean and spread; of empty planes in the middle."""

    kind = "mask-contours"
    checkpoint_name, checkpoint_version = "tracer-phantom", "1.0.0"

    def __init__(self, organs: Any = None, side: int = 128) -> None:
        super().__init__(organs or ORGANS, FrameSpec(side))
        self.unused = nn.Parameter(torch.zeros(1))

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Landmarks (B, N, 2) of planes (B, organs, S, S)."""
        place = torch.arange(self.side, dtype=image.dtype) / self.side
        found = []
        for plane, count in zip(image.unbind(1), self.organs.values(), strict=True):
            middle, radius = [], []
            for axis in (1, 2):
                share = plane.sum(axis) / plane.sum((1, 2)).clamp_min(1e-6)[:, None]
                mean = (share * place).sum(1, keepdim=True)
                middle.append(mean)
                radius.append(2 * (share * (place - mean) ** 2).sum(1, keepdim=True).sqrt() + 1e-3)
            turn = torch.arange(count) * (2 * math.pi / count)
            x = middle[0] + radius[0] * turn.cos()
            y = middle[1] + radius[1] * turn.sin()
            found.append(torch.stack([x, y], -1))
        return torch.cat(found, 1)


def ellipse(organ: str, size: int = 300, *, mirrored: bool = False) -> np.ndarray:
    """The mask of an organ, (size, size) bool."""
    x, y, rx, ry = (value * size / 100 for value in PLACES[organ])
    if mirrored:
        x = size - 1 - x
    rows, columns = np.mgrid[:size, :size]
    return ((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 < 1


def chest(*organs: str, size: int = 300, mirrored: bool = False) -> dict[str, np.ndarray]:
    """Masks of organs, by default all."""
    return {organ: ellipse(organ, size, mirrored=mirrored) for organ in organs or ORGANS}


def label_map(*organs: str, size: int = 300) -> np.ndarray:
    """A label map of organs, 1, 2, ... in their order; later ones cover earlier ones."""
    labels = np.zeros((size, size), np.uint8)
    for value, mask in enumerate(chest(*organs, size=size).values(), start=1):
        labels[mask] = value
    return labels
