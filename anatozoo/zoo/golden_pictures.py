"""Pictures for golden tests: small, in 8 bits, and free for everybody."""

from pathlib import Path

import numpy as np

SIDE = 512
"""Pixels of the long side at most."""


def golden_radiograph() -> np.ndarray:
    """The MIT-licensed radiograph of ``pydicom-data``, 8 bits, long side 512, bone white.

    Raises:
        DataError: the package is not installed.
    """
    from anatozoo.io.samples import sample_radiograph

    return golden_picture(sample_radiograph())


def golden_picture(path: Path) -> np.ndarray:
    """A picture as a golden test keeps it, (H, W) uint8, long side at most 512."""
    import cv2

    from anatozoo.io.images import read_image
    from anatozoo.io.intensity import normalize_intensity

    pixels = normalize_intensity(read_image(path).pixels)
    scale = min(1.0, SIDE / max(pixels.shape))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(255 * small), np.uint8)
