"""Read an X-ray from a file or from memory.

Everything is read to one form, `Image`: one finite float32 plane with bone white and air dark.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError, ImageError
from anatozoo.io.arrays import decode_object
from anatozoo.io.decoded import Decoded, Metadata, check_size, height_over_width
from anatozoo.io.files import decode_file, stem_of
from anatozoo.io.intensity import Range, full_scale
from anatozoo.io.memory import on_disk, without_files

if TYPE_CHECKING:
    from anatozoo.io.dicom_source import DicomSource

_MAX_NON_FINITE = 0.05
# No X-ray has such values; files use them for "no data", and float32 arithmetic overflows beyond.
_LARGEST_VALUE = 1e30


@dataclass(frozen=True, eq=False)
class Image:
    """A greyscale X-ray as read.

    Attributes:
        pixels: ``(H, W)`` float32, finite, bone white and air dark, in the units of the source.
        spacing_mm: ``(x, y)`` millimetres per pixel, ``None`` where unknown.
        name: the file name without its suffix, what `anatozoo.io.memory` calls it, or ``"array"``.
        source: the path as given, ``None`` for an image from memory.
        metadata: JSON values; for DICOM a few attributes that identify nobody, under their DICOM keywords,
            with `PatientAge` in years.
        flags: remarks on the input, such as ``"colour"``, ``"non_finite"`` or ``"lateral_view"``.
        black_white: what stands for black and white in `pixels`, see `anatozoo.io.intensity.full_scale`;
            None finds it from them.
        aspect: height over width of a pixel: of the spacing where that is known, else what the source says
            without one, else 1.
        dicom: the DICOM instance that it was read from; None of anything else.
    """

    pixels: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    name: str = "array"
    source: str | None = None
    metadata: Metadata = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    black_white: Range | None = None
    aspect: float = 1.0
    dicom: DicomSource | None = None

    def __post_init__(self) -> None:
        if self.spacing_mm is not None:
            object.__setattr__(self, "aspect", height_over_width(self.spacing_mm))

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def read_image(
    x: Any,
    *,
    spacing_mm: tuple[float, float] | None = None,
    invert: bool | None = None,
    allow_any_modality: bool = False,
) -> Image:
    """Read an X-ray from a path or from an object in memory.

    Args:
        x: a path to PNG, JPEG, TIFF, BMP, JPEG 2000, WebP, PGM, DICOM, NIfTI, MetaImage or NRRD, told apart
            by content; bytes, a binary file object (read from where it stands) or a pydicom data set with
            one of these; or an array, torch tensor, PIL or SimpleITK image of shape ``(H, W)``,
            ``(H, W, 1|3|4)`` or ``(1|3, H, W)``; or an `Image`, which is returned as it is.
            Colour becomes luminance (Rec. 601) and is flagged; an alpha channel is dropped.
        spacing_mm: ``(x, y)`` millimetres per pixel, in place of what the source says. The dpi of picture
            formats is about printing and never taken for a spacing.
        invert: whether stored values show air bright, so that they must become ``max - x``. ``None``
            follows the source (DICOM MONOCHROME1 and TIFF WhiteIsZero are inverted); ``True`` and
            ``False`` overrule it.
        allow_any_modality: take DICOM of other modalities and body parts too.

    Raises:
        ImageError: the input is missing, damaged, constant, under 16 pixels wide, over 16,384 long or 2**26
            in all, longer than 20 times its width, not a single plane, a mask, more than 5 % NaN, or not a
            chest X-ray; the message says what to do.
        GeometryError: `spacing_mm` is not two positive numbers.
    """
    if isinstance(x, Image):
        if invert is not None:
            raise ImageError(f"{x.name!r} is already read; give invert where the file is read.")
        return x if spacing_mm is None else replace(x, spacing_mm=_checked_spacing(spacing_mm))
    with on_disk(x) as (given, called):
        if called is not None:
            found = read_image(
                given, spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality
            )
            return replace(found, name=called, source=None, dicom=without_files(found.dicom))
    if isinstance(x, (str, os.PathLike)):
        path = Path(os.fsdecode(x))
        name, source, label = stem_of(path), str(path), repr(str(path))
        decoded = decode_file(path, allow_any_modality=allow_any_modality)
    else:
        name, source, label = "array", None, "the array"
        decoded = decode_object(x)
    pixels, flags, black_white = _finish(decoded, invert, label)
    given = _checked_spacing(spacing_mm) if spacing_mm is not None else decoded.spacing_mm
    return Image(
        pixels, given, name, source, decoded.metadata, flags, black_white, decoded.aspect, decoded.dicom
    )


def _finish(
    decoded: Decoded, invert: bool | None, label: str
) -> tuple[npt.NDArray[np.float32], tuple[str, ...], Range]:
    """Check decoded pixels and bring them to finite float32 of the agreed polarity; also black and white."""
    height, width = decoded.pixels.shape
    check_size(width, height, label)
    with np.errstate(over="ignore"):
        pixels = decoded.pixels.astype(np.float32)
    flags = decoded.flags
    usable = np.abs(pixels) < _LARGEST_VALUE
    share = 1.0 - np.count_nonzero(usable) / usable.size
    if share > _MAX_NON_FINITE:
        raise ImageError(
            f"{label}: {share:.0%} of the pixels are NaN or infinite; replace them by the value of air."
        )
    low, high = pixels.min(where=usable, initial=np.inf), pixels.max(where=usable, initial=-np.inf)
    if low == high:
        raise ImageError(f"{label}: every pixel has the value {low:g}; a constant image shows nothing.")
    if share > 0:
        pixels[~usable] = high if (decoded.inverted if invert is None else invert) else low
        flags = (*flags, "non_finite")
    black, white = full_scale(float(low), float(high))
    if decoded.inverted if invert is None else invert:
        pixels = high - pixels
        black, white = float(high) - white, float(high) - black
    if decoded.background is not None:
        # Padding is not tissue: whatever its stored value, it must end up dark.
        pixels[decoded.background] = pixels.min(where=~decoded.background, initial=np.inf)
    return np.ascontiguousarray(pixels), flags, (black, white)


def _checked_spacing(spacing_mm: Any) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in spacing_mm)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"spacing_mm must be (x, y) in millimetres, not {spacing_mm!r}.") from error
    if not (0 < x < np.inf and 0 < y < np.inf):
        raise GeometryError(f"spacing_mm must be positive, not {spacing_mm!r}; leave it out if unknown.")
    return x, y
