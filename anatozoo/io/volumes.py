"""Decode NIfTI, MetaImage and NRRD files that hold one X-ray."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anatozoo.errors import ImageError
from anatozoo.io.arrays import decode_itk, slice_axes
from anatozoo.io.decoded import Decoded, check_size
from anatozoo.io.nifti import NiftiHeader

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".mha", ".mhd", ".nrrd", ".nhdr")
_TEXT_MAGICS = (b"NRRD", b"ObjectType")
_NIFTI_MAGICS = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0", b"ni2\0")}
_TEXT_HEADER_BYTES = 2**16
_SPACING_KEYS = re.compile(rb"^(?:ElementSpacing|ElementSize|spacings|space directions)\s*[:=]", re.MULTILINE)


def is_volume(head: bytes, path: Path) -> bool:
    """Whether the first bytes, or else the suffix, say NIfTI, MetaImage or NRRD."""
    return (
        head.startswith(_TEXT_MAGICS)
        or any(head[at:].startswith(magics) for at, magics in _NIFTI_MAGICS.items())
        or path.name.lower().endswith(_SUFFIXES)
    )


def decode_volume(path: Path, label: str) -> Decoded:
    """Decode a file of one slice through ITK, after its header has been checked.

    A spacing is believed only where the file states one and its unit, for ITK puts 1 mm otherwise.

    Raises:
        ImageError: more than one slice, a size no X-ray has, or a damaged or truncated file.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        nifti = NiftiHeader.read(path)
        reader.ReadImageInformation()
        size = reader.GetSize()
        axes = slice_axes(size, label)
        check_size(size[axes[0]], size[axes[1]], label)
        if nifti is not None:
            nifti.check_complete(path, label)
        decoded = decode_itk(reader.Execute(), label)
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        # ITK's own last line often blames a missing file, so it is left to the chained error.
        raise ImageError(
            f"{label} is damaged, truncated or of a kind that ITK cannot read; copy or export it again."
        ) from error
    return decoded if states_spacing(path, nifti, axes) else replace(decoded, spacing_mm=None)


def states_spacing(path: Path, nifti: NiftiHeader | None, axes: Sequence[int]) -> bool:
    """Whether the file itself states a spacing in known units along these axes; where not, ITK says 1."""
    if nifti is not None:
        stated = [nifti.spacing[axis] for axis in axes if axis < len(nifti.spacing)]
        return nifti.has_units and len(stated) == len(axes) and all(0 < s < math.inf for s in stated)
    with path.open("rb") as file:
        head = file.read(_TEXT_HEADER_BYTES)
    # A suffix may lie about a TIFF or the like, whose resolution is for printing.
    return head.startswith(_TEXT_MAGICS) and _SPACING_KEYS.search(head) is not None
