"""Decode DICOM radiographs as they are meant to be seen."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from anatozoo.errors import ImageError
from anatozoo.io.decoded import Decoded, check_size, grey_plane
from anatozoo.io.dicom_file import read_dicom
from anatozoo.io.dicom_header import check_is_chest_xray, flags_of, frames_of, metadata_of, spacing_of
from anatozoo.io.dicom_itk import decompressed_pixels
from anatozoo.io.limits import check_volume_size

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# What apply_voi_lut raises where window or table are malformed, as they often are in the wild.
_BAD_WINDOW = (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError)


def decode_dicom(path: Path, *, allow_any_modality: bool = False) -> Decoded:
    """Decode a single-frame DICOM radiograph: Modality LUT, then VOI LUT or the first window.

    MONOCHROME1 is reported as `Decoded.inverted`, so that the inversion comes after the window.
    Padding (PixelPaddingValue) is reported as `Decoded.background`. The flag ``"window_ignored"`` says that
    the window was malformed or blanked the image, so that the image is shown without it.

    Raises:
        ImageError: not DICOM, without pixels, damaged, truncated, of several frames, compressed in a way that
            nothing installed can decode, or (unless `allow_any_modality`) not an X-ray of the chest.
    """
    label = repr(str(path))
    with warnings.catch_warnings():
        # pydicom warns of every breach of the standard; what matters here is checked below.
        warnings.simplefilter("ignore")
        dataset = read_dataset(path, label)
        if not allow_any_modality:
            check_is_chest_xray(dataset, label)
        _check_shape(dataset, label)
        stored = stored_pixels(dataset, label)
        if stored.ndim == 3:
            pixels, flags = grey_plane(stored, label)
            background = None
        else:
            pixels, flags = _for_display(dataset, stored, label)
            background = _padding(dataset, stored)
        return Decoded(
            pixels,
            spacing_of(dataset),
            metadata_of(dataset),
            (*flags, *flags_of(dataset)),
            inverted=dataset.get("PhotometricInterpretation") == "MONOCHROME1",
            background=background,
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
    """Decompress to stored values ``(H, W)`` or colours ``(H, W, 3)``; several frames ``(N, ...)``.

    Raises:
        ImageError: they are damaged, truncated, or compressed in a way that nothing installed can decode.
    """
    try:
        _check_memory(dataset, label)
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            stored = decompressed_pixels(dataset, label)
        else:
            stored = pixel_array(dataset)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)
        return stored
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


def modality_values(stored: npt.NDArray[Any], header: Dataset, label: str) -> npt.NDArray[Any]:
    """Apply the Modality LUT, or slope and intercept, of a header to stored values.

    Raises:
        ImageError: they are malformed, so that what the stored values mean is unknown.
    """
    try:
        return apply_modality_lut(stored, header)
    except Exception as error:  # a hostile header fails in any way it likes
        raise ImageError(
            f"{label} is damaged: its Modality LUT, or rescale slope and intercept, cannot be read; copy or "
            "export it again."
        ) from error


def _for_display(
    dataset: FileDataset, stored: npt.NDArray[Any], label: str
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Apply Modality LUT and VOI LUT or window; give the values and flags."""
    values = modality_values(stored, dataset, label)
    try:
        windowed = apply_voi_lut(values, dataset)
    except _BAD_WINDOW:
        return values, ("window_ignored",)
    if windowed.min() == windowed.max() and values.min() != values.max():
        return values, ("window_ignored",)
    return windowed, ()


def _padding(dataset: FileDataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Pixels within PixelPaddingValue and its limit; ``None`` if there are none, or nothing else."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None
