"""DICOM radiographs made of phantoms."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from tests.phantoms import make_chest_phantom


def write_scan(path: Path, **attributes: Any) -> Path:
    """A phantom as a DICOM radiograph of the chest; keyword arguments are attributes, however malformed."""
    pixels = make_chest_phantom(60, 70).image.astype(np.uint16)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    standard: dict[str, Any] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": generate_uid(),
        "Modality": "DX",
        "PatientName": "Doe^Jane",
        "PatientID": "hospital number 4711",
        "BodyPartExamined": "CHEST",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with disable_value_validation():
        for keyword, value in (standard | attributes).items():
            setattr(header, keyword, value)
        header.save_as(path, enforce_file_format=True)
    return path
