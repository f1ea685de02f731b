"""What number a stored word of DICOM pixels is: Bits Stored, High Bit, sign, unused bits and padding.

The rules and their thresholds are in the table of `anatozoo.io.dicom_grey`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

Words = npt.NDArray[Any]

_SAMPLE = 2**19
_CLEARLY = 2.0
"""How many times rougher the stated reading has to be before the sign is not believed."""
_SWAPPED = 4.0
"""How many times rougher the stated byte order has to be before it is not believed."""
_FEWEST_BITS = 7
"""Below, a quarter of the range has no 17 levels."""
_FEW_LEVELS, _FEW_PIXELS = 16, 0.005
"""Negative values of fewer levels, or in fewer pixels, may be padding or text and prove no wrong sign."""
_MOST_BETWEEN = 0.0005
"""Share of pixels in the middle half of the range, above which values without a stated sign have none."""
_NEAR_ZERO = 1 / 32
"""Neighbours of which one is negative differ by less than this share of the range, or have no sign."""
_BELOW_WHITE = 8
"""White that is more frequent than so many levels below it together is saturated, and not -1."""


@dataclass(frozen=True)
class Reading:
    """How words become numbers: shift to the right, keep so many bits, with or without a sign.

    Attributes:
        shift: bits below the value.
        bits: bits of the value.
        signed: whether its highest bit is a sign.
        swap: whether the bytes of a word are in the other order.
    """

    shift: int
    bits: int
    signed: bool
    swap: bool = False

    def apply(self, words: Words) -> Words:
        """Numbers (same shape) of words, signed or unsigned of the same width; may be the same array."""
        words = words.byteswap() if self.swap else words
        allocated = 8 * words.dtype.itemsize
        words = words.view(f"{'i' if self.signed else 'u'}{words.dtype.itemsize}")
        left, right = allocated - self.bits - self.shift, allocated - self.bits
        if left:
            words = words << words.dtype.type(left)
        return words >> words.dtype.type(right) if right else words


def mend_bits(header: Dataset) -> tuple[str, ...]:
    """Put Bits Allocated in the place of a Bits Stored that is missing or impossible.

    Returns:
        ``("bits_stored_ignored",)`` where that was so.
    """
    allocated, stored = header.get("BitsAllocated"), header.get("BitsStored")
    if "PixelData" not in header or not isinstance(allocated, int):
        return ()
    if isinstance(stored, int) and 1 <= stored <= allocated:
        return ()
    header.BitsStored, header.HighBit = allocated, allocated - 1
    return ("bits_stored_ignored",)


def numbers_of(
    words: Words, header: Dataset, background: npt.NDArray[np.bool_] | None = None
) -> tuple[Words, tuple[str, ...]]:
    """Numbers that the words of an image, or of all slices of a volume, stand for.

    Args:
        words: (..., H, W), as decoded, unused bits and all.
        header: what says how they are to be read.
        background: padding of the same shape, which may hold any bits.

    Returns:
        The numbers, and flags for what was not believed.
    """
    if words.dtype.kind not in "iu":
        return words, ()
    words = words.astype(words.dtype.newbyteorder("="), copy=False)
    allocated = 8 * words.dtype.itemsize
    stored, high = min(int(header.BitsStored), allocated), header.get("HighBit")
    signed = bool(header.get("PixelRepresentation"))
    seen = words if background is None else words[~background]
    used = _bits_used(seen)
    shift = int(high) - stored + 1 if isinstance(high, int) else 0
    overlays = _overlay_bits(header)
    flags: list[str] = []
    if shift and not _left_aligned(used, shift, stored, overlays):
        shift, flags = 0, ["high_bit_ignored"]
    stated = Reading(shift, stored, signed)
    above = used >> (stored + shift) if stored + shift < allocated else 0
    if above and not shift:
        above &= ~(overlays >> stored)
        # Negative numbers whose sign is repeated up to the highest bit.
        if above and not signed and _has_sign(words, seen, Reading(0, allocated, True), stated, header):
            wide = () if _are_extended(seen, stored) else ("bits_stored_ignored",)
            return Reading(0, allocated, True).apply(words), (*flags, "sign_assumed", *wide)
        if above and not (signed and _are_extended(seen, stored)):
            reading, flag = _with_high_bits(words, stated, allocated)
            return reading.apply(words), (*flags, flag)
    elif not above and signed and _has_no_sign(words, seen, stated):
        return Reading(shift, stored, False).apply(words), (*flags, "sign_ignored")
    elif not above and not signed and _has_sign(words, seen, Reading(shift, stored, True), stated, header):
        return Reading(shift, stored, True).apply(words), (*flags, "sign_assumed")
    if not signed and not shift and not used >> stored and background is None:
        return words, tuple(flags)
    return stated.apply(words), tuple(flags)


def padding_of(words: Words, header: Dataset) -> npt.NDArray[np.bool_] | None:
    """Words that lie within Pixel Padding Value and its limit, unused bits and all.

    Returns:
        bool of the same shape; ``None`` where no value is stated, or no word has it, or all have.
    """
    limits = _padding_limits(header)
    if limits is None or words.dtype.kind not in "iu" or padding_contradicts(words, header):
        return None
    return _usable(_within(words, *sorted(_as_words(words, limits))))


def padding_contradicts(words: Words, header: Dataset) -> bool:
    """Whether the stated range of padding goes from below zero to above it, which unsigned words cannot."""
    limits = _padding_limits(header)
    if limits is None or words.dtype.kind != "u":
        return False
    low, high = _as_words(words, limits)
    largest, stored = int(np.iinfo(words.dtype).max), header.get("BitsStored")
    # -5 to 5 that was written without signs: from among the values to just below the end of the words.
    begins_inside = 0 < low < 2 ** (stored if isinstance(stored, int) else 8 * words.dtype.itemsize) - 1
    return low > high or (begins_inside and high < largest and high - low > largest // 2)


def padding_of_numbers(numbers: Words, header: Dataset) -> npt.NDArray[np.bool_] | None:
    """The same of numbers, for files that state the number and not the word."""
    limits = _padding_limits(header)
    return None if limits is None else _usable(_within(numbers, *limits))


def _as_words(words: Words, limits: tuple[int, int]) -> tuple[int, int]:
    """Limits, each of which may be written with the other sign: 65535 for -1."""
    span, least = 2 ** (8 * words.dtype.itemsize), int(np.iinfo(words.dtype).min)
    low, high = ((limit - least) % span + least for limit in limits)
    return low, high


def _padding_limits(header: Dataset) -> tuple[int, int] | None:
    first = header.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = header.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    return low, high


def _within(values: Words, low: int, high: int) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = values == low if low == high else (values >= low) & (values <= high)
    return found


def _usable(padding: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    return padding if padding.any() and not padding.all() else None


def _bits_used(words: Words) -> int:
    """All bits that any word has."""
    if not words.size:
        return 0
    unsigned = words.view(words.dtype.str.replace("i", "u"))
    return int(np.bitwise_or.reduce(unsigned, axis=None))


def _overlay_bits(header: Dataset) -> int:
    """Bits that hold overlays, which are not part of the number."""
    bits = 0
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in header and (group, 0x3000) not in header:
            position = header[group, 0x0102].value
            if isinstance(position, int) and 0 < position < 64:
                bits |= 1 << position
    return bits


def _left_aligned(used: int, shift: int, stored: int, overlays: int) -> bool:
    """Whether values really stand so many bits up: nothing but overlays is below or above them."""
    rest = used & ~(((1 << stored) - 1) << shift) if shift > 0 else used
    return shift > 0 and not rest & ~overlays


def _are_extended(words: Words, stored: int) -> bool:
    """Whether the bits above signed values of so many bits are zero, or all as the sign is."""
    signed = words.view(words.dtype.str.replace("u", "i"))
    limit = 1 << (stored - 1)
    low, high = int(signed.min()), int(signed.max())
    if -limit <= low and high < 2 * limit:
        return True
    extended = (signed >= -limit) & (signed < 2 * limit)
    return bool(extended.all())


def _with_high_bits(words: Words, stated: Reading, allocated: int) -> tuple[Reading, str]:
    """Choose between the stated bits, all bits and swapped bytes: the smoothest image is the right one.

    Values that were cut off jump from the top to the bottom where the image is smooth; foreign bits jump
    where the values below them are smooth.
    """
    whole = Reading(0, allocated, stated.signed)
    rough, rough_whole = _roughness(words, stated), _roughness(words, whole)
    swapped = Reading(0, stated.bits, stated.signed, swap=True)
    fits = allocated == 16 and not _bits_used(words.byteswap()) >> stated.bits
    if fits and _roughness(words, swapped) * _SWAPPED < min(rough, rough_whole):
        return swapped, "byte_order_ignored"
    return (whole, "bits_stored_ignored") if rough_whole < rough else (stated, "high_bits_ignored")


def _has_no_sign(words: Words, seen: Words, stated: Reading) -> bool:
    """Whether values that a header calls signed are not: they jump if read as signed, and else do not."""
    negative = Reading(stated.shift, stated.bits, True).apply(seen)
    negative = negative[negative < 0]
    if negative.size <= _FEW_PIXELS * seen.size:
        return False
    if len(np.unique(negative.ravel()[:_SAMPLE])) <= _FEW_LEVELS:
        return False
    plain = Reading(stated.shift, stated.bits, False)
    return _CLEARLY * _roughness(words, plain) < _roughness(words, stated)


def _has_sign(words: Words, seen: Words, with_sign: Reading, stated: Reading, header: Dataset) -> bool:
    """Whether values that a header calls unsigned are two's complement.

    They then lie at both ends of the range, as small positive and small negative numbers do, and pass from
    one end to the other where the image is smooth. A bright region in a black border has the ends too, but
    its values are far from each other with a sign as well, or are one saturated white.
    """
    if not str(header.get("PhotometricInterpretation") or "MONOCHROME2").strip().upper().startswith("MONO"):
        return False  # numbers of colours
    if with_sign.bits < _FEWEST_BITS:
        return False  # a quarter of so few levels tells nothing
    values = with_sign.apply(seen)
    quarter = 1 << (with_sign.bits - 2)
    negative = values[(values < 0) & (values >= -quarter)]
    if negative.size <= _FEW_PIXELS * values.size:
        return False
    between = np.count_nonzero((values < -quarter) | (values >= quarter))
    if between >= _MOST_BETWEEN * values.size:
        return False
    positive = values[(values >= 0) & (values < quarter)]
    if any(len(np.unique(part.ravel()[:_SAMPLE])) <= _FEW_LEVELS for part in (negative, positive)):
        return False
    white = np.count_nonzero(negative == -1)
    nearly = int(np.count_nonzero((negative < -1) & (negative >= -1 - _BELOW_WHITE)))
    if white > max(_FEW_PIXELS * values.size, nearly):
        return False
    if not _is_near_zero_between_signs(words, with_sign):
        return False
    plain = (stated, Reading(with_sign.shift, with_sign.bits, False))
    return _CLEARLY * _roughness(words, with_sign) < min(_roughness(words, each) for each in plain)


def _is_near_zero_between_signs(words: Words, reading: Reading) -> bool:
    """Whether most neighbours in a row, of which one is negative, differ little."""
    values = _some_rows(words, reading)
    crosses = np.diff(values < 0, axis=1)
    jumps = np.abs(np.diff(values, axis=1))[crosses]
    return jumps.size > 0 and bool(np.median(jumps) < _NEAR_ZERO * 2.0**reading.bits)


def _roughness(words: Words, reading: Reading) -> float:
    """Mean difference of neighbours in a row, over at most half a million pixels in whole rows."""
    values = _some_rows(words, reading)
    return float(np.abs(np.diff(values, axis=1)).mean()) if values.shape[1] > 1 else 0.0


def _some_rows(words: Words, reading: Reading) -> npt.NDArray[np.float64]:
    """At most half a million values in whole rows."""
    rows = words.reshape(-1, words.shape[-1])
    rows = rows[:: max(1, -(-rows.size // _SAMPLE))]
    return reading.apply(np.ascontiguousarray(rows)).astype(np.float64)
