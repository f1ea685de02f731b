"""Open files that anyone may have made: regular ones only, and never more of them than a limit."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from anatozoo.errors import AnatozooError, DataError, ImageError
from anatozoo.io.limits import MAX_FILE_BYTES, MAX_TEXT_BYTES

GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 2**20
_MOST_INFLATION = 100
_FREE_INFLATION = 2**26
_NPY_LONGEST_HEADER = 2**14
UNREADABLE = (OSError, EOFError, ValueError, zlib.error)
"""What opening and decompressing a file raises, among them `gzip.BadGzipFile` and `UnicodeDecodeError`."""


def open_regular(path: Path, error: type[AnatozooError] = ImageError) -> BinaryIO:
    """Open a file for reading bytes.

    Args:
        path: the file.
        error: what to raise.

    Raises:
        AnatozooError: of the class `error`; it is missing, a folder, a device, a pipe or a socket, over
            2**30 bytes, or may not be read.
    """
    label = repr(str(path))
    # A pipe without a writer would make a plain open wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_dir():
            raise error(f"{label} is a folder, not a file; give a regular file.")
        if path.exists() and not path.is_file():
            raise error(f"{label} is a device or a pipe; give a regular file.")
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        raise error(f"{label} cannot be opened: {reason}. Check the path.") from cause
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):  # exchanged since the look above
        os.close(descriptor)
        raise error(f"{label} is a device or a pipe; give a regular file.")
    if found.st_size > MAX_FILE_BYTES:
        os.close(descriptor)
        raise error(
            f"{label} has {found.st_size} bytes; at most {MAX_FILE_BYTES} (2**30) are read. Shrink it first."
        )
    return os.fdopen(descriptor, "rb")


def check_regular(path: Path, error: type[AnatozooError] = ImageError) -> int:
    """Refuse what `open_regular` refuses, without opening it for long; give the size in bytes."""
    with open_regular(path, error) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(
    path: Path, limit: int = MAX_FILE_BYTES, error: type[AnatozooError] = ImageError, *, unzip: bool = False
) -> bytes:
    """Content of a regular file.

    Args:
        path: the file.
        limit: bytes, after decompression.
        error: what to raise.
        unzip: whether to decompress gzip, recognised by its first bytes.

    Raises:
        AnatozooError: of the class `error`; the file cannot be read, is damaged gzip or over the limit.
    """
    with open_regular(path, error) as file:
        try:
            zipped = unzip and file.read(2) == GZIP_MAGIC
            file.seek(0)
            content = gzip.GzipFile(fileobj=file).read(limit + 1) if zipped else file.read(limit + 1)
        except UNREADABLE as cause:
            raise error(
                f"{str(path)!r} is damaged or truncated ({cause}); copy or export it again."
            ) from cause
    if len(content) > limit:
        raise error(f"{str(path)!r} has over {limit} bytes, the limit; shrink it first.")
    return content


def read_text(path: Path, error: type[AnatozooError] = DataError, limit: int = MAX_TEXT_BYTES) -> str:
    """Text of a UTF-8 file, plain or gzipped, a byte-order mark left out.

    Raises:
        AnatozooError: of the class `error`; the file cannot be read, or is not text.
    """
    content = read_bytes(path, limit, error, unzip=True)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{str(path)!r} is not UTF-8 text ({cause}); save it as UTF-8.") from cause


def read_xml(path: Path, *, deepest: int = 16) -> ElementTree.Element:
    """The root element of an XML file.

    Args:
        path: the file.
        deepest: how deep elements may be nested.

    Raises:
        DataError: it cannot be read, is no XML, is nested deeper, or declares a document type or entities,
            which can grow without bound or read other files.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(
            f"{path} declares a document type or entities, which is not accepted; export it again."
        )
    depth, root = 0, None
    try:
        for event, element in ElementTree.iterparse(io.StringIO(text), ("start", "end")):
            depth += 1 if event == "start" else -1
            root = element if root is None else root
            if depth > deepest:
                raise DataError(f"{path} is nested deeper than {deepest} elements; export it again.")
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} cannot be read as XML ({error}); export it again.") from error
    if root is None:
        raise DataError(f"{path} holds no element; export it again.")
    return root


def read_json(
    path: Path, error: type[AnatozooError] = DataError, limit: int = MAX_TEXT_BYTES, *, unique: bool = False
) -> Any:
    """Value of a JSON file.

    Args:
        path: the file.
        error: what to raise.
        limit: bytes, after decompression.
        unique: whether to refuse an object with a key twice, of which the last counts otherwise.

    Raises:
        AnatozooError: of the class `error`; the file cannot be read, is not JSON, is nested too deeply, or
            has a key twice.
    """
    text = read_text(path, error, limit)
    try:
        return json.loads(text, object_pairs_hook=_once if unique else None)
    except (ValueError, RecursionError) as cause:
        raise error(f"{str(path)!r} cannot be read as JSON: {cause}.") from cause


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice; keep one")
        found[key] = value
    return found


def read_npy(path: Path, error: type[AnatozooError] = DataError) -> npt.NDArray[Any]:
    """Array of a ``.npy`` file; no pickle is ever read.

    Raises:
        AnatozooError: of the class `error`; the file is damaged, or shorter than its header says.
    """
    content = read_bytes(path, error=error)
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file, max_header_size=_NPY_LONGEST_HEADER)
        if dtype.hasobject:
            raise ValueError(
                "it holds Python objects, which only run as code; save numbers, allow_pickle=False"
            )
        needed = dtype.itemsize
        for size in shape:
            needed *= int(size)
        if any(size < 0 for size in shape) or needed > len(content) - file.tell():
            raise ValueError(f"the header says {shape} of {dtype}, which is not what follows")
        file.seek(0)
        array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
        return array
    except Exception as cause:  # a hostile header makes numpy's parser fail in any way it likes
        raise error(f"{str(path)!r} holds no array that can be read: {cause}.") from cause


def inflate(content: bytes, limit: int, window_bits: int = -zlib.MAX_WBITS) -> bytes | None:
    """Decompress a zlib or raw deflate stream; None where it has over `limit` bytes.

    Raises:
        zlib.error: the stream is damaged.
        EOFError: it ends early.
    """
    stream = zlib.decompressobj(window_bits)
    found = stream.decompress(content, limit + 1)
    if len(found) > limit:
        return None
    if not stream.eof:
        raise EOFError("the compressed data end early")
    return found


def unzipped_size(file: BinaryIO, at: int, needed: int) -> int:
    """How many of `needed` bytes a gzip stream holds that begins at byte `at`, without keeping them.

    Raises:
        OSError, EOFError, zlib.error: the stream is damaged or ends early.
    """
    file.seek(at)
    with gzip.GzipFile(fileobj=file) as stream:
        left = needed
        while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
            left -= len(chunk)
        stream.read(1)  # past the last byte, a cut stream shows by its missing checksum
    return needed - left


def check_inflation(path: Path, error: type[AnatozooError] = DataError) -> None:
    """Refuse a gzipped table that inflates as no text does; a file that is not gzip is only looked at.

    Raises:
        AnatozooError: of the class `error`; it is not a regular file, is damaged, or inflates to over 2**26
            bytes and 100 times its size.
    """
    label = repr(str(path))
    with open_regular(path, error) as file:
        most = max(_FREE_INFLATION, _MOST_INFLATION * os.fstat(file.fileno()).st_size)
        if file.read(2) != GZIP_MAGIC:
            return
        try:
            there = unzipped_size(file, 0, most + 1)
        except UNREADABLE as cause:
            raise error(
                f"{label} cannot be read as a table: it is damaged or truncated ({cause})."
            ) from cause
    if there > most:
        raise error(f"{label} inflates to over {_MOST_INFLATION} times its size, as no table does.")
