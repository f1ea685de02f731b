"""Check that an image is a frontal chest radiograph, upright and not mirrored.

Networks that segment chests draw lungs into any image: a contour on an image that is turned by 90° looks as
plausible as any other. A separate small network therefore checks the image. It scores each of the eight ways
to turn and mirror the image back, by how much the result resembles an upright frontal chest; the largest
score tells the orientation. If none is large, the image shows something else.

The weights beside this file come from ``experiments/chest_view_training.py`` and research data: see NOTICE.
``experiments/chest_view_evidence.py`` measures what the check finds, and what it flags for no reason.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from anatozoo.io.images import Image

WEIGHTS = Path(__file__).with_name("chest_view.safetensors")
SIDE = 64
WIDTHS = (12, 24, 48, 48)
DARK = 0.02
"""Rows and columns at the image's edges up to this grey level (of 1) count as padding."""
SURE, MIRRORED, DOUBT = 0.5, 0.8, 0.1
"""Chosen on training images: smallest probability of an orientation; smallest share of it for mirrored, which
is hardest to detect; largest probability of not being a chest at which mirrored is accepted."""
TURNS = (0, 90, 180, 270)

Array = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


class ChestView(nn.Module):
    """Logits of the eight orientations of an image, turned and mirrored, and of something else."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in WIDTHS:
            kernel = 5 if before == 1 else 3
            layers += [
                nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            before = width
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(before * (SIDE // 2 ** len(WIDTHS)) ** 2, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Nine logits of each image.

        Args:
            pictures: (B, 1, 64, 64), from `view_input`.

        Returns:
            (B, 9): turned clockwise by 0, 90, 180, 270°; mirrored and then turned by these; something else.
        """
        mean, deviation = pictures.mean((2, 3), keepdim=True), pictures.std((2, 3), keepdim=True)
        x = (pictures - mean) / (deviation + 0.05)
        # `rot90` turns counter-clockwise: each orientation is undone, and one network scores all results.
        turned = [x.rot90(k, (2, 3)) for k in range(4)]
        ways = torch.cat([*turned, *(picture.flip(3) for picture in turned)])
        scores = self.head(self.dropout(self.body(ways).flatten(1))).view(8, len(x)).T
        return torch.cat([scores, scores.new_zeros(len(x), 1)], 1)


def view_input(frame: Array) -> Array:
    """Input of `ChestView`: the image without dark edges, resized to 64 × 64.

    Args:
        frame: (H, W) in [0, 1], bone white, in a network's frame or not.

    Returns:
        (64, 64) float32.
    """
    small = cv2.resize(without_edges(frame), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def without_edges(frame: Array) -> Array:
    """The part of an image (H, W) in [0, 1] between the outermost rows and columns that are not dark."""
    rows, columns = (np.flatnonzero(frame.max(axis) > DARK) for axis in (1, 0))
    return frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else frame


@torch.inference_mode()
def view_probabilities(frames: Sequence[Array], network: ChestView | None = None) -> Probabilities:
    """Probabilities of the nine answers of `ChestView`.

    Args:
        frames: pictures (H, W) in [0, 1], bone white.
        network: None takes the one that comes with anatozoo.

    Returns:
        (pictures, 9).
    """
    inputs = torch.from_numpy(np.stack([view_input(frame) for frame in frames]))[:, None]
    found: Probabilities = (network or _shipped())(inputs).softmax(1).double().numpy()
    return found


def flags_of_view(probability: Probabilities) -> tuple[str, ...]:
    """Flags for faults of an image's view; empty if there are none.

    ``turned_90``, ``turned_180``, ``turned_270``: turned clockwise, in degrees. ``mirrored``: left and right
    are exchanged, so that a result's left lung is the patient's right one (or the heart lies on the right).
    Both: mirrored, then turned; mirrored and turned by 180° is upside down. ``not_a_frontal_chest``: a
    lateral view, another part of the body, inverted grey values, or not a radiograph.

    Args:
        probability: (9,), of `view_probabilities`.
    """
    plain, mirrored = probability[:4], probability[4:8]
    turn = int((plain + mirrored).argmax())
    both = float(plain[turn] + mirrored[turn])
    if both <= SURE:
        return ("not_a_frontal_chest",)
    flags = [f"turned_{TURNS[turn]}"] if turn else []
    if mirrored[turn] > MIRRORED * both:
        # Lateral views resemble a mirrored chest more than an upright one.
        flags.append("mirrored" if probability[8] < DOUBT else "not_a_frontal_chest")
    return tuple(flags)


def with_view_flags(images: Sequence["Image"], frames: Sequence[Array]) -> list["Image"]:
    """Images with the flags of their views added, none of them twice.

    Args:
        images: the images as read.
        frames: the same images in [0, 1], in any frame.
    """
    views = [flags_of_view(probability) for probability in view_probabilities(frames)]
    return [
        replace(image, flags=tuple(dict.fromkeys((*image.flags, *view))))
        for image, view in zip(images, views, strict=True)
    ]


@cache
def _shipped() -> ChestView:
    from safetensors.torch import load_file

    network = ChestView()
    # Batch normalisation's step counter is not needed here and not stored.
    state = {name: x.float() for name, x in load_file(WEIGHTS).items()}
    network.load_state_dict(state | {k: v for k, v in network.state_dict().items() if k not in state})
    return network.eval()
