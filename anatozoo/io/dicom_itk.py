"""Decompress the pixels of DICOM files in a process of its own, JPEG lossless and its like through GDCM.

For JPEG lossless, JPEG-LS and 12-bit JPEG pydicom needs further packages, one of them under the GPL, though
JPEG lossless is what many archives send; the GDCM inside SimpleITK decodes them.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from anatozoo.errors import ImageError
from anatozoo.io.children import DecodeError, decode
from anatozoo.io.codestreams import check_jpeg, check_jpeg2000, without_end
from anatozoo.io.dicom_header import frames_of

_OFFSET_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
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
    *_OFFSET_TABLES,
    "PixelData",
)
_JPEG_SYNTAXES = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes}
_JPEG_END = b"\xff\xd9"
_PADDED_END = 16


def decompressed_pixels(dataset: Dataset, label: str) -> npt.NDArray[Any]:
    """Decompress the frames of a data set.

    Returns:
        stored values ``(H, W)``, or colours ``(H, W, C)``; of several frames ``(N, H, W)``, ``(N, H, W, C)``.

    Raises:
        ImageError: the compressed pixels are damaged, truncated or of another size than the header says; or
            the decoder crashed or took too long or too much memory.
        DecodeError: no decoder can read them.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    padded = check_frames(dataset, label)
    bare = _image_pixel_module(dataset)
    if padded:
        bare.PixelData = encapsulate(padded)
        bare["PixelData"].is_undefined_length = True
        for keyword in _OFFSET_TABLES:
            bare.pop(keyword, None)
    size = int(dataset.Rows) * int(dataset.Columns) * frames_of(dataset) * int(dataset.BitsAllocated) // 8
    buffer = io.BytesIO()
    bare.save_as(buffer, enforce_file_format=True)
    try:
        _, pixels = decode("dicom_pixels", label, buffer.getbuffer(), size_bytes=size)
    except DecodeError as error:
        # Without its end marker, GDCM would fill up a stream that Pillow found cut.
        if syntax not in _JPEG_SYNTAXES or error.name != "RuntimeError" or padded:
            raise
        return _by_gdcm(bare, buffer.getbuffer(), label, size)
    assert pixels is not None
    return pixels


def check_frames(dataset: Dataset, label: str) -> list[bytes]:
    """Refuse compressed frames that are cut off, or of another size than the header says.

    Returns:
        JPEG frames without the end marker that hides a cut, see `without_end`; nothing where they are of
        another process.

    Raises:
        ImageError: see above; decoders would fill what is missing, and believe the size of the stream.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    is_jpeg = syntax in _JPEG_SYNTAXES
    if not is_jpeg and syntax not in JPEG2000TransferSyntaxes:
        return []
    padded: list[bytes | None] = []
    expected = (int(dataset.Columns), int(dataset.Rows), int(dataset.get("SamplesPerPixel") or 1))
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames_of(dataset)):
        if is_jpeg and _JPEG_END not in frame[-_PADDED_END:]:
            raise ImageError(
                f"{label} is truncated: its compressed pixels end early; copy or export it again."
            )
        found = check_jpeg(frame, label) if is_jpeg else check_jpeg2000(frame, label)
        if (found.width, found.height, found.channels) != expected:
            raise ImageError(
                f"{label} is damaged: its compressed pixels are {found.width} x {found.height} x "
                f"{found.channels}, but its header says {' x '.join(map(str, expected))}; export it again."
            )
        padded.append(without_end(frame, found) if syntax == JPEGBaseline8Bit else None)
    return [frame for frame in padded if frame is not None] if all(padded) else []


def _image_pixel_module(dataset: Dataset) -> Dataset:
    """A data set of the pixels and of what is needed to decode them."""
    bare = Dataset()
    for keyword in _IMAGE_PIXEL_MODULE:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.SOPClassUID, bare.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    return bare


def _by_gdcm(bare: Dataset, content: Any, label: str, size: int) -> npt.NDArray[Any]:
    if bare.get("PhotometricInterpretation") == "MONOCHROME1":
        # ITK would invert, but that must follow the window. A new element: the old one is shared.
        bare.add_new("PhotometricInterpretation", "CS", "MONOCHROME2")
        buffer = io.BytesIO()
        bare.save_as(buffer, enforce_file_format=True)
        content = buffer.getbuffer()
    # The file lies with this process, which cleans up also after a decoder that died.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        path.write_bytes(content)
        try:
            known, found = decode("itk_read", label, size_bytes=size, path=str(path), kind="GDCMImageIO")
        except DecodeError as error:
            # ITK's own words name source files of its build, so they are left to the chained error.
            raise ImageError(
                f"the pixels of {label} cannot be decoded: they are damaged, or compressed in a way that "
                "nothing installed reads. Copy the file again, or export it uncompressed."
            ) from error
    assert found is not None
    width, height = known["size"][:2]
    frames = frames_of(bare)
    pixels = found.reshape(frames, height, width, known["channels"])
    pixels = pixels if known["channels"] > 1 else pixels[..., 0]
    return pixels if frames > 1 else pixels[0]
