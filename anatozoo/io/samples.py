"""A radiograph that anyone may have, for demonstrations and golden results."""

from pathlib import Path

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
