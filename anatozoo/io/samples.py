"""A radiograph and label maps that anyone may have, for demonstrations and golden results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError

RADIOGRAPH = "RG1_UNCR.dcm"
"""Chest, CR, MONOCHROME1, 1955 rows of 1841 pixels, no usable spacing; a sick patient."""


def sample_radiograph() -> Path:
    """The chest radiograph of the package pydicom-data (MIT licence); the network is not used.

    Raises:
        DataError: the package is not installed.
    """
    from pydicom.data import get_testdata_file

    found = get_testdata_file(RADIOGRAPH, download=False)
    if not isinstance(found, str) or not Path(found).is_file():
        raise DataError(
            f"the radiograph {RADIOGRAPH} comes with the package pydicom-data; run `pip install "
            "pydicom-data`, or segment an image of yours: `anatozoo predict NAME IMAGE --out DIR`."
        )
    return Path(found)


def sample_label_map(shape: tuple[int, ...], labels: int) -> npt.NDArray[np.uint8]:
    """A label map with faults: a ball at a place of its own for each label, and a grid of background in them.

    Args:
        shape: (H, W) or (D, H, W).
        labels: how many, from 1.

    Returns:
        uint8 of that shape, always the same.
    """
    places = np.random.default_rng(0).uniform(0.3, 0.7, (labels, len(shape)))
    axes = np.meshgrid(*(np.linspace(0, 1, side) for side in shape), indexing="ij", sparse=True)
    values = np.zeros(shape, np.uint8)
    for value, place in enumerate(places, start=1):
        away = sum((axis - middle) ** 2 for axis, middle in zip(axes, place, strict=True))
        values[away < 0.18**2] = value
    values[(slice(None, None, 7),) * values.ndim] = 0
    return values


_CHEST = {
    "lung_right": ((0.29, 0.5), (0.14, 0.31)),
    "lung_left": ((0.72, 0.5), (0.13, 0.3)),
    "heart": ((0.56, 0.66), (0.15, 0.14)),
    "clavicle_right": ((0.31, 0.2), (0.13, 0.025)),
    "clavicle_left": ((0.69, 0.2), (0.13, 0.025)),
}


def sample_chest_map(organs: Sequence[str], shape: tuple[int, int] = (240, 256)) -> npt.NDArray[np.uint8]:
    """A label map of a chest made of ellipses, one for each organ; later organs cover earlier ones.

    Args:
        organs: names, in the order of their labels 1, 2, ...; others than the chest's are circles.
        shape: (H, W).

    Returns:
        uint8 of that shape, always the same.
    """
    places = np.random.default_rng(0).uniform(0.3, 0.7, (len(organs), 2))
    y, x = np.meshgrid(*(np.linspace(0, 1, side) for side in shape), indexing="ij", sparse=True)
    labels = np.zeros(shape, np.uint8)
    for value, (organ, place) in enumerate(zip(organs, places, strict=True), start=1):
        (cx, cy), (rx, ry) = _CHEST.get(organ, (tuple(place), (0.1, 0.1)))
        labels[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = value
    return labels
