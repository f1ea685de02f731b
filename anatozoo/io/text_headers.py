"""Check headers of MetaImage and NRRD before a C++ library sees them, and find where their voxels lie."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anatozoo.errors import ImageError
from anatozoo.io.limits import check_volume_size
from anatozoo.io.untrusted import GZIP_MAGIC, check_regular, open_regular, unzipped_size

NRRD_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
META_START = re.compile(rb"\s*(?:ObjectType|NDims|Comment)\s*[=:]")
_LONGEST = 2**16
_MOST_AXES = 5
_WHOLE = re.compile(r"[0-9]{1,10}")
_META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4
    ),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long"), 8),
    **dict.fromkeys(("signed long long int", "int64", "int64_t", "ulonglong", "unsigned long long"), 8),
    **dict.fromkeys(("unsigned long long int", "uint64", "uint64_t", "double"), 8),
    "float": 4,
}
_PACKED = ("gzip", "gz", "bzip2", "bz2")
_TEXT = ("text", "txt", "ascii", "hex")


@dataclass(frozen=True)
class _Voxels:
    """Where the voxels lie: a file, from which byte on, how many, and how they are packed."""

    path: Path
    start: int
    needed: int
    packing: str  # "raw", "zlib", "gzip", "text" or "other"


def check_meta_header(path: Path, label: str) -> None:
    """Refuse a MetaImage whose header is mad, whose voxels lie elsewhere, or that ends before the last one.

    Raises:
        ImageError: it is not MetaImage, damaged, truncated, too large, or names a data file that is not a
            regular file beside it.
    """
    with open_regular(path) as file:
        fields, start = _meta_fields(file, label)
    axes = _counts(fields, "NDims", 1, label)[0]
    if not 2 <= axes <= _MOST_AXES:
        raise _damaged(label, f"NDims is {axes}")
    sizes = _counts(fields, "DimSize", axes, label)
    channels = _counts({"ElementNumberOfChannels": "1"} | fields, "ElementNumberOfChannels", 1, label)[0]
    kind = fields.get("ElementType", "").removesuffix("_ARRAY")
    if kind not in _META_BYTES:
        raise _damaged(label, f"ElementType is {kind[:40]!r}")
    check_volume_size((*sizes, channels) if channels > 1 else sizes, _META_BYTES[kind], label)
    skipped = fields.get("HeaderSize", "0")
    if not re.fullmatch(r"-1|[0-9]{1,10}", skipped):
        raise _damaged(label, f"HeaderSize is {skipped[:40]!r}")
    needed = math.prod(sizes) * channels * _META_BYTES[kind]
    name = fields.get("ElementDataFile", "")
    data = path if name.upper() == "LOCAL" else _beside(path, name, label)
    offset = start if data is path else max(int(skipped), 0)
    packed = _is_true(fields, "CompressedData", label)
    as_text = "BinaryData" in fields and not _is_true(fields, "BinaryData", label)
    # In the file itself, a header size only repeats where the voxels begin; -1 counts from the end.
    _check_whole(_Voxels(data, offset, needed, "text" if as_text else "zlib" if packed else "raw"), label)


def check_nrrd_header(path: Path, label: str) -> None:
    """Refuse an NRRD whose header is mad, whose voxels lie elsewhere, or that ends before the last one.

    Raises:
        ImageError: it is not NRRD, damaged, truncated, too large, or names a data file that is not a
            regular file beside it.
    """
    with open_regular(path) as file:
        fields, start = _nrrd_fields(file, label)
    axes = _counts(fields, "dimension", 1, label)[0]
    if not 1 <= axes <= _MOST_AXES:
        raise _damaged(label, f"dimension is {axes}")
    sizes = _counts(fields, "sizes", axes, label)
    kind = " ".join(fields.get("type", "").lower().split())
    if kind not in _NRRD_BYTES:
        raise _damaged(label, f"type is {kind[:40]!r}")
    check_volume_size(sizes, _NRRD_BYTES[kind], label)
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", *_PACKED, *_TEXT):
        raise _damaged(label, f"encoding is {encoding[:40]!r}")
    skips = [fields.get(name, "0") for name in ("lineskip", "byteskip")]
    if not (_WHOLE.fullmatch(skips[0]) and re.fullmatch(r"-1|[0-9]{1,10}", skips[1])):
        raise _damaged(label, "line skip or byte skip is not a number")
    name = fields.get("datafile")
    data = path if name is None else _beside(path, name, label)
    packing = {"raw": "raw", "gz": "gzip", "gzip": "gzip"}.get(
        encoding, "text" if encoding in _TEXT else "other"
    )
    if skips != ["0", "0"]:
        # What is skipped may be anything: the library, which is watched, finds the first voxel.
        packing = "other"
    offset = start if data is path else 0
    _check_whole(_Voxels(data, offset, math.prod(sizes) * _NRRD_BYTES[kind], packing), label)


def _meta_fields(file: BinaryIO, label: str) -> tuple[dict[str, str], int]:
    """Fields up to the one that names the voxels, and the byte after it."""
    fields: dict[str, str] = {}
    while line := file.readline(_LONGEST + 1):
        if file.tell() > _LONGEST:
            break
        text = line.decode("utf-8", "surrogateescape")
        if not text.strip():
            continue
        key, sign, value = re.match(r"([^=:]*)([=:]?)(.*)", text.rstrip("\r\n"), re.DOTALL).groups()  # type: ignore[union-attr]  # it matches anything
        key, value = key.strip(), value.strip()
        if not sign or not key.isascii() or not key.isprintable() or "\0" in value:
            raise _damaged(label, f"a line of its header is {text[:40]!r}")
        if key in fields and fields[key] != value:
            raise _damaged(label, f"it states {key[:40]} twice")
        fields[key] = value
        if key == "ElementDataFile":
            return fields, file.tell()
    raise _damaged(label, "its header does not end with ElementDataFile")


def _nrrd_fields(file: BinaryIO, label: str) -> tuple[dict[str, str], int]:
    """Fields up to the empty line, or to the file's end, and the byte after it."""
    if not NRRD_MAGIC.fullmatch(file.readline(16)):
        raise _damaged(label, "its first line is not NRRD0001 to NRRD0005")
    fields: dict[str, str] = {}
    while line := file.readline(_LONGEST + 1):
        if file.tell() > _LONGEST:
            raise _damaged(label, "its header does not end")
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text.strip():
            return fields, file.tell()
        if text.startswith("#") or ":=" in text:
            continue
        key, sign, value = text.partition(":")
        name = key.lower().replace(" ", "").replace("centre", "center")
        if not sign or not key.isascii() or "\0" in value:
            raise _damaged(label, f"a line of its header is {text[:40]!r}")
        if name in fields:
            raise _damaged(label, f"it states {key[:40]} twice")
        fields[name] = value.strip()
    return fields, file.tell()


def _counts(fields: Mapping[str, str], key: str, count: int, label: str) -> tuple[int, ...]:
    """Whole numbers above 0."""
    words = fields.get(key, "").split()
    if len(words) != count or not all(_WHOLE.fullmatch(word) and int(word) for word in words):
        raise _damaged(label, f"{key} is {' '.join(words)[:40]!r}")
    return tuple(int(word) for word in words)


def _is_true(fields: Mapping[str, str], key: str, label: str) -> bool:
    value = fields.get(key, "False")
    if value.lower() not in ("true", "false", "1", "0", "t", "f", "yes", "no"):
        raise _damaged(label, f"{key} is {value[:40]!r}")
    return value[:1] in "tT1yY"


def _beside(path: Path, name: str, label: str) -> Path:
    """The data file that a header names: a regular file in the same folder."""
    # Some tools write the folder of the header before the name.
    name = re.sub(r"^(\./+)+", "", name)
    is_plain = name and name not in (".", "..") and not re.search(r"[/\\%\0]", name)
    if not is_plain or name.split()[0].upper() == "LIST":
        raise ImageError(
            f"{label} names {name[:60]!r} as its data; only one file in the same folder is read. Put header "
            "and data into one file (.mha, .nrrd)."
        )
    data = path.with_name(name)
    home = os.path.realpath(path.parent)
    if os.path.dirname(os.path.realpath(data)) != home:
        raise ImageError(
            f"{label} names {name[:60]!r} as its data, a link out of the folder; copy the file there."
        )
    try:
        check_regular(data)
    except ImageError as error:
        raise ImageError(
            str(error).replace(repr(str(data)), f"{label}: its data file {name[:60]!r}")
        ) from error
    return data


def _check_whole(voxels: _Voxels, label: str) -> None:
    """Refuse a file that ends before its last voxel, which libraries may fill with zeros."""
    with open_regular(voxels.path) as file:
        there = os.fstat(file.fileno()).st_size - voxels.start
        if voxels.packing in ("zlib", "gzip"):
            there = _inflated(file, voxels, label)
        elif voxels.packing == "text":
            # A digit and a blank for each value, of eight bytes at most.
            there *= 8
        elif voxels.packing == "other":
            return
    if there < voxels.needed:
        raise truncated(label)


def _inflated(file: BinaryIO, voxels: _Voxels, label: str) -> int:
    """How many of the needed bytes a compressed stream holds."""
    file.seek(voxels.start)
    try:
        if file.read(2) == GZIP_MAGIC or voxels.packing == "gzip":
            return unzipped_size(file, voxels.start, voxels.needed)
        file.seek(voxels.start)
        stream, there, chunk = zlib.decompressobj(), 0, b""
        while there < voxels.needed and not stream.eof:
            chunk = stream.unconsumed_tail or file.read(2**20)
            if not chunk:
                break
            there += len(stream.decompress(chunk, 2**20))
        return there
    except (OSError, EOFError, zlib.error) as error:
        raise truncated(label) from error


def truncated(label: str) -> ImageError:
    """What is said of a file that ends before its last voxel."""
    return ImageError(
        f"{label} is damaged or truncated: it ends before its last voxel; copy or export it again."
    )


def _damaged(label: str, what: str) -> ImageError:
    return ImageError(
        f"{label} is damaged, or of a kind that ITK cannot read: {what}. Copy or export it again."
    )
