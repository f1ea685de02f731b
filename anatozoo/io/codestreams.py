"""Check JPEG, JPEG-LS and JPEG 2000 before anything decodes them: their size, and whether all of it is there.

ISO 10918-1 (JPEG), 14495-1 (JPEG-LS) and 15444-1 (JPEG 2000) fix the markers. Decoders believe a size before
they look for pixels, and fill with grey what they do not find.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from anatozoo.errors import ImageError
from anatozoo.io.limits import MOST_PIXELS_PER_BYTE

JPEG2000_MAGICS = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
# Start-of-frame markers: all of C0 to CF that are not tables, and that of JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_BARE = {0x01, *range(0xD0, 0xD9)}
_SEQUENTIAL, _PROGRESSIVE, _LOSSLESS = 0xC0, 0xC2, 0xC3
# A block of 64 pixels takes two codes of a bit, without loss a pixel takes one.
_MOST_PIXELS_PER_BYTE = {_SEQUENTIAL: 256, 0xC1: 256, _LOSSLESS: 8}
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PADDING = bytes(16)
_TILE = b"\xff\x90"
_CODESTREAM_END = b"\xff\xd9"
_MOST_MARKERS = 100_000


@dataclass(frozen=True)
class Frame:
    """What a compressed picture says of itself.

    Attributes:
        width: in pixels.
        height: in pixels.
        channels: values per pixel.
        bits: of a value.
        marker: that of the frame, which tells the process of JPEG; 0 for JPEG 2000.
    """

    width: int
    height: int
    channels: int
    bits: int
    marker: int = 0


def check_jpeg(data: bytes, label: str) -> Frame:
    """Find the frame header of a JPEG or JPEG-LS stream, and see that scans follow it.

    Raises:
        ImageError: there is none, or several, or no scan, in search of which decoders fill the memory; scans
            of a progressive one are missing; or the stream is far too short for the size that it states.
    """
    frame: Frame | None = None
    at = 2
    for _ in range(_MOST_MARKERS):
        # Any number of fill bytes may stand before a marker.
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _BARE:
            at += 2
            continue
        if frame is not None and marker == _SCAN:
            if frame.marker == _PROGRESSIVE:
                _check_progress(data, at, label)
            return frame
        if marker in (_SCAN, _END) or length < 2:
            break
        if marker in _FRAMES and at + 10 <= len(data):
            if frame is not None:
                raise _broken(label, "the size is stated twice")
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            frame = _plausible(Frame(width, height, channels, bits, marker), len(data), label)
        at += 2 + length
    raise _broken(label, "the size is not stated" if frame is None else "the first scan is missing")


def _check_progress(data: bytes, at: int, label: str) -> None:
    """Refuse a progressive JPEG whose first component, the brightness, is never sent to the last bit.

    Each scan brings some of the 64 frequencies, to some bit; one that is cut and then closed lacks the last.
    A cut within the last scan, which brings no more than the last bit, is not seen.

    Args:
        data: the stream.
        at: where the first scan begins.
        label: what it is called in messages.
    """
    first, missing = data[at + 5 : at + 6], set(range(64))
    for _ in range(_MOST_MARKERS):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        scan = data[at + 4 : at + 2 + length]
        if (
            marker == _SCAN
            and len(scan) >= 6
            and first in [scan[i : i + 1] for i in range(1, len(scan) - 3, 2)]
        ):
            start, end, bits = scan[-3:]
            if bits & 0x0F == 0:
                missing -= set(range(start, end + 1))
        found = None if marker == _END else _NEXT_MARKER.search(data, at + 2 + length)
        if found is None or found.start() + 4 > len(data):
            break
        at = found.start()
    if missing:
        raise _broken(label, "the last scans are missing")


def without_end(data: bytes, frame: Frame) -> bytes | None:
    """A sequential 8-bit JPEG with a few empty bytes in the place of its end marker.

    A decoder that meets the end marker early fills up the rest. Without the marker it has to say that there
    are too few data, while a whole picture is decoded as before.

    Returns:
        The stream; None where it is of another process, or has no end marker.
    """
    if frame.marker != _SEQUENTIAL or frame.bits != 8:
        return None
    at = 2
    for _ in range(_MOST_MARKERS):
        found = _NEXT_MARKER.search(data, at)
        if found is None:
            return None
        at, marker = found.start(), data[found.start() + 1]
        if marker == _END:
            return data[:at] + _PADDING
        at += 2 if marker in _BARE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def check_jpeg2000(data: bytes, label: str) -> Frame:
    """Find the size in a JPEG 2000 stream, bare or in a JP2 file, and see that each tile's data are there.

    Raises:
        ImageError: a marker or tile is missing, cut off or damaged, or the stream is far too short for the
            size that it states.
    """
    try:
        at = 0 if data.startswith(JPEG2000_MAGICS[0]) else _codestream(data)
        if not data.startswith(JPEG2000_MAGICS[0], at):
            raise _broken(label, "the header is none of JPEG 2000")
        x1, y1, x0, y0, tile_x, tile_y, left, top, channels = struct.unpack_from(">8IH", data, at + 8)
        bits = (data[at + 42] & 0x7F) + 1
        if not (x0 < x1 and y0 < y1 and tile_x and tile_y and left <= x0 and top <= y0 and channels):
            raise _broken(label, "the size is impossible")
        frame = _plausible(Frame(x1 - x0, y1 - y0, channels, bits), len(data) - at, label)
        tiles = -(-(x1 - left) // tile_x) * -(-(y1 - top) // tile_y)
        at += 4 + int.from_bytes(data[at + 4 : at + 6], "big")
        while not data.startswith(_TILE, at):
            if data[at] != 0xFF:
                raise _broken(label, "the header is damaged")
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        found = _tiles(data, at, label)
    except (struct.error, IndexError) as error:
        raise _broken(label, "the header ends early") from error
    if tiles > 65_535 or found != set(range(tiles)):
        raise _broken(label, f"{len(found)} of {tiles} tiles are there")
    return frame


def _codestream(data: bytes) -> int:
    """Where the codestream begins in the boxes of a JP2 file."""
    at = 0
    for _ in range(_MOST_MARKERS):
        length, kind = struct.unpack_from(">I4s", data, at)
        skipped = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            skipped = 16
        if kind == b"jp2c":
            return at + skipped
        if not skipped <= length <= len(data) - at:
            break
        at += length
    return len(data)


def _tiles(data: bytes, at: int, label: str) -> set[int]:
    """Numbers of the tiles that are there, each part of them whole."""
    found = set()
    while data.startswith(_TILE, at):
        _, tile, length = struct.unpack_from(">HHI", data, at + 2)
        found.add(tile)
        if length == 0:  # until the end, which has to be marked
            if _CODESTREAM_END not in data[-16:]:
                raise _broken(label, "the end is missing")
            return found
        if length < 14 or at + length > len(data):
            raise _broken(label, "a tile is cut off")
        at += length
    return found


def _plausible(frame: Frame, size: int, label: str) -> Frame:
    if not (frame.width and frame.height and frame.channels and frame.bits):
        raise _broken(label, "the size is zero")
    if frame.width * frame.height > size * _MOST_PIXELS_PER_BYTE.get(frame.marker, MOST_PIXELS_PER_BYTE):
        raise _broken(label, f"{size} bytes are there for {frame.width} x {frame.height} values")
    return frame


def _broken(label: str, what: str) -> ImageError:
    return ImageError(
        f"{label} is damaged or truncated: of its compressed pixels, {what}; copy or export it again."
    )
