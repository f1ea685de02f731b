"""Windows and VOI LUTs: their functions, when they are not believed; polarity; the rescale before them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from anatozoo.errors import ImageError
from anatozoo.io.dicom_grey import polarity_of
from anatozoo.io.dicom_window import Window, shown_values
from anatozoo.io.images import read_image
from anatozoo.io.intensity import normalize_intensity
from tests.unit.io.conftest import DicomWriter


def ramp(top: int = 4095) -> npt.NDArray[np.uint16]:
    """Each value from 0 to `top` about as often."""
    return np.linspace(0, top, 128 * 96).astype(np.uint16).reshape(96, 128)


def header(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", " linear ", ""])
@pytest.mark.parametrize(("centre", "width"), [(2000, 2500), (1500.5, 1501), (2048, 4096), (100, 5000)])
def test_functions_are_those_of_the_standard(function: str, centre: float, width: float) -> None:
    name = function.strip().upper() or "LINEAR"
    tags = header(WindowCenter=centre, WindowWidth=width, BitsStored=12, PixelRepresentation=0)
    tags.PhotometricInterpretation = "MONOCHROME2"
    tags.VOILUTFunction = name
    theirs = apply_windowing(ramp(), tags)
    del tags.VOILUTFunction
    with disable_value_validation():
        tags.VOILUTFunction = function
        ours, flags = shown_values(ramp(), tags)
    assert flags == ()
    # Theirs is in units of the output, ours in those of the input.
    inside = (theirs > theirs.min()) & (theirs < theirs.max())
    slope, start = np.polyfit(ours[inside].astype(float), theirs[inside], 1)
    np.testing.assert_allclose(slope * ours + start, theirs, atol=0.05)


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowWidth": 0},
        {"WindowWidth": -4000},
        {"WindowWidth": 0.5},
        {"WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
        {"WindowWidth": 4000, "VOILUTFunction": "CUBIC"},
        {"WindowWidth": [0, 4000], "WindowCenter": [2000, 2000]},
    ],
)
def test_windows_that_are_none(write_dicom: DicomWriter, attributes: dict) -> None:
    image = read_image(write_dicom(ramp(), **({"WindowCenter": 2000} | attributes)))
    np.testing.assert_array_equal(image.pixels, ramp())
    assert image.flags == ("window_ignored",)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_windows_that_are_not_finite(value: str) -> None:
    with pytest.raises(ValueError, match="none"):
        Window("LINEAR", float(value), 100.0)
    with pytest.raises(ValueError, match="none"):
        Window("LINEAR_EXACT", 100.0, abs(float(value)))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize(("centre", "width"), [(127, 255), (127.5, 256), (128, 256), (40, 400), (-600, 1500)])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_of_other_depths_and_modalities(
    write_dicom: DicomWriter, bits: int, centre: float, width: float, function: str
) -> None:
    if bits == 10 and (width > 256 or function == "SIGMOID"):
        pytest.skip("shows more than a third of ten bits")
    pixels = ramp(2**bits - 1)
    image = read_image(write_dicom(pixels, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("window_ignored",)


@pytest.mark.parametrize(("centre", "width"), [(32768, 65536), (2048, 4096), (2048, 1600), (600, 1600)])
def test_windows_that_show_the_image_are_believed(
    write_dicom: DicomWriter, centre: float, width: float
) -> None:
    image = read_image(write_dicom(ramp(), WindowCenter=centre, WindowWidth=width))
    assert image.flags == ()


@pytest.mark.parametrize(("share", "believed"), [(0.30, False), (0.32, False), (0.35, True), (0.5, True)])
def test_a_third_of_the_range(share: float, believed: bool) -> None:
    # Of equally frequent values such a window clips the rest, more than half.
    width = share * 0.99 * 4095  # from percentile 0.5 to 99.5
    window = header(WindowCenter=2048, WindowWidth=width, VOILUTFunction="LINEAR_EXACT")
    assert (shown_values(ramp(), window)[1] == ()) == believed


@pytest.mark.parametrize(("air", "believed"), [(0.45, True), (0.49, True), (0.51, False), (0.9, False)])
def test_half_of_the_pixels(air: float, believed: bool) -> None:
    # Tissue in the lowest tenth of the range, and air far above it, which the window makes black.
    values = np.concatenate(
        [np.full(int(air * 10000), 60000), np.linspace(500, 5000, 10000 - int(air * 10000))]
    )
    window = header(WindowCenter=2750, WindowWidth=4600, VOILUTFunction="LINEAR_EXACT")
    assert (shown_values(values.reshape(100, 100), window)[1] == ()) == believed


def test_padding_says_nothing_about_a_window(write_dicom: DicomWriter) -> None:
    pixels = ramp(3000) + np.uint16(500)
    pixels[:80] = 0
    window = {"WindowCenter": 2000, "WindowWidth": 3200}
    believed = read_image(write_dicom(pixels, PixelPaddingValue=0, **window))
    assert believed.flags == ()
    assert np.unique(believed.pixels[pixels <= 400]).size == 1
    assert np.corrcoef(believed.pixels[80:].ravel(), pixels[80:].ravel())[0, 1] > 0.99
    # A window on the padding alone hides the image.
    assert read_image(write_dicom(pixels, PixelPaddingValue=0, WindowCenter=0, WindowWidth=500)).flags == (
        "window_ignored",
    )


def table(entries: npt.NDArray[Any], first: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, 16])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def test_a_table_comes_before_a_window_and_may_be_left_over_too(write_dicom: DicomWriter) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    entries = np.round(np.linspace(0, 255, 4096) ** 2)
    image = read_image(write_dicom(ramp(), VOILUTSequence=[table(entries, 0)], **window))
    np.testing.assert_array_equal(image.pixels, entries[ramp()])
    assert image.flags == ()
    for left_over in (table(np.arange(256), 0), table(np.full(4096, 7), 0)):
        image = read_image(write_dicom(ramp(), VOILUTSequence=[left_over], **window))
        np.testing.assert_array_equal(image.pixels, ramp())
        assert image.flags == ("window_ignored",)


def test_an_empty_table_is_none(write_dicom: DicomWriter) -> None:
    image = read_image(write_dicom(ramp(), VOILUTSequence=[], WindowCenter=2000, WindowWidth=3000))
    assert (np.unique(image.pixels[ramp() <= 500]).size, image.flags) == (1, ())


# ---- rescale


@pytest.mark.parametrize(
    ("attributes", "slope", "intercept", "flags"),
    [
        ({"RescaleSlope": 2, "RescaleIntercept": -5}, 2, -5, ()),
        ({"RescaleSlope": -1, "RescaleIntercept": 4095}, -1, 4095, ()),
        ({"RescaleSlope": 3}, 3, 0, ()),
        ({"RescaleIntercept": -1000}, 1, -1000, ()),
        ({"RescaleSlope": 0, "RescaleIntercept": 10}, 1, 0, ("rescale_ignored",)),
        ({"RescaleSlope": "nan", "RescaleIntercept": 10}, 1, 0, ("rescale_ignored",)),
        ({"RescaleSlope": 1, "RescaleIntercept": "inf"}, 1, 0, ("rescale_ignored",)),
        ({"RescaleSlope": "1e-30", "RescaleIntercept": 0}, 1, 0, ("rescale_ignored",)),
        ({"RescaleSlope": "1e30", "RescaleIntercept": 0}, 1, 0, ("rescale_ignored",)),
    ],
)
def test_slopes(
    write_dicom: DicomWriter, attributes: dict, slope: float, intercept: float, flags: tuple
) -> None:
    image = read_image(write_dicom(ramp(), **attributes))
    np.testing.assert_array_equal(image.pixels, ramp() * float(slope) + intercept)
    assert image.flags == flags


def test_a_falling_slope_is_shown_falling_through_a_window_too(write_dicom: DicomWriter) -> None:
    path = write_dicom(ramp(), RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=4096)
    image = read_image(path)
    assert np.corrcoef(image.pixels.ravel(), ramp().ravel())[0, 1] < -0.999


# ---- polarity


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "flags"),
    [
        ("MONOCHROME2", None, False, ()),
        ("MONOCHROME2", "IDENTITY", False, ()),
        ("MONOCHROME2", "INVERSE", True, ("presentation_inverse",)),
        ("MONOCHROME2", "inverse ", True, ("presentation_inverse",)),
        ("MONOCHROME1", None, True, ()),
        ("MONOCHROME1", "IDENTITY", True, ()),
        ("MONOCHROME1", "INVERSE", True, ()),
        ("MONOCHROME2", "LIN OD", False, ("presentation_lut_ignored",)),
        ("MONOCHROME1", "SOMETHING", True, ("presentation_lut_ignored",)),
    ],
)
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1500, "WindowWidth": 2500}])
def test_bone_is_white(
    write_dicom: DicomWriter, photometric: str, shape: str | None, inverted: bool, flags: tuple, window: dict
) -> None:
    attributes = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape} | window
    image = read_image(write_dicom(ramp(), **attributes))
    shown = np.clip(ramp().astype(float), 250, 2749) if window else ramp().astype(float)
    expected = normalize_intensity(shown.max() - shown if inverted else shown)
    np.testing.assert_allclose(normalize_intensity(image.pixels), expected, atol=1e-5)
    assert image.flags == flags
    assert np.corrcoef(read_image(write_dicom(ramp(), **attributes), invert=False).pixels.ravel(),
                       ramp().ravel())[0, 1] > 0.9  # fmt: skip


def test_a_rescale_that_is_no_number_is_an_error(write_dicom: DicomWriter) -> None:
    path = write_dicom(ramp(), RescaleIntercept="123456")
    path.write_bytes(path.read_bytes().replace(b"123456", b"twelve"))
    with pytest.raises(ImageError, match="rescale"):
        read_image(path)


@pytest.mark.parametrize(
    ("descriptor", "entries", "flags"),
    [
        ([256, 0, 16], np.arange(256) * 257, ()),
        ([4096, 0, 10], np.arange(4096) // 4, ()),
        ([256, 0, 16], np.arange(256)[::-1] * 257, ("presentation_lut_ignored",)),
        ([256, 0, 16], np.arange(256) ** 2, ("presentation_lut_ignored",)),
        ([256, 9, 16], np.arange(256) * 257, ("presentation_lut_ignored",)),
        ([256, 0, 16], np.full(256, 7), ("presentation_lut_ignored",)),
        ([256, 0, 16], np.arange(100) * 257, ("presentation_lut_ignored",)),
        ([256], np.arange(256) * 257, ("presentation_lut_ignored",)),
    ],
)
def test_a_presentation_lut_that_changes_something_is_flagged(
    descriptor: list[int], entries: npt.NDArray[np.int64], flags: tuple[str, ...]
) -> None:
    item, header = Dataset(), Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    header.PhotometricInterpretation = "MONOCHROME2"
    header.PresentationLUTSequence = [item]
    assert polarity_of(header) == (False, flags)
    header.PresentationLUTShape = "INVERSE"
    assert polarity_of(header) == (True, ("presentation_inverse", *flags))
