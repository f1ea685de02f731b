"""The few NIfTI header fields that ITK hides: it fills in missing spacings and missing pixels silently."""

from __future__ import annotations

import gzip
import math
import os
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ImageError
from anatozoo.io.limits import check_volume_size
from anatozoo.io.nifti_space import NiftiSpace
from anatozoo.io.text_headers import truncated
from anatozoo.io.untrusted import GZIP_MAGIC, UNREADABLE, open_regular, unzipped_size

HEADER_BYTES = 540
_MAGICS = (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0")
# Offsets and struct formats of dim, datatype, bitpix, pixdim, vox_offset, scl_slope and scl_inter
# by the header's own size, as the NIfTI-1 and NIfTI-2 standards fix them.
_LAYOUTS = {
    348: ((40, "8h"), (70, "h"), (72, "h"), (76, "8f"), (108, "f"), (112, "f"), (116, "f")),
    540: ((16, "8q"), (12, "h"), (14, "h"), (104, "8d"), (168, "q"), (176, "d"), (184, "d")),
}
# Bits of a voxel by datatype: those that ITK reads.
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64}
_BITS |= {1792: 128, 2304: 32}
_ANALYZE_SUFFIX = ".hdr"
# Datatypes that can hold NaN, and how many voxels are looked at at a time.
_FLOATS = {16: "f4", 64: "f8"}
_VOXELS = 1 << 20


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says about units, spacing and length.

    Attributes:
        spacing: grid steps per axis as stored.
        space: units and place, see `NiftiSpace`.
        data_end: offset in bytes of the end of the voxels, in the uncompressed data file.
        single_file: whether header and voxels share one file.
        sizes: voxels along each axis.
        datatype: the standard's code of the type of a voxel.
        bits: of a voxel.
        start: offset in bytes of the first voxel, in the uncompressed data file.
        scaling: slope and intercept.
        order: ``"<"`` or ``">"``, the order of bytes.
    """

    spacing: tuple[float, ...]
    space: NiftiSpace
    data_end: int
    single_file: bool
    sizes: tuple[int, ...]
    datatype: int
    bits: int
    start: float
    scaling: tuple[float, float]
    order: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the header of a plain or gzipped file; ``None`` if the file is not NIfTI.

        Raises:
            ImageError: the file cannot be read or its gzip stream is damaged.
        """
        label = repr(str(path))
        with open_regular(path) as file:
            head = file.read(HEADER_BYTES)
            if head.startswith(GZIP_MAGIC):
                file.seek(0)
                try:
                    head = gzip.GzipFile(fileobj=file).read(HEADER_BYTES)
                except UNREADABLE as error:
                    raise ImageError(
                        f"{label} is damaged or truncated: its compression breaks off; "
                        "copy or export it again."
                    ) from error
        for order in "<>":
            for length, layout in _LAYOUTS.items():
                magic = head[344:348] if length == 348 else head[4:8]
                whole = len(head) >= length and struct.unpack_from(order + "i", head)[0] == length
                # The older Analyze has no magic, and always two files.
                is_analyze = length == 348 and path.name.lower().endswith(_ANALYZE_SUFFIX)
                if whole and (magic in _MAGICS or is_analyze):
                    dim, (kind,), (bits,), pixdim, (start,), (slope,), (shift,) = (
                        struct.unpack_from(order + form, head, at) for at, form in layout
                    )
                    axes = min(max(dim[0], 0), 7)
                    count = math.prod(max(d, 1) for d in dim[1 : 1 + axes])
                    end = (int(start) if math.isfinite(start) else 0) + count * bits // 8
                    return cls(
                        pixdim[1 : 1 + axes],
                        NiftiSpace.read(head, length, order),
                        end,
                        magic.startswith(b"n+"),
                        dim[1 : 1 + axes],
                        kind,
                        bits,
                        start,
                        # Analyze has other things in the place of these numbers.
                        (slope, shift) if magic in _MAGICS else (1.0, 0.0),
                        order,
                    )
        return None

    def check(self, path: Path, label: str) -> None:
        """Refuse a header that is mad, or of a volume that is too large; nothing is decompressed for it.

        Raises:
            ImageError: sizes, type, offset or scaling are impossible, or there are over 2**27 voxels.
        """
        wrong = None
        if not self.sizes or min(self.sizes) < 1:
            wrong = f"its sizes are {self.sizes}"
        elif _BITS.get(self.datatype) != self.bits:
            wrong = f"its datatype is {self.datatype} of {self.bits} bits"
        elif not (math.isfinite(self.start) and self.start == int(self.start) and 0 <= self.start < 2**31):
            wrong = f"its voxels begin at byte {self.start}"
        elif not all(map(math.isfinite, self.scaling)):
            wrong = f"its scl_slope and scl_inter are {self.scaling}"
        if wrong:
            raise ImageError(
                f"{label} is damaged, or of a kind that ITK cannot read: {wrong}. Copy or export it again."
            )
        check_volume_size(self.sizes, -(-self.bits // 8), label)

    def scan(self, path: Path, label: str) -> npt.NDArray[np.int64]:
        """Refuse a file that ends before its last voxel, which ITK would fill with zeros, and look for NaN.

        The file is decompressed once.

        Returns:
            Which voxels, counted in the order of the file, are NaN or infinite: ITK reads them as 0.

        Raises:
            ImageError: the file is shorter than the header says, or is not a regular file.
        """
        with open_regular(self._data(path)) as file, ExitStack() as stack:
            zipped = file.read(2) == GZIP_MAGIC
            if not zipped and os.fstat(file.fileno()).st_size < self.data_end:
                raise truncated(label)
            try:
                if self.datatype in _FLOATS:
                    file.seek(0)
                    stream = stack.enter_context(gzip.GzipFile(fileobj=file)) if zipped else file
                    return self._non_finite(stream, label)
                if zipped and unzipped_size(file, 0, self.data_end) < self.data_end:
                    raise truncated(label)
            except UNREADABLE as error:
                raise truncated(label) from error
        return np.empty(0, np.int64)

    def _non_finite(self, stream: BinaryIO | gzip.GzipFile, label: str) -> npt.NDArray[np.int64]:
        found, voxels = [], np.dtype(self.order + _FLOATS[self.datatype])
        stream.seek(int(self.start))
        for first in range(0, math.prod(self.sizes), _VOXELS):
            count = min(_VOXELS, math.prod(self.sizes) - first)
            content = stream.read(count * voxels.itemsize)
            if len(content) < count * voxels.itemsize:
                raise truncated(label)
            found.append(first + np.flatnonzero(~np.isfinite(np.frombuffer(content, voxels))))
        stream.read(1)  # past the last byte, a cut stream shows by its missing checksum
        return np.concatenate(found)

    def _data(self, path: Path) -> Path:
        return path if self.single_file else _pair_of(path)


def _pair_of(path: Path) -> Path:
    """The file of voxels beside a header."""
    plain = path.with_suffix(".img")
    zipped = plain.with_name(plain.name + ".gz")
    data = zipped if zipped.exists() and not plain.exists() else plain
    if os.path.dirname(os.path.realpath(data)) != os.path.realpath(path.parent):
        raise ImageError(f"{str(data)!r} is a link out of its folder; copy the file there.")
    return data
