"""How large a pixel is and how high for its width: which attribute counts, and when it is doubted."""

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from anatozoo.io.dicom_spacing import PixelSize, pixel_size
from anatozoo.io.images import read_image
from tests.unit.io.conftest import DicomWriter

SIZE = (2000, 2400)


def size(**attributes: Any) -> PixelSize:
    header = Dataset()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return pixel_size(header, SIZE)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, PixelSize(None, 1.0, ())),
        ({"NominalScannedPixelSpacing": [0.18, 0.18]}, PixelSize((0.18, 0.18), 1.0, ())),
        (
            {"NominalScannedPixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.15, 0.15]},
            PixelSize((0.15, 0.15), 1.0, ()),
        ),
        (
            {"NominalScannedPixelSpacing": [0.1, 0.1], "PixelSpacing": [0.3, 0.3]},
            PixelSize((0.3, 0.3), 1.0, ()),
        ),
        ({"PixelSpacing": [0.2, 0.1]}, PixelSize((0.1, 0.2), 2.0, ("non_square_pixels",))),
        ({"NominalScannedPixelSpacing": [0.1, 0.2]}, PixelSize((0.2, 0.1), 0.5, ("non_square_pixels",))),
        ({"PixelAspectRatio": [2, 1]}, PixelSize(None, 2.0, ("non_square_pixels",))),
        ({"PixelAspectRatio": [3, 4]}, PixelSize(None, 0.75, ("non_square_pixels",))),
        ({"PixelAspectRatio": [1, 1]}, PixelSize(None, 1.0, ())),
        ({"PixelAspectRatio": [0, 1]}, PixelSize(None, 1.0, ())),
        ({"PixelAspectRatio": [7]}, PixelSize(None, 1.0, ())),
        ({"PixelAspectRatio": [1, 1], "PixelSpacing": [0.14, 0.14]}, PixelSize((0.14, 0.14), 1.0, ())),
    ],
)
def test_which_attribute_counts(attributes: dict, expected: PixelSize) -> None:
    assert size(**attributes) == expected


@pytest.mark.parametrize(
    ("factor", "believed"), [(0.99, False), (1.0, True), (2.0, True), (2.01, False), (100, False)]
)
def test_magnification(factor: float, believed: bool) -> None:
    found = size(ImagerPixelSpacing=[0.2, 0.2], EstimatedRadiographicMagnificationFactor=factor)
    assert found.flags == (() if believed else ("magnification_ignored",))
    step = 0.2 / factor if believed else 0.2
    assert found.spacing_mm == pytest.approx((step, step))


@pytest.mark.parametrize(
    ("imager", "agree"),
    [(0.97, False), (0.985, True), (1.0, True), (1.25, True), (1.99, True), (2.02, False), (10, False)],
)
def test_spacings_that_no_magnification_explains(imager: float, agree: bool) -> None:
    found = size(PixelSpacing=[0.2, 0.2], ImagerPixelSpacing=[0.2 * imager, 0.2 * imager])
    assert found.spacing_mm == (0.2, 0.2)
    assert found.flags == (() if agree else ("spacing_inconsistent",))


def test_spacings_of_other_proportions() -> None:
    found = size(PixelSpacing=[0.2, 0.2], ImagerPixelSpacing=[0.25, 0.2])
    assert found == PixelSize((0.2, 0.2), 1.0, ("spacing_inconsistent",))


@pytest.mark.parametrize(
    ("step", "believed"), [(0.002, False), (0.0022, True), (0.4, True), (0.42, False), (1.0, False)]
)
def test_fields_that_no_chest_fits(step: float, believed: bool) -> None:
    assert size(PixelSpacing=[step, step]).flags == (() if believed else ("spacing_implausible",))


@pytest.mark.parametrize(
    ("ratio", "aspect"), [(1.0009, 1.0), (1.0011, 1.0011), (3.99, 3.99), (1 / 3.99, 1 / 3.99)]
)
def test_rounding_is_no_proportion(ratio: float, aspect: float) -> None:
    assert size(PixelSpacing=[0.1 * ratio, 0.1]).aspect == pytest.approx(aspect)


@pytest.mark.parametrize(
    "attributes",
    [
        {"PixelSpacing": [0.41, 0.1]},
        {"PixelSpacing": [0.1, 0.41]},
        {"PixelAspectRatio": [100, 1]},
        {"PixelAspectRatio": [1, 5]},
        {"PixelSpacing": [0.1, 0.1], "PixelAspectRatio": [2, 1]},
    ],
)
def test_proportions_that_are_not_believed(attributes: dict) -> None:
    found = size(**attributes)
    assert found.aspect == 1.0
    assert found.flags == ("pixel_aspect_ignored",)


def test_an_image_carries_the_proportions_of_its_spacing(write_dicom: DicomWriter, xray: np.ndarray) -> None:
    path = write_dicom(xray, PixelAspectRatio=[2, 1])
    assert (read_image(path).aspect, read_image(path).spacing_mm) == (2.0, None)
    # What the user gives counts before what the file says.
    assert read_image(path, spacing_mm=(0.2, 0.2)).aspect == 1.0
    assert read_image(path, spacing_mm=(0.2, 0.3)).aspect == pytest.approx(1.5)
    assert read_image(xray, spacing_mm=(0.2, 0.3)).aspect == pytest.approx(1.5)
    assert read_image(read_image(path), spacing_mm=(0.3, 0.2)).aspect == pytest.approx(2 / 3)
