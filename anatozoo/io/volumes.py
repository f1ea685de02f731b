"""Read NIfTI, MetaImage and NRRD files, and decode those that hold one X-ray."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ImageError
from anatozoo.io.arrays import COLOUR_CHANNELS, slice_axes
from anatozoo.io.children import DecodeError, decode
from anatozoo.io.decoded import Decoded, check_size, grey_plane, valid_spacing
from anatozoo.io.nifti import NiftiHeader
from anatozoo.io.nifti_space import UNIT_ASSUMED
from anatozoo.io.text_headers import META_START, NRRD_MAGIC, check_meta_header, check_nrrd_header
from anatozoo.io.untrusted import GZIP_MAGIC, open_regular

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".mha", ".mhd", ".nrrd", ".nhdr")
_TEXT_MAGICS = (b"NRRD", b"ObjectType")
_PICTURE_MAGICS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"BM")
_NIFTI_MAGICS = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0", b"ni2\0")}
_TEXT_HEADER_BYTES = 2**16
_SPACING_KEYS = re.compile(rb"^(?:ElementSpacing|ElementSize|spacings|space directions)\s*[:=]", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class ItkFile:
    """A file as ITK reads it.

    Attributes:
        size: voxels along each axis, ``(x, y[, z, ...])``.
        spacing: distances of voxels, 1 where the file does not say.
        origin: physical position of the first voxel.
        direction: rows of the matrix whose columns are the axes' directions.
        channels: values per voxel.
        nifti: the header, where it is NIfTI.
        path: the file.
        values: ``(*reversed(size))``, and the channels last where there are several.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    channels: int
    nifti: NiftiHeader | None
    path: Path
    values: npt.NDArray[Any]

    def spacing_of(self, axes: Sequence[int]) -> tuple[float, ...] | None:
        """Steps along these axes in millimetres; None where the file states none, for which ITK says 1.

        Of NIfTI, metres and micrometres are converted, and a file without a unit is in millimetres, as
        `remarks` then says, unless it holds nothing but ones.
        """
        return tuple(self.spacing[axis] for axis in axes) if self._states(axes) else None

    def remarks(self, axes: Sequence[int]) -> tuple[str, ...]:
        """Flags of what the file leaves in doubt about these axes."""
        if self.nifti is None:
            return ()
        flags = self.nifti.space.remarks([self.spacing[axis] for axis in axes])
        return flags if self._states(axes) else tuple(flag for flag in flags if flag != UNIT_ASSUMED)

    def _states(self, axes: Sequence[int]) -> bool:
        if self.nifti is not None:
            stated = [self.nifti.spacing[axis] for axis in axes if axis < len(self.nifti.spacing)]
            known = len(stated) == len(axes) and all(0 < step < math.inf for step in stated)
            space = self.nifti.space
            return known and (space.has_unit or space.unit_is_assumed(stated))
        with open_regular(self.path) as file:
            head = file.read(_TEXT_HEADER_BYTES)
        return _SPACING_KEYS.search(head) is not None


def is_volume(head: bytes, path: Path) -> bool:
    """Whether the first bytes, or else the suffix of what is not a picture, say NIfTI, MetaImage or NRRD."""
    return (
        head.startswith(_TEXT_MAGICS)
        or any(head[at:].startswith(magics) for at, magics in _NIFTI_MAGICS.items())
        or (path.name.lower().endswith(_SUFFIXES) and not head.startswith(_PICTURE_MAGICS))
    )


def suffix_of_volume(path: Path) -> bool:
    """Whether a file is named as NIfTI, MetaImage or NRRD."""
    return path.name.lower().endswith(_SUFFIXES)


def read_itk(path: Path, label: str, *, one_slice: bool = False, values: bool = True) -> ItkFile:
    """Read a file through ITK, in a process of its own and after its header has been checked.

    Args:
        path: NIfTI, plain or gzipped, MetaImage or NRRD, told apart by content.
        label: what it is called in messages.
        one_slice: refuse more than one slice, and sizes no X-ray has, before voxels are read.
        values: whether voxels are wanted; if not, only the header is read.

    Raises:
        ImageError: the file is of another kind, damaged, truncated, too large, or names its voxels in another
            folder.
    """
    with open_regular(path) as file:
        head = file.read(_TEXT_HEADER_BYTES)
    nifti = None
    if NRRD_MAGIC.match(head):
        kind = "NrrdImageIO"
        check_nrrd_header(path, label)
    elif META_START.match(head):
        kind = "MetaImageIO"
        check_meta_header(path, label)
    else:
        kind = "NiftiImageIO"
        nifti = NiftiHeader.read(path)
        if nifti is None:
            raise ImageError(
                f"{label} is damaged, truncated or of a kind that ITK cannot read: not NIfTI, MetaImage "
                "or NRRD. Copy or export it again."
            )
        nifti.check(path, label)
    with contextlib.ExitStack() as stack:
        known_as = path
        if nifti is not None and head.startswith(GZIP_MAGIC) and path.suffix.lower() != ".gz":
            known_as = stack.enter_context(_called_zipped(path))
        return _read_checked(path, known_as, kind, nifti, label, one_slice=one_slice, values=values)


@contextlib.contextmanager
def _called_zipped(path: Path) -> Iterator[Path]:
    """A gzipped file under a name that says so, for ITK goes by the name."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copyfile(path, Path(folder, "image.nii.gz")))


def _read_checked(
    path: Path,
    known_as: Path,
    kind: str,
    nifti: NiftiHeader | None,
    label: str,
    *,
    one_slice: bool,
    values: bool,
) -> ItkFile:
    arguments: dict[str, Any] = {"path": str(known_as.absolute()), "kind": kind}
    try:
        if one_slice or not values:
            known, _ = decode("itk_information", label, **arguments)
            if one_slice:
                axes = slice_axes(known["size"], label)
                check_size(known["size"][axes[0]], known["size"][axes[1]], label)
            if not values:
                return _read(known, np.empty(0), nifti, path)
        lost = np.empty(0, np.int64) if nifti is None else nifti.scan(path, label)
        known, found = decode("itk_read", label, size_bytes=path.stat().st_size, **arguments)
        if len(lost) and found is not None:
            # ITK gives 0, and nobody would know. Readers flag or refuse NaN.
            found = np.array(found, order="C")
            if found.size != math.prod(nifti.sizes if nifti else ()):
                raise ImageError(f"{label} holds NaN or infinity; replace them by numbers.")
            found.reshape(-1)[lost] = np.nan
    except DecodeError as error:
        if nifti is not None and nifti.space.is_sheared:
            raise ImageError(
                f"{label}: the directions of its axes (sform) are not orthogonal, as after an affine "
                "registration or of a tilted gantry; resample it to a grid with right angles first."
            ) from error
        # ITK's own last line often blames a missing file, so it is left to the chained error.
        raise ImageError(
            f"{label} is damaged, truncated or of a kind that ITK cannot read; copy or export it again."
        ) from error
    return _read(known, found, nifti, path)


def _read(known: dict[str, Any], values: Any, nifti: NiftiHeader | None, path: Path) -> ItkFile:
    size, spacing, origin, direction = (tuple(known[k]) for k in ("size", "spacing", "origin", "direction"))
    return ItkFile(size, spacing, origin, direction, known["channels"], nifti, path, values)


def decode_volume(path: Path, label: str) -> Decoded:
    """Decode a file of one slice through ITK, after its header has been checked.

    A spacing is believed only where the file states one, for ITK puts 1 mm otherwise.

    Raises:
        ImageError: more than one slice, a size no X-ray has, or a damaged or truncated file.
    """
    read = read_itk(path, label, one_slice=True)
    columns, rows = slice_axes(read.size, label)
    if read.channels not in COLOUR_CHANNELS:
        raise ImageError(f"{label} has {read.channels} values per pixel; grey, RGB or RGBA is needed.")
    pixels, flags = grey_plane(read.values.reshape(read.size[rows], read.size[columns], read.channels), label)
    axes = (columns, rows)
    return Decoded(pixels, valid_spacing(read.spacing_of(axes)), flags=(*flags, *read.remarks(axes)))
