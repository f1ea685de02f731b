"""What a stored value of a DICOM image means: one rule for each attribute that has a say in it.

Files break the standard in a few ways again and again. Each rule below says when an attribute is believed, by
a number, what is done where it is not, and the flag that then stands on the result. Volumes take the rules up
to the rescale, decided once for all slices; radiographs take all of them.

::

    | question | believed | else | flag |
    |---|---|---|---|
    | Bits Stored | 1 to Bits Allocated, and no bits above it are set, or overlays or the sign are in them | of the stated and of all bits, those that give the smoother image (mean difference of neighbours in a row) | `bits_stored_ignored` (all bits taken), `high_bits_ignored` (stated bits taken) |
    | byte order of words | always, but where bits above Bits Stored are set, none are once bytes are swapped, and the image is then over 4 times as smooth | bytes are swapped | `byte_order_ignored` |
    | High Bit | Bits Stored - 1; or higher, and the bits below the value and above it are zero or overlays: values are then shifted down | Bits Stored - 1 | `high_bit_ignored` |
    | Pixel Representation 1 | always, but where over 0.5 % of the pixels, of over 16 levels, are negative, none is stored with its sign repeated, and the image without signs is over twice as smooth | values have no sign | `sign_ignored` |
    | Pixel Representation 0 | always, but where over 0.5 % of the pixels lie in the upper quarter of the range, under 0.05 % in its middle half, over 16 levels in the upper and in the lower quarter, white is not saturated, neighbours that change sign differ mostly by less than 1/32 of the range, and the image with signs is over twice as smooth | values have a sign | `sign_assumed` |
    | Pixel Padding Value, Range Limit | at most 0.5 % of the other pixels lie below it, or above it; compared as words, else as numbers; in unsigned words no range from below zero to above it | no padding | `padding_ignored` |
    | Overlays in high bits | bits named by Overlay Bit Position are not part of the value | | |
    | Palette | as other tables | error | `lut_bits`, `lut_length`, `lut_byte_order` |
    | Modality LUT | at most 1 % of the pixels lack an entry of a table that is too short | error, for what values mean is unknown | |
    | LUT Descriptor: entries | as many as there are, or one of padding more; 0 is 65,536 | those that are there; above the last, it goes on | `lut_length` |
    | LUT Descriptor: first value | signed or unsigned, whichever covers more of the image's values; of equals by the sign of the values | | |
    | LUT Descriptor: bits | 1 to 16; up to 8 in a byte or in a word, more in a word | the width that the length allows, else the smoother one | `lut_bits` |
    | LUT Data: byte order | the file's; bytes in words, lower first | swapped, where words are then over 4 times, bytes over 1.5 times as smooth | `lut_byte_order` |
    | Rescale Slope, Intercept | numbers, the slope not zero; one that is missing is 1 or 0 | slope zero or not finite: no rescale; no number: error | `rescale_ignored` |
    | VOI LUT, then the first window | LINEAR with a width of 1 or more, LINEAR_EXACT, SIGMOID with a positive one; at most half of the pixels are clipped, or a third or more of the range of the values (percentiles 0.5 to 99.5) is shown | values before it | `window_ignored` |
    | Presentation LUT Shape | IDENTITY, INVERSE | polarity of Photometric Interpretation | `presentation_lut_ignored` |
    | Presentation LUT Sequence | a rising ramp, which changes nothing | not applied | `presentation_lut_ignored` |

Polarity, so that bone is white:

::

    | | no shape | IDENTITY | INVERSE |
    |---|---|---|---|
    | MONOCHROME2 | as stored | as stored | turned round, `presentation_inverse` |
    | MONOCHROME1 | turned round | turned round | turned round |

For a digital radiograph, the standard has INVERSE say what MONOCHROME1 says already, so that the two together
turn once.
"""  # noqa: E501  # rows of a table are lines

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from anatozoo.errors import ImageError
from anatozoo.io.dicom_bits import numbers_of, padding_contradicts, padding_of, padding_of_numbers
from anatozoo.io.dicom_header import values_of
from anatozoo.io.dicom_tables import Table
from anatozoo.io.dicom_window import MALFORMED, shown_values

_MOST_BEYOND_PADDING = 0.005
_SMALLEST_SLOPE, _LARGEST_SLOPE = 1e-20, 1e20
_PALETTES = ("Red", "Green", "Blue")
_SHAPES = ("", "IDENTITY", "INVERSE")


@dataclass(frozen=True, eq=False)
class Grey:
    """A grey plane as it is meant to be seen, but for its polarity.

    Attributes:
        values: (H, W).
        background: padding, bool of the same shape; None if there is none.
        inverted: whether air is bright.
        flags: what was not believed.
    """

    values: npt.NDArray[Any]
    background: npt.NDArray[np.bool_] | None
    inverted: bool
    flags: tuple[str, ...]


def grey_values(words: npt.NDArray[Any], header: Dataset, label: str) -> Grey:
    """What a radiograph's stored words (H, W) show.

    Raises:
        ImageError: the Modality LUT, or slope and intercept, cannot be read.
    """
    numbers, background, flags = stored_numbers(words, header)
    values, modality_flags = modality_values(numbers, header, label)
    values, window_flags = shown_values(values, header, background, is_little=_is_little(header))
    inverted, polarity_flags = polarity_of(header)
    every = (*flags, *modality_flags, *window_flags, *polarity_flags)
    return Grey(values, background, inverted, tuple(dict.fromkeys(every)))


def stored_numbers(
    words: npt.NDArray[Any], header: Dataset
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None, tuple[str, ...]]:
    """Numbers and padding of stored words (..., H, W), with flags."""
    background = padding_of(words, header)
    numbers, flags = numbers_of(words, header, background)
    if background is None and padding_contradicts(words, header) and numbers.dtype.kind == "u":
        return numbers, None, (*flags, "padding_ignored")
    if background is None:
        background = padding_of_numbers(numbers, header)
    if background is not None and not _is_outside(numbers, background):
        # Values that were left out as padding count again.
        numbers, flags = numbers_of(words, header)
        background, flags = None, (*flags, "padding_ignored")
    return numbers, background, flags


def modality_values(
    numbers: npt.NDArray[Any], header: Dataset, label: str, root: Dataset | None = None
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Apply the Modality LUT, or else slope and intercept.

    Args:
        numbers: of any shape.
        header: what holds the attributes.
        label: the file, for messages.
        root: the data set, where `header` is a functional group of it.

    Raises:
        ImageError: they are malformed, so that what the stored values mean is unknown.
    """
    try:
        sequence = values_of(header, "ModalityLUTSequence")
        if sequence:
            table = Table.of(sequence[0], numbers, is_little=_is_little(root or header))
            if not table.covers(numbers):
                raise ValueError("the table has no entries for the values of the image")
            return table.apply(numbers), table.flags
        return _rescaled(numbers, header)
    except Exception as error:  # a hostile header fails in any way it likes
        raise ImageError(
            f"{label} is damaged: its Modality LUT, or rescale slope and intercept, cannot be read; copy or "
            "export it again."
        ) from error


def is_palette(header: Dataset) -> bool:
    """Whether words are numbers of colours."""
    return str(header.get("PhotometricInterpretation")).strip().upper() == "PALETTE COLOR"


def palette_colours(words: npt.NDArray[Any], header: Dataset) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Colours (..., 3) of the words of a palette image.

    Raises:
        Exception: of any kind; the palette is missing or malformed.
    """
    numbers, flags = numbers_of(words, header)
    if "SegmentedRedPaletteColorLookupTableData" in header:
        from pydicom.pixels.processing import apply_color_lut

        return apply_color_lut(numbers, header), flags
    span = (float(numbers.min()), float(numbers.max()))
    planes = []
    for colour in _PALETTES:
        descriptor = values_of(header, f"{colour}PaletteColorLookupTableDescriptor")
        data = header[f"{colour}PaletteColorLookupTableData"].value
        table = Table.read(descriptor, data, span, is_signed=span[0] < 0, is_little=_is_little(header))
        if not table.covers(numbers):
            raise ValueError("the palette has no entries for the values of the image")
        planes.append(table.apply(numbers))
        flags += table.flags
    return np.stack(planes, -1), tuple(dict.fromkeys(flags))


def polarity_of(header: Dataset) -> tuple[bool, tuple[str, ...]]:
    """Whether air is bright, see the table above, with flags."""
    inverted = str(header.get("PhotometricInterpretation")).strip().upper() == "MONOCHROME1"
    shape = "\\".join(str(value) for value in values_of(header, "PresentationLUTShape")).strip().upper()
    is_known = shape in _SHAPES and not _has_curve(header)
    flags = () if is_known else ("presentation_lut_ignored",)
    if shape == "INVERSE" and not inverted:
        return True, ("presentation_inverse", *flags)
    return inverted, flags


def _has_curve(header: Dataset) -> bool:
    """Whether there is a presentation LUT that is not a rising ramp from input zero, or cannot be read."""
    try:
        sequence = values_of(header, "PresentationLUTSequence")
        if not sequence:
            return False
        descriptor, data = values_of(sequence[0], "LUTDescriptor"), sequence[0]["LUTData"].value
        table = Table.read(descriptor, data, (0, int(descriptor[0]) - 1), is_little=_is_little(header))
    except MALFORMED:
        return True
    first, last = int(table.entries[0]), int(table.entries[-1])
    ramp = np.linspace(first, last, len(table.entries))
    is_ramp = first < last and bool(np.abs(table.entries - ramp).max() <= 1)
    return table.first != 0 or table.is_short or not is_ramp


def _rescaled(numbers: npt.NDArray[Any], header: Dataset) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    slopes, intercepts = ([float(v) for v in _present(header, f"Rescale{n}")] for n in ("Slope", "Intercept"))
    slope, intercept = (slopes or [1.0])[0], (intercepts or [0.0])[0]
    if (slope, intercept) == (1.0, 0.0):
        return numbers, ()
    if not (_SMALLEST_SLOPE < abs(slope) < _LARGEST_SLOPE and abs(intercept) < _LARGEST_SLOPE):
        return numbers, ("rescale_ignored",)
    return numbers * slope + intercept, ()


def _present(header: Dataset, keyword: str) -> list[Any]:
    """All values of an attribute; unlike `values_of` it fails where they cannot be decoded."""
    header.get(keyword)
    return values_of(header, keyword)


def _is_outside(numbers: npt.NDArray[Any], background: npt.NDArray[np.bool_]) -> bool:
    """Whether padding lies at an end of the values of the image, and not among them."""
    padding, others = numbers[background], numbers[~background]
    low, high = padding.min(), padding.max()
    share = min(np.count_nonzero(others < low), np.count_nonzero(others > high)) / others.size
    return bool(share <= _MOST_BEYOND_PADDING)


def _is_little(header: Dataset) -> bool:
    """The byte order of the file that a data set is from."""
    meta = getattr(header, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    return True if syntax is None else bool(syntax.is_little_endian)
