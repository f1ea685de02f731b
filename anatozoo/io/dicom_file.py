"""Read DICOM data sets that anyone may have made: regular files of bounded length, inflated up to a limit."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from anatozoo.errors import ImageError
from anatozoo.io.untrusted import inflate, open_regular, read_bytes

MOST_INFLATED_BYTES = 2**28
_MOST_READS = 1_000_000
"""Each element takes two or three; a file of more is a parser's trap, not an image."""
_META_BYTES = 2**16
_MAGIC_AT, _MAGIC = 128, b"DICM"
_SYNTAX = b"\x02\0\x10\0"
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OD", b"OF", b"OL", b"UC", b"UR")


class _Counted(io.BufferedReader):
    """A file that may be read a bounded number of times, and never beyond its end."""

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self._left = _MOST_READS
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it has too many elements")
        # A length field can claim 4 GB, for which room would be made before the end is met.
        return super().read(size if size is None or size < 0 else min(size, self._size))


def read_dicom(path: Path, **options: Any) -> FileDataset:
    """Read a data set, whether or not it begins with the preamble.

    Args:
        path: the file.
        options: of `pydicom.dcmread`.

    Raises:
        ImageError: it is not a regular file, or inflates to over 2**28 bytes.
        Exception: whatever pydicom raises where the file is damaged.
    """
    with open_regular(path) as file:
        start = file.read(_META_BYTES)
    at = _deflated_at(start)
    if at is not None:
        return pydicom.dcmread(io.BytesIO(_inflated(path, at)), force=True, **options)
    with _Counted(open_regular(path).detach()) as counted:  # type: ignore[attr-defined]  # it is buffered
        return pydicom.dcmread(counted, force=True, **options)


def _deflated_at(start: bytes) -> int | None:
    """Where the deflated data set begins; None where it is not deflated."""
    at = _MAGIC_AT + len(_MAGIC) if start[_MAGIC_AT:].startswith(_MAGIC) else 0
    is_deflated = False
    while start[at : at + 2] == b"\x02\0" and at + 8 <= len(start):
        if start[at + 4 : at + 6] in _LONG:
            length, skipped = int.from_bytes(start[at + 8 : at + 12], "little"), 12
        else:
            length, skipped = int.from_bytes(start[at + 6 : at + 8], "little"), 8
        if start.startswith(_SYNTAX, at):
            value = start[at + skipped : at + skipped + length].strip(b"\0 ")
            is_deflated = value == DeflatedExplicitVRLittleEndian.encode("ascii")
        at += skipped + length
    return at if is_deflated else None


def _inflated(path: Path, at: int) -> bytes:
    """The same file without its compression."""
    label = repr(str(path))
    content = read_bytes(path)
    try:
        inflated = inflate(content[at:], MOST_INFLATED_BYTES)
    except (EOFError, zlib.error) as error:
        raise ImageError(
            f"{label} is damaged or truncated DICOM ({error}); copy or export it again."
        ) from error
    if inflated is None:
        raise ImageError(
            f"{label} inflates to over {MOST_INFLATED_BYTES} (2**28) bytes; export it uncompressed."
        )
    old = DeflatedExplicitVRLittleEndian.encode("ascii")
    new = ExplicitVRLittleEndian.encode("ascii").ljust(len(old), b"\0")
    return content[:at].replace(old, new) + inflated
