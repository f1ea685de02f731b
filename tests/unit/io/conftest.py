"""Generated radiograph-like images and DICOM files."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

DicomWriter = Callable[..., Path]


def write_float_tiff(path: Path, pixels: npt.NDArray[np.float64], photometric: int = 1) -> Path:
    """A little-endian TIFF of one strip of 64-bit floats, directory first."""
    height, width = pixels.shape
    data_at = 8 + 2 + 10 * 12 + 4
    tags = [(256, width), (257, height), (258, 64), (259, 1), (262, photometric), (273, data_at), (277, 1)]
    tags += [(278, height), (279, pixels.nbytes), (339, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + directory + pixels.astype("<f8").tobytes())
    return path


def write_tiff(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    big: bool = False,
    apart: bool = False,
    photometric: int | None = None,
    extra: int | None = None,
    orientation: int | None = None,
    colours: list[int] | None = None,
) -> Path:
    """A plain TIFF of (H, W, C) of any type, as TIFF 6.0 has it.

    Args:
        path: where to.
        pixels: (H, W, C).
        big: big-endian.
        apart: each channel in a plane of its own.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK.
        extra: meaning of the last channel, 2 being alpha.
        orientation: 1 to 8.
        colours: the palette.
    """
    (height, width, channels), order = pixels.shape, ">" if big else "<"
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    stored = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [stored[..., c].tobytes() for c in range(channels)] if apart else [stored.tobytes()]
    photometric = (2 if channels > 2 else 1) if photometric is None else photometric
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [8 * pixels.dtype.itemsize] * channels),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [0] * len(strips)),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if apart else 1]),
        339: ("H", [kind] * channels),
    }
    optional = {274: orientation, 338: extra}
    tags |= {tag: ("H", [value]) for tag, value in optional.items() if value is not None}
    if colours is not None:
        tags[320] = ("H", colours)
    head = 8 + 2 + 12 * len(tags) + 4
    outside = sum(size for kind, v in tags.values() if (size := struct.calcsize(kind) * len(v)) > 4)
    starts = np.cumsum([head + outside, *(len(strip) for strip in strips)])[:-1]
    tags[273] = ("I", starts.tolist())
    entries, values = b"", b""
    for tag, (form, numbers) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(data) > 4:
            place, values = struct.pack(f"{order}I", head + len(values)), values + data
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, 3 if form == "H" else 4, len(numbers)) + place
    start = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}IH", 8, len(tags))
    path.write_bytes(start + entries + bytes(4) + values + b"".join(strips))
    return path


@pytest.fixture
def xray() -> npt.NDArray[np.uint16]:
    """A (60, 48) 12-bit ramp without any symmetry, so that every flip and transposition shows."""
    rows, columns = np.mgrid[:60, :48]
    return (rows * 50 + columns * 7).astype(np.uint16)


@pytest.fixture
def write_dicom(tmp_path: Path) -> DicomWriter:
    """Writer of one DICOM file; keyword arguments are attributes, None leaves one out."""

    def write(pixels: npt.NDArray[Any], name: str = "image.dcm", **attributes: Any) -> Path:
        bits = pixels.dtype.itemsize * 8
        standard: dict[str, Any] = {
            "SOPClassUID": DigitalXRayImageStorageForPresentation,
            "SOPInstanceUID": generate_uid(),
            "Modality": "DX",
            "BodyPartExamined": "CHEST",
            "ViewPosition": "PA",
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
            "PlanarConfiguration": None if pixels.ndim == 2 else 0,
            "PhotometricInterpretation": "MONOCHROME2" if pixels.ndim == 2 else "RGB",
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": bits - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
            "PixelData": pixels.tobytes(),
        }
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = tmp_path / name
        with disable_value_validation():  # files in the wild break the standard too
            for keyword, value in (standard | attributes).items():
                if value is not None:
                    setattr(header, keyword, value)
            header.save_as(path, enforce_file_format=True)
        return path

    return write
