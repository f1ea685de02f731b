"""DICOM: look-up tables, polarity, spacing, what is refused, and the real files of pydicom's packages."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, RLELossless

from anatozoo.errors import ImageError
from anatozoo.io.images import read_image
from tests.unit.io.conftest import DicomWriter

Pixels = npt.NDArray[np.uint16]


def real_file(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    if not found:
        pytest.skip(f"{name} is not installed; it comes with the package pydicom-data")
    return Path(str(found))


def table(entries: npt.NDArray[Any], first: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, 16])
    item.add_new("LUTData", "US", entries.tolist())
    return item


# ---- display


def test_plain_values_come_through(write_dicom: DicomWriter, xray: Pixels) -> None:
    image = read_image(write_dicom(xray, "the image.dcm"))
    np.testing.assert_array_equal(image.pixels, xray)
    assert image.flags == ()
    assert image.spacing_mm is None
    assert image.name == "the image"


@pytest.mark.parametrize("name", ["image", "image.png", "胸部 x\n.IMA"])
def test_name_does_not_matter(write_dicom: DicomWriter, xray: Pixels, name: str) -> None:
    np.testing.assert_array_equal(read_image(write_dicom(xray, name)).pixels, xray)


def test_file_without_preamble_and_meta(write_dicom: DicomWriter, xray: Pixels, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write_dicom(xray))
    for implicit in (True, False):
        bare = Dataset(dataset)
        bare.save_as(tmp_path / "bare", implicit_vr=implicit, little_endian=True)
        assert (tmp_path / "bare").read_bytes()[128:132] != b"DICM"
        np.testing.assert_array_equal(read_image(tmp_path / "bare").pixels, xray)


def test_signed_values_and_modality_rescale(write_dicom: DicomWriter, xray: Pixels) -> None:
    signed = xray.astype(np.int16) - 1000
    image = read_image(write_dicom(signed, RescaleSlope=2, RescaleIntercept=-5))
    np.testing.assert_array_equal(image.pixels, signed * 2.0 - 5)


def test_window_clips_and_comes_before_inversion(write_dicom: DicomWriter, xray: Pixels) -> None:
    window = {"WindowCenter": 1500, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}
    image = read_image(write_dicom(xray, **window))
    bright = image.pixels
    assert image.flags == ()
    assert np.unique(bright[xray <= 500]).size == 1
    assert np.unique(bright[xray > 2500]).size == 1
    between = (xray > 500) & (xray < 2500)
    shown = (bright[between] - bright.min()) / np.ptp(bright)
    np.testing.assert_allclose(shown, (xray[between] - 500) / 2000, atol=1e-4)
    dark = read_image(write_dicom(xray, **window, PhotometricInterpretation="MONOCHROME1")).pixels
    # Inverting first would have windowed the other end of the values.
    np.testing.assert_allclose(dark, bright.max() - bright, atol=1e-2)


def test_monochrome1_is_inverted_unless_overruled(write_dicom: DicomWriter, xray: Pixels) -> None:
    path = write_dicom(xray, PhotometricInterpretation="MONOCHROME1")
    inverted = xray.max() - xray.astype(np.float32)
    np.testing.assert_array_equal(read_image(path).pixels, inverted)
    np.testing.assert_array_equal(read_image(path, invert=True).pixels, inverted)
    np.testing.assert_array_equal(read_image(path, invert=False).pixels, xray)


def test_first_of_several_windows_counts(write_dicom: DicomWriter, xray: Pixels) -> None:
    one = read_image(write_dicom(xray, WindowCenter=1500, WindowWidth=2000)).pixels
    two = read_image(write_dicom(xray, WindowCenter=[1500, 2000], WindowWidth=[2000, 9])).pixels
    np.testing.assert_array_equal(one, two)
    assert np.unique(one[xray <= 500]).size == 1


@pytest.mark.parametrize("window", [(500, 0), (60000, 10)], ids=["no width", "blanks all"])
def test_unusable_window_is_ignored_with_a_flag(
    write_dicom: DicomWriter, xray: Pixels, window: tuple
) -> None:
    image = read_image(write_dicom(xray, WindowCenter=window[0], WindowWidth=window[1]))
    np.testing.assert_array_equal(image.pixels, xray)
    assert image.flags == ("window_ignored",)


def test_centre_without_width_is_no_window(write_dicom: DicomWriter, xray: Pixels) -> None:
    image = read_image(write_dicom(xray, WindowCenter=500, WindowWidth=""))
    np.testing.assert_array_equal(image.pixels, xray)
    assert image.flags == ()


def test_tables_of_modality_and_voi(write_dicom: DicomWriter) -> None:
    values = np.tile(np.arange(16, dtype=np.uint16), (16, 1))
    squares, falling = np.arange(16) ** 2, 1000 - np.arange(226)
    path = write_dicom(values, ModalityLUTSequence=[table(squares, 0)], VOILUTSequence=[table(falling, 0)])
    np.testing.assert_array_equal(read_image(path).pixels[0], 1000 - squares)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_ends_up_dark(write_dicom: DicomWriter, xray: Pixels, photometric: str) -> None:
    padded = xray + 100
    padded[:10] = 3
    image = read_image(write_dicom(padded, PixelPaddingValue=3, PhotometricInterpretation=photometric))
    assert (image.pixels[:10] == image.pixels.min()).all()
    assert image.pixels[10:].min() == image.pixels.min()
    assert np.ptp(image.pixels) == np.ptp(padded[10:])


def test_colour_is_flagged(write_dicom: DicomWriter, xray: Pixels) -> None:
    grey = (xray // 16).astype(np.uint8)
    image = read_image(write_dicom(np.dstack([grey] * 3), Modality="OT"))
    np.testing.assert_array_equal(image.pixels, grey)
    assert image.flags == ()
    assert read_image(write_dicom(np.dstack([grey, grey, 0 * grey]))).flags == ("colour",)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression(write_dicom: DicomWriter, xray: Pixels, tmp_path: Path, syntax: str) -> None:
    dataset = pydicom.dcmread(write_dicom(xray))
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "packed.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "packed.dcm").pixels, xray)


# ---- header


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"PixelSpacing": [0.2, 0.1]}, (0.1, 0.2)),  # DICOM writes rows (y) first
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.1, 0.2)),
        ({"PixelSpacing": [0.4, 0.3], "ImagerPixelSpacing": [0.2, 0.1]}, (0.3, 0.4)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.1]}, (0.1, 0.2)),
        (
            {"ImagerPixelSpacing": [0.3, 0.15], "EstimatedRadiographicMagnificationFactor": 1.5},
            (pytest.approx(0.1), pytest.approx(0.2)),
        ),
        ({"ImagerPixelSpacing": [0.2, 0.1], "EstimatedRadiographicMagnificationFactor": 0}, (0.1, 0.2)),
        ({"PixelSpacing": [0.4, 0.3], "EstimatedRadiographicMagnificationFactor": 1.5}, (0.3, 0.4)),
        ({"ImagerPixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": [-0.1, 0.1]}, None),
        ({"PixelSpacing": ""}, None),
    ],
)
def test_spacing(write_dicom: DicomWriter, xray: Pixels, attributes: dict, expected: Any) -> None:
    path = write_dicom(xray, **attributes)
    assert read_image(path).spacing_mm == expected
    assert read_image(path, spacing_mm=(7, 8)).spacing_mm == (7.0, 8.0)


@pytest.mark.parametrize(
    ("age", "years"),
    [("045Y", 45.0), ("018M", 1.5), ("026W", 0.498), ("001D", 0.003), ("", None), ("45", None)],
)
def test_metadata_are_json_values_without_identity(
    write_dicom: DicomWriter, xray: Pixels, age: str, years: float | None
) -> None:
    path = write_dicom(xray, PatientName="Doe^Jane", PatientID="1", PatientSex="F", PatientAge=age)
    metadata = read_image(path).metadata
    expected = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientSex": "F"}
    expected["PhotometricInterpretation"] = "MONOCHROME2"
    assert metadata == expected | ({} if years is None else {"PatientAge": years})


@pytest.mark.parametrize(
    ("attributes", "flags"),
    [
        ({"ViewPosition": "AP"}, ()),
        ({"ViewPosition": "LL"}, ("lateral_view",)),
        ({"ViewPosition": "RL"}, ("lateral_view",)),
        ({"ViewPosition": "LATERAL"}, ("lateral_view",)),
        ({"ViewPosition": "L LAT"}, ("lateral_view",)),
        ({"ViewPosition": "LLD"}, ()),
        ({"ViewPosition": "LAT DECUB"}, ()),
        ({"ViewPosition": ""}, ()),
        ({"PatientOrientation": ["L", "F"]}, ()),
        ({"PatientOrientation": ["A", "F"]}, ("lateral_view",)),
        ({"PatientOrientation": ["R", "F"]}, ("mirrored",)),
        ({"PatientOrientation": ["L", "H"]}, ("upside_down",)),
        ({"Modality": ""}, ("modality_unknown",)),
    ],
)
def test_flags(write_dicom: DicomWriter, xray: Pixels, attributes: dict, flags: tuple) -> None:
    assert read_image(write_dicom(xray, **attributes)).flags == flags


def test_lateral_view_by_code(write_dicom: DicomWriter, xray: Pixels) -> None:
    code = Dataset()
    code.CodeMeaning = "left lateral"
    assert read_image(write_dicom(xray, ViewPosition="", ViewCodeSequence=[code])).flags == ("lateral_view",)


@pytest.mark.parametrize(
    "attributes",
    [
        {"Modality": "MR"},
        {"Modality": "CT"},
        {"Modality": "US"},
        {"Modality": "MG"},
        {"BodyPartExamined": "HAND"},
        {"BodyPartExamined": "TSPINE"},
        {"BodyPartExamined": "THORACIC SPINE"},
        {"BodyPartExamined": "BREAST"},
        {"Modality": "OT", "BodyPartExamined": ""},
        {"Modality": "OT", "BodyPartExamined": "SKULL"},
    ],
)
def test_other_images_are_refused_unless_allowed(
    write_dicom: DicomWriter, xray: Pixels, attributes: dict
) -> None:
    path = write_dicom(xray, **attributes)
    with pytest.raises(ImageError, match=r"allow_any_modality=True.*--allow-any-modality"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, allow_any_modality=True).pixels, xray)


@pytest.mark.parametrize(
    "part", ["CHEST", "Chest", "PORT CHEST", "THORAX", "TÓRAX", "LUNG", "RIBS", "", "UNKNOWN"]
)
@pytest.mark.parametrize("modality", ["CR", "DX", "RG", ""])
def test_chest_radiographs_are_taken(
    write_dicom: DicomWriter, xray: Pixels, part: str, modality: str
) -> None:
    path = write_dicom(xray, BodyPartExamined=part, Modality=modality, SpecificCharacterSet="ISO_IR 192")
    np.testing.assert_array_equal(read_image(path).pixels, xray)


# ---- bad files


def test_several_frames_are_refused(write_dicom: DicomWriter, xray: Pixels) -> None:
    path = write_dicom(xray, NumberOfFrames=2, PixelData=xray.tobytes() * 2)
    with pytest.raises(ImageError, match="2 frames"):
        read_image(path)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"PixelData": None}, "no pixel data"),
        ({"PixelData": None, "EncapsulatedDocument": b"%PDF-1.4"}, "PDF"),
        ({"Rows": None}, "does not state its size"),
        ({"Rows": 0}, "at least 16"),
        ({"Rows": 60000, "Columns": 60000}, r"2\*\*26"),
        ({"Rows": 61}, "truncated"),
        ({"BitsAllocated": 7}, "cannot be decoded"),
    ],
)
def test_impossible_headers(write_dicom: DicomWriter, xray: Pixels, attributes: dict, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(write_dicom(xray, **attributes))


@pytest.mark.parametrize("kept", [0.02, 0.05, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_truncated_files_are_errors(
    write_dicom: DicomWriter, tmp_path: Path, kept: float, syntax: str | None
) -> None:
    path = write_dicom(np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16))
    if syntax:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    read_image(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=r"image\.dcm"):
        read_image(path)


# ---- real files


@pytest.fixture(scope="module")
def radiograph() -> npt.NDArray[np.float32]:
    return read_image(real_file("RG1_UNCR.dcm")).pixels


def test_real_radiograph(radiograph: npt.NDArray[np.float32]) -> None:
    image = read_image(real_file("RG1_UNCR.dcm"))
    assert image.size == (1841, 1955)
    assert image.spacing_mm is None
    assert image.flags == ()
    assert image.metadata["PhotometricInterpretation"] == "MONOCHROME1"
    assert image.metadata["ViewPosition"] == "PA"
    # The mediastinum is white and the lungs beside it are dark.
    lungs = np.median(image.pixels[600:1000, 350:550]), np.median(image.pixels[600:1000, 1300:1500])
    assert max(lungs) < np.median(image.pixels[600:1000, 880:980])


@pytest.mark.parametrize(("name", "tolerance"), [("RG1_J2KR.dcm", 0), ("RG1_J2KI.dcm", 0.02)])
def test_jpeg_2000_twins(radiograph: npt.NDArray[np.float32], name: str, tolerance: float) -> None:
    difference = np.abs(read_image(real_file(name)).pixels - radiograph)
    assert difference.mean() <= tolerance * np.ptp(radiograph)


@pytest.mark.parametrize(
    ("packed", "plain"),
    [("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"), ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm")],
    ids=["JPEG-LS", "JPEG lossless"],
)
def test_lossless_jpeg_equals_its_plain_twin(packed: str, plain: str) -> None:
    first, second = (read_image(real_file(name), allow_any_modality=True) for name in (packed, plain))
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_jpeg_lossless_is_rescaled_once_and_inverted(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(real_file("JPEG-LL.dcm"))
    stored = read_image(real_file("JPEG-LL.dcm"), allow_any_modality=True).pixels
    dataset.RescaleSlope, dataset.RescaleIntercept = 3, -7
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert "PixelPaddingValue" not in dataset
    assert "WindowWidth" not in dataset
    dataset.save_as(tmp_path / "a.dcm")
    image = read_image(tmp_path / "a.dcm", allow_any_modality=True)
    np.testing.assert_array_equal(image.pixels, 3 * (stored.max() - stored))


@pytest.mark.parametrize("name", ["JPEG-LL.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm"])
def test_cut_jpeg_stream_in_a_whole_file_is_an_error(tmp_path: Path, name: str) -> None:
    dataset = pydicom.dcmread(real_file(name))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2 * 2 - 200]])
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "a.dcm", allow_any_modality=True)


def test_broken_jpeg_lossless_is_told_without_the_decoders_own_words(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(real_file("JPEG-LL.dcm"))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    at = frame.index(b"\xff\xc4") + 4
    dataset.PixelData = encapsulate([frame[:at] + b"\xee" * 17 + frame[at + 17 :]])
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match=r"the pixels of .*a\.dcm' cannot be decoded") as caught:
        read_image(tmp_path / "a.dcm", allow_any_modality=True)
    assert not any(word in str(caught.value) for word in ("SimpleITK", "itk::", ".cxx"))


@pytest.mark.parametrize("name", ["rtplan.dcm", "reportsi.dcm", "MR_truncated.dcm", "DICOMDIR"])
def test_real_files_without_an_image(name: str) -> None:
    with pytest.raises(ImageError):
        read_image(real_file(name), allow_any_modality=True)


def test_a_malformed_rescale_is_an_error(write_dicom: DicomWriter, xray: Pixels) -> None:
    path = write_dicom(xray, RescaleSlope="12345678", RescaleIntercept="0")
    path.write_bytes(path.read_bytes().replace(b"12345678", b"so steep"))
    with pytest.raises(ImageError, match="rescale slope and intercept, cannot be read"):
        read_image(path)


@pytest.mark.parametrize("keyword", ["Columns", "BitsAllocated", "HighBit"])
def test_an_attribute_of_an_unknown_type_is_an_error_in_a_sentence(
    write_dicom: DicomWriter, xray: Pixels, keyword: str
) -> None:
    path = write_dicom(xray)
    tag, data = pydicom.datadict.tag_for_keyword(keyword), bytearray(path.read_bytes())
    assert tag is not None
    start = data.index(int(tag >> 16).to_bytes(2, "little") + int(tag & 0xFFFF).to_bytes(2, "little"), 132)
    data[start + 4 : start + 6] = b"Uk"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"image\.dcm"):
        read_image(path)
