"""Look-up tables of DICOM, as they are and not only as the standard has them.

The rules and their thresholds are in the table of `anatozoo.io.dicom_grey`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from anatozoo.io.dicom_header import values_of

Entries = npt.NDArray[np.int64]

_WORD, _ALL_ENTRIES = 0xFFFF, 0x10000
_BYTE_BITS, _MOST_BITS = 8, 16
_SWAPPED_WORDS, _SWAPPED_BYTES = 4.0, 1.5
"""How many times rougher a table has to be in its stated byte order before that is not believed."""
_MOST_BEYOND = 0.01
"""Share of pixels for which a table that is too short may have no entry."""


@dataclass(frozen=True, eq=False)
class Table:
    """A look-up table.

    Attributes:
        first: input of the first entry; inputs below take it, inputs above the last entry take that one.
        entries: outputs, (n,).
        is_short: whether the table has fewer entries than it says.
        flags: what of its description was not believed.
    """

    first: int
    entries: Entries
    is_short: bool
    flags: tuple[str, ...]

    @classmethod
    def read(
        cls,
        descriptor: Any,
        data: Any,
        span: tuple[float, float],
        *,
        is_signed: bool = False,
        is_little: bool = True,
    ) -> Self:
        """Read a table from its description and its data.

        Args:
            descriptor: number of entries (0 for 65,536), first input, bits of an entry.
            data: bytes, or whole numbers of 16 bits.
            span: smallest and largest input there is.
            is_signed: whether inputs may be negative.
            is_little: the byte order of the file.

        Raises:
            ValueError: that cannot be, as the description is not three numbers or there are no entries.
        """
        count, first, bits = (int(value) for value in descriptor)
        count, bits = (count & _WORD) or _ALL_ENTRIES, bits & _WORD
        if isinstance(data, bytes | bytearray):
            entries, flags = _of_bytes(bytes(data), count, bits, is_little)
        else:
            numbers = np.asarray(data if hasattr(data, "__len__") else [data], np.int64) & _WORD
            entries, flags = _of_numbers(numbers, count, bits)
        if not len(entries):
            raise ValueError("the table has no entries")
        missing = count - len(entries)
        # One more entry is padding to an even length.
        flags += ["lut_length"] if missing > 0 or missing < -1 else []
        unsigned = first & _WORD
        signed = unsigned - _ALL_ENTRIES if unsigned > _WORD // 2 else unsigned
        choices = sorted((signed, unsigned), key=lambda value: value >= 0, reverse=not is_signed)
        first = max(choices, key=lambda value: _overlap(span, (value, value + count - 1)))
        return cls(first, entries[:count], missing > 0, tuple(flags))

    @classmethod
    def of(cls, item: Dataset, values: npt.NDArray[Any], *, is_little: bool) -> Self:
        """Read the table in an item of a sequence, for these inputs; see `read`."""
        span = (float(values.min()), float(values.max()))
        data = item["LUTData"].value
        return cls.read(
            values_of(item, "LUTDescriptor"), data, span, is_signed=span[0] < 0, is_little=is_little
        )

    def covers(self, values: npt.NDArray[Any]) -> bool:
        """Whether no more than a hundredth of the inputs have lost their entry."""
        return not self.is_short or bool(np.mean(values >= self.first + len(self.entries)) <= _MOST_BEYOND)

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Outputs, uint16, of the same shape."""
        last = len(self.entries) - 1
        if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
            # Every input there can be, so that each pixel costs one look-up.
            inputs = np.arange(2 ** (8 * values.dtype.itemsize)).astype(f"u{values.dtype.itemsize}")
            index = np.clip(inputs.view(values.dtype).astype(np.int64) - self.first, 0, last)
            whole = self.entries[index].astype(np.uint16)
            return whole[values.view(inputs.dtype)]
        index = np.clip(np.floor(values - float(self.first)), 0, last).astype(np.int64)
        return self.entries[index].astype(np.uint16)

    @property
    def interval(self) -> tuple[float, float]:
        """The inputs between which outputs change at all; alike for a table that is constant."""
        changes = np.flatnonzero(np.diff(self.entries))
        if not len(changes):
            return float(self.first), float(self.first)
        return float(self.first + changes[0]), float(self.first + changes[-1] + 1)


def _of_bytes(data: bytes, count: int, bits: int, is_little: bool) -> tuple[Entries, list[str]]:
    """Entries of a byte or a word each, whichever there is room for and the other flags."""
    length = len(data)
    words, word_flags = _words(data, is_little)
    octets, octet_flags = _octets(data, is_little)
    fits_octets, fits_words = length in (count, count + 1), length in (2 * count, 2 * count + 2)
    if fits_octets == fits_words:
        # A length that fits neither: a table of words whose upper bytes are all zero has words.
        narrow = bits <= _BYTE_BITS and len(words) > 0 and int(words.max()) > 2**_BYTE_BITS - 1
        as_words = not narrow
    else:
        as_words = fits_words
    if fits_octets and bits > _BYTE_BITS and _is_smoother(words, octets):
        as_words = True  # half of the words that there should be
    flags = list(word_flags if as_words else octet_flags)
    is_wide = as_words and len(words) > 0 and int(words.max()) >= 2 ** min(max(bits, 1), _MOST_BITS)
    if (not as_words and bits > _BYTE_BITS) or is_wide or not 1 <= bits <= _MOST_BITS:
        flags.append("lut_bits")
    return (words if as_words else octets), flags


def _of_numbers(numbers: Entries, count: int, bits: int) -> tuple[Entries, list[str]]:
    """Entries from words that were read as numbers: one each, or two of a byte."""
    packed = len(numbers) == (count + 1) // 2 and len(numbers) > 1
    data = numbers.astype("<u2").tobytes()
    return _of_bytes(data[: count + count % 2] if packed and bits <= _BYTE_BITS else data, count, bits, True)


def _words(data: bytes, is_little: bool) -> tuple[Entries, list[str]]:
    even = data[: len(data) // 2 * 2]
    stated = np.frombuffer(even, "<u2" if is_little else ">u2")
    other = stated.byteswap()
    return _smoother(stated.astype(np.int64), other.astype(np.int64), _SWAPPED_WORDS)


def _octets(data: bytes, is_little: bool) -> tuple[Entries, list[str]]:
    """Entries packed in words, the first in the lower byte."""
    plain = np.frombuffer(data, np.uint8).astype(np.int64)
    even = plain[: len(plain) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
    pairs = np.concatenate([even, plain[len(even) :]])
    stated, other = (plain, pairs) if is_little else (pairs, plain)
    return _smoother(stated, other, _SWAPPED_BYTES)


def _smoother(stated: Entries, other: Entries, times: float) -> tuple[Entries, list[str]]:
    if _variation(other) * times < _variation(stated):
        return other, ["lut_byte_order"]
    return stated, []


def _is_smoother(a: Entries, b: Entries) -> bool:
    """Whether the first varies less, against what its values span."""
    return _variation(a) * max(int(np.ptp(b)), 1) < _variation(b) * max(int(np.ptp(a)), 1)


def _variation(entries: Entries) -> float:
    return float(np.abs(np.diff(entries)).sum())


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]) + 1)
