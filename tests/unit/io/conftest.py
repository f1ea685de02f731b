"""Generated radiograph-like images and DICOM files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

DicomWriter = Callable[..., Path]


@pytest.fixture
def xray() -> npt.NDArray[np.uint16]:
    """A (60, 48) 12-bit ramp without any symmetry, so that every flip and transposition shows."""
    rows, columns = np.mgrid[:60, :48]
    return (rows * 50 + columns * 7).astype(np.uint16)


@pytest.fixture
def write_dicom(tmp_path: Path) -> DicomWriter:
    """Writer of one DICOM file; keyword arguments set (or with None delete) attributes."""

    def write(pixels: npt.NDArray[Any], name: str = "image.dcm", **attributes: Any) -> Path:
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.SOPClassUID, header.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
        header.Modality, header.BodyPartExamined, header.ViewPosition = "DX", "CHEST", "PA"
        header.Rows, header.Columns = pixels.shape[:2]
        header.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        header.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            header.PlanarConfiguration = 0
        bits = pixels.dtype.itemsize * 8
        header.BitsAllocated = header.BitsStored = bits
        header.HighBit, header.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
        header.PixelData = pixels.tobytes()
        for keyword, value in attributes.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        path = tmp_path / name
        header.save_as(path, enforce_file_format=True)
        return path

    return write
