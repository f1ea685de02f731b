"""A radiograph and label maps that anyone may have, for demonstrations and golden results."""

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
