"""Damage files: bits, numbers, lengths, cuts, splices; and what is compressed from inside."""

from __future__ import annotations

import gzip
import random
import re
import struct
import zlib
from collections.abc import Callable

_HEADER = 600
_NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 100, 127, 128, 255, 256, 1000, 16_385, 32_767, 32_768, 65_535, 65_536)
_NUMBERS += (10**6, 2**24, 2**27, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_WORDS = (
    b"-1",
    b"0",
    b"1e400",
    b"nan",
    b"inf",
    b"-inf",
    b"1000000",
    b"99999999999999999999",
    b"",
    b"x",
    b"../x",
)
_WORDS += (
    b"LIST",
    b"%d",
    b"/dev/zero",
    b"[" * 2000,
    b"1" * 5000,
    b"\xff\xfe",
    b"0x10",
    b"1.5",
    b"1 2 3 4 5 6 7 8 9",
)
_TOKEN = re.compile(rb"[0-9.]+|[A-Za-z_]{2,}")


def mutated(content: bytes, other: bytes, random_: random.Random) -> bytes:
    """A damaged copy of `content`; pieces of `other` may be put in."""
    inside = _opened(content)
    if inside is not None and random_.random() < 0.6:
        plain, close = inside
        return close(_damage(plain, other, random_))
    return _damage(content, other, random_)


def _damage(content: bytes, other: bytes, random_: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 6))):
        if data:
            random_.choice(_WAYS)(data, other, random_)
    return bytes(data)


def _place(data: bytearray, random_: random.Random) -> int:
    """Mostly in the header, where the sizes are."""
    return random_.randrange(min(len(data), _HEADER) if random_.random() < 0.7 else len(data))


def _flip(data: bytearray, other: bytes, random_: random.Random) -> None:
    for _ in range(random_.choice((1, 1, 2, 8))):
        data[_place(data, random_)] ^= 1 << random_.randrange(8)


def _cut(data: bytearray, other: bytes, random_: random.Random) -> None:
    del data[_place(data, random_) if random_.random() < 0.3 else random_.randrange(len(data)) :]


def _number(data: bytearray, other: bytes, random_: random.Random) -> None:
    size, order = random_.choice("BHIQ"), random_.choice("<>")
    length = struct.calcsize(size)
    at = _place(data, random_) // random_.choice((1, 2)) * 1
    data[at : at + length] = struct.pack(order + size, random_.choice(_NUMBERS) % 2 ** (8 * length))


def _real(data: bytearray, other: bytes, random_: random.Random) -> None:
    value = random_.choice((float("nan"), float("inf"), -1.0, 0.0, 1e30, 1e-30))
    at = _place(data, random_) // 4 * 4
    data[at : at + 4] = struct.pack("<f", value)


def _word(data: bytearray, other: bytes, random_: random.Random) -> None:
    found = list(_TOKEN.finditer(data[:4000]))
    if found:
        match = random_.choice(found)
        data[match.start() : match.end()] = random_.choice(_WORDS)


def _line(data: bytearray, other: bytes, random_: random.Random) -> None:
    lines = data.split(b"\n")
    at = random_.randrange(min(len(lines), 30))
    if random_.random() < 0.5:
        lines.insert(random_.randrange(min(len(lines), 30)), lines[at])
    else:
        del lines[at]
    data[:] = b"\n".join(lines)


def _splice(data: bytearray, other: bytes, random_: random.Random) -> None:
    start = random_.randrange(max(len(other), 1))
    piece = other[start : start + random_.choice((1, 4, 16, 200, 5000))]
    at = _place(data, random_)
    end = at + len(piece) if random_.random() < 0.5 else at
    data[at:end] = piece


def _repeat(data: bytearray, other: bytes, random_: random.Random) -> None:
    at = _place(data, random_)
    piece = data[at : at + random_.choice((1, 8, 64, 500))]
    data[at:at] = piece * random_.choice((1, 2, 50))


def _remove(data: bytearray, other: bytes, random_: random.Random) -> None:
    at = _place(data, random_)
    del data[at : at + random_.choice((1, 2, 4, 64, 500))]


_WAYS: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    _flip, _flip, _cut, _number, _number, _number, _real, _word, _word, _line, _splice, _repeat, _remove
)  # fmt: skip


def _opened(content: bytes) -> tuple[bytes, Callable[[bytes], bytes]] | None:
    """What a compressed or checksummed file holds, and how to close it again; None where it is neither."""
    if content.startswith(b"\x1f\x8b"):
        return gzip.decompress(content), lambda plain: gzip.compress(plain, 1, mtime=0)
    if content.startswith(b"\x89PNG"):
        return content, _checksummed_png
    if b"1.2.840.10008.1.2.1.99" in content[:600]:
        at = 144 + int.from_bytes(content[140:144], "little")
        return zlib.decompress(content[at:], -15), lambda plain: content[:at] + zlib.compress(plain, 1, -15)
    return None


def _checksummed_png(data: bytes) -> bytes:
    """The same PNG with checksums that fit, so that damage is not refused for them."""
    result, at = bytearray(data), 8
    while at + 12 <= len(result):
        end = at + 8 + int.from_bytes(result[at : at + 4], "big")
        if end + 4 > len(result):
            break
        result[end : end + 4] = struct.pack(">I", zlib.crc32(result[at + 4 : end]))
        at = end + 4
    return bytes(result)
