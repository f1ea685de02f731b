"""Pictures of more than 8 bits per channel in colour, of which Pillow would drop the lower bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from anatozoo.errors import ImageError
from anatozoo.io.children import DecodeError, decode

BITS, SAMPLES, PLANES, FORMAT = 258, 277, 284, 339
_COLOUR_MAP, _ORIENTATION = 320, 274
_APART = 2
_KINDS = {1: "u", 2: "i", 3: "f"}
_WHOLE_MODES = ("I", "F", "1")
_CODESTREAM = b"\xff\x4f\xff\x51"
_DEPTH_AT = 42
"""Bytes from the start of a JPEG 2000 codestream to the depth of its first channel."""


def deep_array(picture: PILImage.Image, label: str) -> npt.NDArray[Any] | None:
    """Decode an opened picture whole where Pillow would keep 8 bits of more.

    Args:
        picture: as opened and not loaded yet.
        label: the file, for messages.

    Returns:
        (H, W) or (H, W, C) as stored, the right way up; None where Pillow itself reads all.

    Raises:
        ImageError: OpenCV does not read all of it either.
    """
    tags: Any = getattr(picture, "tag_v2", {})
    if picture.mode == "P" and _COLOUR_MAP in tags:
        return _by_colour_map(picture, tags[_COLOUR_MAP])
    if not _is_deep(picture, tags):
        return None
    file: Any = getattr(picture, "fp", None)
    array = None
    if file is not None:
        file.seek(0)
        width, height = picture.size
        try:
            _, array = decode("opencv", label, file.read(), size_bytes=8 * width * height)
        except DecodeError as error:
            raise ImageError(f"{label} is damaged or truncated; copy or export it again.") from error
    if array is None or array.dtype.itemsize < 2 or int(tags.get(PLANES, 1)) == _APART:
        raise ImageError(
            f"{label} has more than 8 bits per channel, in a form of which only 8 would be read; save it in "
            "grey with 16 bits, without an alpha channel."
        )
    array = rgb_first(array)
    # OpenCV turns TIFF itself.
    return array if picture.format == "TIFF" else _upright(array, picture)


def check_is_whole(array: npt.NDArray[Any], tags: Any, label: str) -> None:
    """Refuse what OpenCV made of a TIFF where it is not what the tags say.

    Raises:
        ImageError: values were shortened or taken for another type, or channels lie apart.
    """
    bits, kind = int(np.max(tags.get(BITS, 1))), int(np.max(tags.get(FORMAT, 1)))
    apart = int(tags.get(SAMPLES, 1)) > 1 and int(tags.get(PLANES, 1)) == _APART
    if apart or 8 * array.dtype.itemsize < bits or array.dtype.kind != _KINDS.get(kind, "u"):
        raise ImageError(
            f"{label} is a TIFF of which only a part would be read; save it in grey with 8 or 16 bits, "
            "without an alpha channel."
        )


def rgb_first(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What OpenCV gives, with red before blue."""
    if array.ndim == 2:
        return array
    return np.concatenate([array[..., 2::-1], array[..., 3:]], axis=2)


def whole_numbers(array: npt.NDArray[Any], picture: PILImage.Image) -> npt.NDArray[Any]:
    """The values of a 32-bit TIFF, which Pillow takes for signed, as its tags say."""
    tags: Any = getattr(picture, "tag_v2", {})
    is_plain = int(np.max(tags.get(BITS, 1))) == 32 and int(np.max(tags.get(FORMAT, 1))) == 1
    return array.view(np.uint32) if is_plain and array.dtype == np.int32 else array


def _is_deep(picture: PILImage.Image, tags: Any) -> bool:
    if picture.mode.startswith(_WHOLE_MODES):
        return False
    if picture.format == "JPEG2000":
        return _depth_of_jpeg2000(picture) > 8
    if int(np.max(tags.get(BITS, 1))) > 8:
        return True
    for tile in picture.tile if hasattr(picture, "tile") else ():
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if ";16" in str(arguments[0]):
            return True
        if str(tile[0]).startswith("ppm") and int(arguments[1]) > 255:
            return True
    return False


def _depth_of_jpeg2000(picture: PILImage.Image) -> int:
    """Bits of the first channel, by the codestream's header; 0 where it cannot be found."""
    file: Any = getattr(picture, "fp", None)
    if file is None:
        return 0
    place = file.tell()
    file.seek(0)
    head = file.read(2**16)
    file.seek(place)
    start = head.find(_CODESTREAM)
    depth = head[start + _DEPTH_AT : start + _DEPTH_AT + 1] if start >= 0 else b""
    return (depth[0] & 0x7F) + 1 if depth else 0


def _by_colour_map(picture: PILImage.Image, colours: Any) -> npt.NDArray[Any]:
    """Colours of a TIFF's palette, which have 16 bits, the right way up."""
    table = np.asarray(colours, np.uint16).reshape(3, -1).T
    index = np.asarray(picture)
    found: npt.NDArray[Any] = table[np.minimum(index, len(table) - 1)]
    return found


def _upright(array: npt.NDArray[Any], picture: PILImage.Image) -> npt.NDArray[Any]:
    """The array turned and mirrored as EXIF says."""
    orientation = int(picture.getexif().get(_ORIENTATION, 1))
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
