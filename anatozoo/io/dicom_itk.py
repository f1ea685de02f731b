"""Decompress JPEG lossless, JPEG-LS and 12-bit JPEG through the GDCM inside SimpleITK.

pydicom needs further packages for these, one of them under the GPL, though JPEG lossless is what many
archives send.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from anatozoo.io.dicom_header import frames_of

# The Image Pixel module, the number of frames and nothing else. GDCM applies a rescale for some classes of
# image and not for others; without the attributes it can apply none, and stored values come back.
_IMAGE_PIXEL_MODULE = (
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)


def stored_pixels_by_itk(dataset: Dataset) -> npt.NDArray[Any]:
    """Decompress the frames of a data set.

    Returns:
        stored values ``(H, W)``, or colours ``(H, W, C)``; of several frames ``(N, H, W)``, ``(N, H, W, C)``.

    Raises:
        RuntimeError: GDCM cannot decode it either.
    """
    import SimpleITK as sitk

    bare = Dataset()
    for keyword in _IMAGE_PIXEL_MODULE:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    if bare.get("PhotometricInterpretation") == "MONOCHROME1":
        # ITK would invert, but that must follow the window. A new element: the old one is shared.
        bare.add_new("PhotometricInterpretation", "CS", "MONOCHROME2")
    bare.SOPClassUID, bare.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        bare.save_as(path, enforce_file_format=True)
        image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    width, height = image.GetSize()[:2]
    channels = image.GetNumberOfComponentsPerPixel()
    frames = frames_of(dataset)
    pixels: npt.NDArray[Any] = sitk.GetArrayFromImage(image).reshape(frames, height, width, channels)
    pixels = pixels if channels > 1 else pixels[..., 0]
    return pixels if frames > 1 else pixels[0]
