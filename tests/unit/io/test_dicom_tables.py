"""Look-up tables as files have them: widths, lengths, byte orders, first values, and their thresholds."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from anatozoo.errors import ImageError
from anatozoo.io.dicom_tables import Table
from anatozoo.io.images import read_image
from tests.unit.io.conftest import DicomWriter

Entries = npt.NDArray[np.int64]


def curve(count: int, top: int) -> Entries:
    """A rising table that is no straight line."""
    return np.round(top * np.linspace(0, 1, count) ** 1.5).astype(np.int64)


def item(descriptor: list[int], data: Any, vr: str = "OW", descriptor_vr: str = "US") -> Dataset:
    found = Dataset()
    found.add_new("LUTDescriptor", descriptor_vr, descriptor)
    found.add_new("LUTData", vr, data)
    return found


def words(entries: Entries, order: str = "<") -> bytes:
    return entries.astype(f"{order}u2").tobytes()


@pytest.fixture
def pixels() -> npt.NDArray[np.uint16]:
    """All values of 12 bits, and more than one row of them."""
    return np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def read(
    write: DicomWriter, pixels: npt.NDArray[Any], table: Dataset, **attributes: Any
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    image = read_image(write(pixels, ModalityLUTSequence=[table], **attributes))
    return image.pixels, image.flags


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
@pytest.mark.parametrize("vr", ["OW", "US"])
def test_words_of_any_depth(
    write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16], bits: int, vr: str
) -> None:
    entries = curve(4096, 2**bits - 1)
    data = words(entries) if vr == "OW" else entries.tolist()
    found, flags = read(write_dicom, pixels, item([4096, 0, bits], data, vr))
    np.testing.assert_array_equal(found, entries[pixels])
    assert flags == ()


@pytest.mark.parametrize("count", [256, 255])
@pytest.mark.parametrize("how", ["bytes", "words", "numbers", "packed numbers"])
def test_entries_of_eight_bits(write_dicom: DicomWriter, count: int, how: str) -> None:
    entries = curve(count, 250)
    padded = np.append(entries, 0)[: count + count % 2].astype(np.uint8).tobytes()
    data: Any = {
        "bytes": padded,
        "words": words(entries),
        "numbers": entries.tolist(),
        "packed numbers": np.frombuffer(padded, "<u2").tolist(),
    }[how]
    pixels = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16)
    found, flags = read(write_dicom, pixels, item([count, 0, 8], data, "US" if "numbers" in how else "OW"))
    np.testing.assert_array_equal(found, entries[pixels.clip(0, count - 1)])
    assert flags == ()


def test_descriptor_zero_is_65536_entries(write_dicom: DicomWriter) -> None:
    entries = curve(65536, 65535)
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found, flags = read(write_dicom, pixels, item([0, 0, 16], words(entries)))
    np.testing.assert_array_equal(found, entries.reshape(256, 256))
    assert flags == ()


@pytest.mark.parametrize("how", ["narrow", "wide"])
def test_a_width_that_the_data_contradict(
    write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16], how: str
) -> None:
    # "narrow": bytes under a descriptor of 16 bits; "wide": words of 12 bits under one of 8.
    entries = curve(4096, 255 if how == "narrow" else 4095)
    data = entries.astype(np.uint8).tobytes() if how == "narrow" else words(entries)
    found, flags = read(write_dicom, pixels, item([4096, 0, 16 if how == "narrow" else 8], data))
    np.testing.assert_array_equal(found, entries[pixels])
    assert flags == ("lut_bits",)


@pytest.mark.parametrize("bits", [0, 17, 32, 65535])
def test_an_impossible_width(write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16], bits: int) -> None:
    entries = curve(4096, 4095)
    found, flags = read(write_dicom, pixels, item([4096, 0, bits], words(entries)))
    np.testing.assert_array_equal(found, entries[pixels])
    assert flags == ("lut_bits",)


def test_words_in_the_other_byte_order(write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16]) -> None:
    entries = curve(4096, 4095)
    found, flags = read(write_dicom, pixels, item([4096, 0, 12], words(entries, ">")))
    np.testing.assert_array_equal(found, entries[pixels])
    assert flags == ("lut_byte_order",)


def test_bytes_with_the_first_in_the_upper_half_of_a_word(write_dicom: DicomWriter) -> None:
    entries = np.arange(256)
    swapped = entries.reshape(-1, 2)[:, ::-1].astype(np.uint8).tobytes()
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    found, flags = read(write_dicom, pixels, item([256, 0, 8], swapped))
    np.testing.assert_array_equal(found, pixels)
    assert flags == ("lut_byte_order",)


@pytest.mark.parametrize(("bits", "count"), [(12, 4096), (8, 256)])
def test_big_endian_files(write_dicom: DicomWriter, tmp_path: Path, bits: int, count: int) -> None:
    entries = curve(count, 2**bits - 1)
    # The first of two bytes is in the lower half of a word, which comes second.
    pairs = entries.reshape(-1, 2)[:, ::-1].astype(np.uint8)
    data = words(entries, ">") if bits > 8 else pairs.tobytes()
    pixels = (np.arange(4096, dtype=np.uint16) % count).reshape(64, 64)
    little = pydicom.dcmread(write_dicom(pixels))
    dataset = Dataset()
    dataset.update(little)
    dataset.file_meta = little.file_meta
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = pixels.byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.ModalityLUTSequence = [item([count, 0, bits], data)]
    dataset.save_as(tmp_path / "big.dcm", implicit_vr=False, little_endian=False)
    image = read_image(tmp_path / "big.dcm")
    np.testing.assert_array_equal(image.pixels, entries[pixels])
    assert image.flags == ()


@pytest.mark.parametrize(("extra", "flags"), [(1, ()), (2, ("lut_length",)), (500, ("lut_length",))])
def test_a_table_longer_than_it_says(
    write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16], extra: int, flags: tuple
) -> None:
    entries = curve(4096, 4095)
    data = words(np.append(entries, [7] * extra))
    found, seen = read(write_dicom, pixels, item([4096, 0, 12], data))
    np.testing.assert_array_equal(found, entries[pixels])
    assert seen == flags


@pytest.mark.parametrize("there", [4096 - 40, 4095])
def test_a_table_a_little_shorter_than_it_says(
    write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16], there: int
) -> None:
    entries = curve(4096, 4095)[:there]
    found, flags = read(write_dicom, pixels, item([4096, 0, 12], words(entries)))
    np.testing.assert_array_equal(found, entries[pixels.clip(0, there - 1)])
    assert flags == ("lut_length",)


@pytest.mark.parametrize("there", [4096 - 41, 2048, 1])
def test_a_table_that_lacks_entries_of_the_image_is_an_error_or_ignored(
    write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16], there: int
) -> None:
    # 40 of 4,096 pixels are .98 %, 41 are 1.001 %.
    table = item([4096, 0, 12], words(curve(4096, 4095)[:there]))
    with pytest.raises(ImageError, match="Modality LUT"):
        read(write_dicom, pixels, table)
    image = read_image(write_dicom(pixels, VOILUTSequence=[table]))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.flags == ("window_ignored",)


@pytest.mark.parametrize(
    ("first", "vr", "low", "dtype"),
    [
        (-1000, "SS", -1000, np.int16),
        (64536, "US", -1000, np.int16),  # the same bits
        (40000, "US", 40000, np.uint16),
        (-25536, "SS", 40000, np.uint16),  # the same bits
        (100, "US", 100, np.uint16),
    ],
)
def test_the_first_value_is_signed_where_the_image_is(
    write_dicom: DicomWriter, first: int, vr: str, low: int, dtype: type
) -> None:
    entries = curve(4096, 4095)
    pixels = (low + np.arange(4096)).reshape(64, 64).astype(dtype)
    found, flags = read(write_dicom, pixels, item([4096, first, 12], words(entries), descriptor_vr=vr))
    np.testing.assert_array_equal(found, entries.reshape(64, 64))
    assert flags == ()


def test_values_beyond_the_table_take_its_ends(write_dicom: DicomWriter) -> None:
    entries = 5 + curve(100, 4000)
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    found, _ = read(write_dicom, pixels, item([100, 50, 12], words(entries)))
    np.testing.assert_array_equal(found.ravel(), entries[np.clip(np.arange(256) - 50, 0, 99)])


@pytest.mark.parametrize("descriptor", [[], [4096, 0], [4096, 0, 12, 1], ["a", "b", "c"]])
def test_a_malformed_descriptor(descriptor: list) -> None:
    with pytest.raises((ValueError, TypeError)):
        Table.read(descriptor, words(curve(4096, 4095)), (0, 4095))


def test_a_table_without_data(write_dicom: DicomWriter, pixels: npt.NDArray[np.uint16]) -> None:
    empty = Dataset()
    empty.add_new("LUTDescriptor", "US", [4096, 0, 12])
    with pytest.raises(ImageError, match="Modality LUT"):
        read(write_dicom, pixels, empty)


def test_fractions_take_the_entry_below() -> None:
    table = Table.read([16, 0, 12], words(10 * np.arange(16)), (0.0, 15.0))
    np.testing.assert_array_equal(table.apply(np.array([0.0, 0.9, 7.5, 99.0, -3.0])), [0, 0, 70, 150, 0])


def test_the_interval_is_where_outputs_change() -> None:
    entries = np.repeat([5, 5, 6, 9, 9], 10)
    assert Table.read([50, 100, 12], words(entries), (100.0, 149.0)).interval == (119.0, 130.0)
    assert Table.read([50, 100, 12], words(0 * entries), (100.0, 149.0)).interval == (100.0, 100.0)


# ---- palettes


def palette(count: int, bits: int, entries: list[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, data in zip(("Red", "Green", "Blue"), entries, strict=True):
        found[f"{name}PaletteColorLookupTableDescriptor"] = [count, 0, bits]
        found[f"{name}PaletteColorLookupTableData"] = data
    return found


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("as_words", [True, False])
def test_grey_palettes(write_dicom: DicomWriter, bits: int, as_words: bool) -> None:
    entries = 255 - np.arange(256) if bits == 8 else 65535 - 257 * np.arange(256)
    data = words(entries) if as_words or bits == 16 else entries.astype(np.uint8).tobytes()
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = read_image(write_dicom(pixels, **palette(256, bits, [data] * 3)))
    np.testing.assert_array_equal(image.pixels, entries[pixels])
    assert image.flags == ()


def test_coloured_and_damaged_palettes(write_dicom: DicomWriter) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    entries = [words(np.full(256, value) + np.arange(256)) for value in (0, 20, 100)]
    image = read_image(write_dicom(pixels, **palette(256, 16, entries)))
    np.testing.assert_allclose(image.pixels, pixels + 0.587 * 20 + 0.114 * 100, rtol=1e-6)
    assert image.flags == ("colour",)
    with pytest.raises(ImageError, match="palette"):
        read_image(write_dicom(pixels, **palette(256, 16, [each[:200] for each in entries])))
