"""Black squares painted over a radiograph, to measure how a model copes with what it cannot see.

The protocol of Gaggion et al., "Improving anatomical plausibility in medical image segmentation via hybrid
graph neural networks", IEEE TMI 2022: some random positions, the same for every image.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anatozoo.io.images import Image

FRAME = 1024
LOW, HIGH = 256, 768


def occlusion_centres(count: int, seed: int = 0) -> np.ndarray:
    """Random centres of squares: (count, 2) integers (x, y) in 256..767 of a 1024 x 1024 frame."""
    return np.random.default_rng(seed).integers(LOW, HIGH, size=(count, 2))


def occlude(image: "Image", side: float, centre: tuple[float, float] | np.ndarray) -> "Image":
    """Paint one black square.

    Args:
        image: radiograph of any size, taken as centred in a square frame of 1024 x 1024.
        side: side of the square in pixels of that frame; 0 leaves the image as it is.
        centre: (x, y) in that frame.

    Returns:
        A copy in which the square holds the image's smallest value; parts beyond the image are cut off.
    """
    width, height = image.size
    longest = max(width, height)
    scale = longest / FRAME
    padding = np.array([longest - width, longest - height]) / 2
    start = np.rint((np.asarray(centre) - side / 2) * scale - padding).astype(int)
    stop = start + round(side * scale)
    pixels = image.pixels.copy()
    rows, columns = (slice(max(a, 0), max(b, 0)) for a, b in zip(start[::-1], stop[::-1], strict=True))
    pixels[rows, columns] = pixels.min()
    return replace(image, pixels=pixels)
