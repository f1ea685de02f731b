"""Check headers of picture files before Pillow decodes them, and count pages without walking through all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

from PIL import Image as PILImage

from anatozoo.errors import ImageError
from anatozoo.io.codestreams import JPEG2000_MAGICS, check_jpeg, check_jpeg2000, without_end
from anatozoo.io.untrusted import open_regular, read_bytes

MOST_PAGES = 10
"""Pages that are counted; of more, only that there are more is known."""
_JPEG = b"\xff\xd8\xff"
_GIF = (b"GIF87a", b"GIF89a")
_MOST_GIF_BYTES = 2**25


def checked_picture(path: Path, head: bytes, label: str) -> Path | BinaryIO:
    """What Pillow is to open; pictures of which a part is missing, which it would fill up, are refused.

    Returns:
        The path, or of a JPEG the bytes without the marker that would hide that it is cut.

    Raises:
        ImageError: a JPEG or JPEG 2000 that is damaged or truncated, or a GIF that is over 2**25 bytes.
    """
    if head.startswith(_JPEG):
        data = read_bytes(path)
        return io.BytesIO(without_end(data, check_jpeg(data, label)) or data)
    if head.startswith(JPEG2000_MAGICS):
        check_jpeg2000(read_bytes(path), label)
    elif head.startswith(_GIF) and path.stat().st_size > _MOST_GIF_BYTES:
        raise ImageError(f"{label} is a GIF of over {_MOST_GIF_BYTES} (2**25) bytes; save it as PNG or TIFF.")
    return path


def pages_of(picture: PILImage.Image, path: Path | None = None) -> int:
    """Pages or frames of an opened picture, `MOST_PAGES` standing for these or more; the first one stays.

    Args:
        picture: as Pillow opened it.
        path: its file, where there is one.
    """
    if picture.format == "GIF" and path is not None:
        with open_regular(path) as file:
            return _gif_frames(file)
    if picture.format not in ("GIF", "TIFF"):
        return int(getattr(picture, "n_frames", 1))  # stands in the header
    count = 1
    try:
        while count < MOST_PAGES:
            picture.seek(count)
            count += 1
    except EOFError:
        pass  # that was the last one
    picture.seek(0)
    return count


def _gif_frames(file: BinaryIO) -> int:
    """Frames of a GIF, told by its blocks; nothing is decompressed."""
    end = os.fstat(file.fileno()).st_size
    flags = file.read(13)[10:11]
    file.seek(_colours(flags), os.SEEK_CUR)
    count = 0
    while count < MOST_PAGES and file.tell() < end:
        kind = file.read(1)
        if kind == b"!":
            file.read(1)
        elif kind == b",":
            count += 1
            file.seek(_colours(file.read(9)[8:9]), os.SEEK_CUR)
            file.read(1)
        else:
            break
        while (length := file.read(1)) and length != b"\0":
            file.seek(length[0], os.SEEK_CUR)
    return max(count, 1)


def _colours(flags: bytes) -> int:
    """Bytes of a colour table, by the flags before it."""
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
