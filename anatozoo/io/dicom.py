"""Decode DICOM radiographs as they are meant to be seen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from anatozoo.errors import ImageError, turned_into
from anatozoo.io.decoded import Decoded, check_size, grey_plane
from anatozoo.io.dicom_bits import mend_bits, numbers_of
from anatozoo.io.dicom_file import read_dicom
from anatozoo.io.dicom_grey import Grey, grey_values, is_palette, palette_colours
from anatozoo.io.dicom_header import check_is_chest_xray, flags_of, frames_of, metadata_of
from anatozoo.io.dicom_itk import decompressed_pixels
from anatozoo.io.dicom_source import DicomFrame, source_of, uid_of
from anatozoo.io.dicom_spacing import pixel_size
from anatozoo.io.limits import check_volume_size
from anatozoo.io.quiet import quiet

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def decode_dicom(path: Path, *, allow_any_modality: bool = False) -> Decoded:
    """Decode a single-frame DICOM radiograph: Modality LUT, then VOI LUT or the first window.

    What stored values mean, and when an attribute is not believed, is in `anatozoo.io.dicom_grey`; how large
    a pixel is, in `anatozoo.io.dicom_spacing`. MONOCHROME1 is reported as `Decoded.inverted`, so that the
    inversion comes after the window, padding as `Decoded.background`.

    Raises:
        ImageError: not DICOM, without pixels, damaged, truncated, of several frames, a mask, compressed in a
            way that nothing installed can decode, or (unless `allow_any_modality`) not an X-ray of the chest.
    """
    label = repr(str(path))
    with quiet():
        # pydicom warns of every breach of the standard; what matters here is checked below.
        dataset = read_dataset(path, label)
        with header_of(label):
            if not allow_any_modality:
                check_is_chest_xray(dataset, label)
            _check_shape(dataset, label)
            flags = mend_bits(dataset)
            grey = _grey(dataset, stored_pixels(dataset, label), label)
            pixel = pixel_size(dataset, (int(dataset.Columns), int(dataset.Rows)))
            return Decoded(
                grey.values,
                pixel.spacing_mm,
                metadata_of(dataset),
                (*flags, *grey.flags, *flags_of(dataset), *pixel.flags),
                inverted=grey.inverted,
                background=grey.background,
                aspect=pixel.aspect,
                dicom=source_of([(dataset, DicomFrame(path, uid_of(dataset, "SOPInstanceUID")))]),
            )


def header_of(label: str) -> AbstractContextManager[None]:
    """Reading attributes of a header, each of which may be malformed in any way; an `ImageError` if one is.

    pydicom decodes attributes when they are first looked at.
    """
    return turned_into(
        ImageError, lambda _: f"{label} is damaged: its header cannot be read; copy or export it again."
    )


def read_dataset(path: Path, label: str) -> FileDataset:
    """Read a data set and make sure that it holds pixels whose encoding is known."""
    try:
        # The preamble is often missing in the wild; what is read is checked right here.
        dataset = read_dicom(path)
        keywords = set(dataset.dir())
    except ImageError:
        raise
    except Exception as error:  # a hostile file makes the parser fail in any way it likes
        raise ImageError(f"{label} is damaged or truncated DICOM; copy or export it again.") from error
    if "EncapsulatedDocument" in keywords:
        raise ImageError(f"{label} is a document (PDF) inside DICOM, not an image; choose the image file.")
    if "DirectoryRecordSequence" in keywords:
        raise ImageError(f"{label} is a DICOMDIR, a table of contents; choose one of the files it lists.")
    if not keywords.intersection(_PIXEL_KEYWORDS):
        raise ImageError(
            f"{label} has no pixel data: it is truncated, or a report or plan; copy or export the image "
            "again."
        )
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return dataset


def _check_shape(dataset: FileDataset, label: str) -> None:
    """Refuse several frames and sizes no X-ray has before anything is decoded."""
    try:
        frames = frames_of(dataset)
        width, height = int(dataset.Columns), int(dataset.Rows)
    except (AttributeError, TypeError, ValueError) as error:
        raise ImageError(f"{label} does not state its size; copy or export it again.") from error
    if frames > 1:
        raise ImageError(f"{label} holds {frames} frames; export the one to read as its own file.")
    check_size(width, height, label)


def stored_pixels(dataset: FileDataset, label: str) -> npt.NDArray[Any]:
    """Decompress to words ``(H, W)`` or colours ``(H, W, 3)``; several frames ``(N, ...)``.

    Words are as they are stored, unused bits and all; `anatozoo.io.dicom_grey` says what they mean.

    Raises:
        ImageError: they are damaged, truncated, or compressed in a way that nothing installed can decode.
    """
    try:
        _check_memory(dataset, label)
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            return decompressed_pixels(dataset, label)
        return pixel_array(dataset, correct_unused_bits=False)
    except ImageError:
        raise
    except Exception as error:  # decoders of hostile files fail in any way they like
        reason = " ".join(str(error).split())
        if "missing dependencies" in reason:
            advice = "Install a package named there, or export the file uncompressed"
        else:
            advice = "It is damaged or truncated; copy or export it again"
        raise ImageError(f"the pixels of {label} cannot be decoded ({reason}). {advice}.") from error


def _check_memory(dataset: FileDataset, label: str) -> None:
    """Refuse pixels that would not fit into memory."""
    sizes = (frames_of(dataset), int(dataset.Rows), int(dataset.Columns))
    samples, bits = int(dataset.get("SamplesPerPixel") or 1), int(dataset.BitsAllocated)
    check_volume_size((*sizes, samples) if samples > 1 else sizes, -(-bits // 8), label)


def _grey(dataset: FileDataset, words: npt.NDArray[Any], label: str) -> Grey:
    """What words ``(H, W)`` or colours ``(H, W, 3)`` show, as one plane.

    Raises:
        ImageError: they are a mask, or their tables cannot be read.
    """
    if dataset.get("BitsAllocated") == 1:
        raise ImageError(f"{label} holds only black and white; that is a mask, not an X-ray.")
    flags: tuple[str, ...] = ()
    if is_palette(dataset):
        try:
            colours, flags = palette_colours(words, dataset)
        except Exception as error:  # a hostile palette fails in any way it likes
            raise ImageError(f"{label} is damaged: its palette cannot be read; export it again.") from error
    elif words.ndim == 2:
        return grey_values(words, dataset, label)
    else:
        planes, flags = numbers_of(np.moveaxis(words, -1, 0), dataset)
        colours = np.moveaxis(planes, 0, -1)
    plane, mixed = grey_plane(colours, label)
    return Grey(plane, None, False, (*flags, *mixed))
