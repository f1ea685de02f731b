"""Decode PIL images: every mode to one grey plane, with all of its bits and the right way up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageOps

from anatozoo.errors import ImageError
from anatozoo.io.decoded import Decoded, check_size, grey_plane
from anatozoo.io.deep_pictures import deep_array, whole_numbers
from anatozoo.io.picture_headers import MOST_PAGES, pages_of

_TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_TIFF_ORIENTATION, _HALF_TURN = 274, 4
_DIRECT_MODES = ("L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def decode_picture(picture: PILImage.Image, label: str, path: Path | None = None) -> Decoded:
    """Decode an opened PIL image of any mode; EXIF orientation and palettes are honoured.

    Raises:
        ImageError: the size is not that of an X-ray, there are several pages, it is a 1-bit mask, has more
            than 8 bits per channel of which not all can be read, or its file is damaged.
    """
    check_size(*picture.size, label)
    try:
        frames = pages_of(picture, path)
        if frames > 1:
            more = " or more" if frames == MOST_PAGES else ""
            raise ImageError(
                f"{label} holds {frames}{more} pages or frames; save the one to read as its own file."
            )
        if picture.mode == "1":
            raise ImageError(f"{label} holds only black and white; that is a mask, not an X-ray.")
        # Pillow inverts WhiteIsZero itself for up to 8 bits only.
        is_deep = picture.mode.startswith(("I", "F"))
        inverted = is_deep and getattr(picture, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
        array = _upright_array(picture, label)
    except ImageError:
        raise
    except Exception as error:  # Pillow reads lazily, and hostile files make it fail in any way they like
        raise ImageError(f"{label} is damaged or truncated ({error}); copy or export it again.") from error
    pixels, flags = grey_plane(array, label)
    return Decoded(pixels, flags=flags, inverted=inverted)


def _upright_array(picture: Any, label: str) -> npt.NDArray[Any]:
    deep = deep_array(picture, label)
    if deep is not None:
        return deep
    if picture.format == "TIFF" and getattr(picture, "tag_v2", {}).get(_TIFF_ORIENTATION, 1) > _HALF_TURN:
        # Pillow maps plain grey files into memory by name, and mixes up rows of those that are turned.
        picture.filename = ""
    upright = ImageOps.exif_transpose(picture)
    array = np.asarray(upright if upright.mode in _DIRECT_MODES else upright.convert("RGB"))
    return whole_numbers(array, picture)
