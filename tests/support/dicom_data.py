"""DICOM radiographs made of phantoms, and series of slices."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from tests.support.phantoms import make_chest_phantom


def write_scan(path: Path, **attributes: Any) -> Path:
    """A phantom as a DICOM radiograph of the chest; keyword arguments are attributes, however malformed."""
    pixels = make_chest_phantom(60, 70).image.astype(np.uint16)
    standard: dict[str, Any] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": generate_uid(),
        "Modality": "DX",
        "PatientName": "Doe^Jane",
        "PatientID": "hospital number 4711",
        "BodyPartExamined": "CHEST",
        **_image_pixels(pixels),
    }
    return _save(path, standard | attributes)


SERIES = "1.2.826.0.1.3680043.2.1125.1"
STUDY = {
    "StudyInstanceUID": "1.2.826.0.1.3680043.2.1125.2",
    "SeriesInstanceUID": SERIES,
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.2.1125.3",
    "StudyDate": "20240131",
    "StudyTime": "101500.5",
    "AccessionNumber": "A 17",
}
"""What files need so that DICOM objects can refer to them."""


def write_slice(path: Path, pixels: np.ndarray, z: float, **attributes: Any) -> Path:
    """A slice (H, W) of uint16 at a height of z mm, 1.5 mm a column and 2 mm a row; None leaves one out."""
    standard: dict[str, Any] = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": SERIES,
        "Modality": "MR",
        "PixelSpacing": [2.0, 1.5],
        "ImagePositionPatient": [-10.0, 5.0, z],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        **_image_pixels(pixels),
    }
    return _save(path, standard | attributes)


def write_series(folder: Path, volume: np.ndarray, step: float = 10.0, **attributes: Any) -> Path:
    """A folder with a file for each slice of (D, H, W), whose names are in another order."""
    for z, plane in enumerate(volume):
        write_slice(folder / f"IM{(7 * z) % len(volume):03d}", plane, step * z, **attributes)
    return folder


def write_frames(path: Path, volume: np.ndarray, step: float = 10.0, **attributes: Any) -> Path:
    """An enhanced file with all slices of (D, H, W), the last first; functional groups hold their places."""
    frames = []
    for z in reversed(range(len(volume))):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [-10.0, 5.0, step * z]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [2.0, 1.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    standard: dict[str, Any] = {
        "SOPClassUID": EnhancedMRImageStorage,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": SERIES,
        "Modality": "MR",
        "NumberOfFrames": len(volume),
        "PerFrameFunctionalGroupsSequence": frames,
        "SharedFunctionalGroupsSequence": [shared],
        **_image_pixels(volume[::-1]),
    }
    return _save(path, standard | attributes)


def _image_pixels(pixels: np.ndarray) -> dict[str, Any]:
    return {
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }


def _save(path: Path, attributes: dict[str, Any]) -> Path:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    with disable_value_validation():
        for keyword, value in attributes.items():
            if value is not None:
                setattr(header, keyword, value)
        header.save_as(path, enforce_file_format=True)
    return path
