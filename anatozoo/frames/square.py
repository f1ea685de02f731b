"""The square frame of networks for radiographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.frames.geometry import Geometry
from anatozoo.io.intensity import Intensity, to_unit_range

if TYPE_CHECKING:
    from anatozoo.io.images import Image


def to_network(
    image: Image, size: int, intensity: Intensity = "percentiles"
) -> tuple[npt.NDArray[np.float32], Geometry]:
    """Make a network's square input: scale grey values, resize in proportion, centre on black.

    Pixels of the input are square, even if those of the image are not.

    Args:
        image: the image as read.
        size: side of the network's frame in pixels.
        intensity: how grey values become [0, 1], see `anatozoo.io.intensity.to_unit_range`.

    Returns:
        ``(size, size)`` float32 in [0, 1], and the geometry from the image to it.

    Raises:
        ImageError: the image is constant.
        GeometryError: `size` is not positive.
    """
    geometry = Geometry.fit(image.size, (size, size), aspect=image.aspect)
    return geometry.image_to_target(to_unit_range(image.pixels, intensity, image.black_white)), geometry
