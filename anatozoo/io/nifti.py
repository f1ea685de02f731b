"""The few NIfTI header fields that ITK hides: it fills in missing spacings and missing pixels silently."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from anatozoo.errors import ImageError

HEADER_BYTES = 540
_GZIP_MAGIC = b"\x1f\x8b"
_SPACE_UNIT_BITS = 0b111
_CHUNK = 2**20
# Offsets and struct formats of dim, bitpix, pixdim, vox_offset, xyzt_units by the header's own size,
# as the NIfTI-1 and NIfTI-2 standards fix them.
_LAYOUTS = {
    348: ((40, "8h"), (72, "h"), (76, "8f"), (108, "f"), (123, "b")),
    540: ((16, "8q"), (14, "h"), (104, "8d"), (168, "q"), (500, "i")),
}


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says about units, spacing and length.

    Attributes:
        spacing: grid steps per axis as stored, in `has_units` units.
        has_units: whether the unit of length is stated.
        data_end: offset in bytes of the end of the voxels, in the uncompressed data file.
        single_file: whether header and voxels share one file.
    """

    spacing: tuple[float, ...]
    has_units: bool
    data_end: int
    single_file: bool

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the header of a plain or gzipped file; ``None`` if the file is not NIfTI.

        Raises:
            OSError, EOFError, zlib.error: the file cannot be read or its gzip stream is damaged.
        """
        with _open(path) as file:
            head = file.read(HEADER_BYTES)
        for order in "<>":
            for length, layout in _LAYOUTS.items():
                magic = head[344:347] if length == 348 else head[4:7]
                whole = len(head) >= length and struct.unpack_from(order + "i", head)[0] == length
                if whole and magic in (b"n+1", b"ni1", b"n+2", b"ni2"):
                    dim, (bits,), pixdim, (start,), (units,) = (
                        struct.unpack_from(order + form, head, at) for at, form in layout
                    )
                    axes = min(max(dim[0], 0), 7)
                    count = math.prod(max(d, 1) for d in dim[1 : 1 + axes])
                    end = (int(start) if math.isfinite(start) else 0) + count * bits // 8
                    single = magic.startswith(b"n+")
                    return cls(pixdim[1 : 1 + axes], bool(units & _SPACE_UNIT_BITS), end, single)
        return None

    def check_complete(self, path: Path, label: str) -> None:
        """Refuse a file that ends before its last voxel, which ITK would fill with zeros.

        Raises:
            ImageError: the file is shorter than the header says.
        """
        data = path if self.single_file else path.with_suffix(".img")
        missing = ImageError(f"{label} is truncated: it ends before its last voxel; copy or export it again.")
        try:
            with _open(data) as file:
                left = self.data_end
                while left > 0 and (chunk := file.read(min(left, _CHUNK))):
                    left -= len(chunk)
                file.read(1)  # past the last voxel a cut gzip stream shows by its missing checksum
        except (OSError, EOFError, zlib.error) as error:
            raise missing from error
        if left > 0:
            raise missing


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if zipped else path.open("rb")
