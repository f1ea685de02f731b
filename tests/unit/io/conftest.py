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
