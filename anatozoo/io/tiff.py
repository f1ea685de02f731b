"""Decode the TIFF files that Pillow does not know, such as 64-bit floats, through OpenCV."""

from __future__ import annotations

from pathlib import Path

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from anatozoo.errors import ImageError
from anatozoo.io.children import decode
from anatozoo.io.decoded import Decoded, check_size, grey_plane
from anatozoo.io.deep_pictures import check_is_whole, rgb_first
from anatozoo.io.untrusted import open_regular, read_bytes

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT, _PHOTOMETRIC = 256, 257, 262
_WHITE_IS_ZERO = 0
_HEADER, _BIG_HEADER = 8, 16


def decode_tiff(path: Path, label: str) -> Decoded:
    """Decode the first page after its tags have been checked.

    Raises:
        ImageError: the file is damaged, truncated, or of a kind that OpenCV does not know either.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_BIG_HEADER)
            tags = ImageFileDirectory_v2(head if head.startswith(MAGICS[2:]) else head[:_HEADER])
            file.seek(tags.next)
            tags.load(file)
        width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
        check_size(width, height, label)
        # From memory, because OpenCV cannot open every path that Python can.
        _, array = decode("opencv", label, read_bytes(path), size_bytes=8 * width * height)
    except ImageError:
        raise
    except Exception as error:  # a hostile file makes decoders fail in any way they like
        raise ImageError(f"{label} is a damaged or truncated TIFF; copy or export it again.") from error
    if array is None or array.shape[:2] != (height, width):
        raise ImageError(f"{label} is a TIFF that cannot be decoded; save it with 8 or 16 bits per pixel.")
    check_is_whole(array, tags, label)
    pixels, flags = grey_plane(rgb_first(array), label)
    return Decoded(pixels, flags=flags, inverted=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
