"""Which row of one table belongs to which of another: names and paths of images, as people mean them.

A name is text, never a number: ``0007`` is not ``7``. Of a path counts the longest end that both tables have,
so that ``/data/CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg`` meets
``CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg`` and nobody else's ``view1_frontal``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anatozoo.io.sheet_dates import Date, dates_made_of, dates_written
from anatozoo.io.tables import clean

_SUFFIXES = (
    ".nii.gz", ".img.gz", ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".nii",
    ".mha", ".mhd", ".nrrd", ".img", ".npy",
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?\d+(?:\.0*)?")
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+")

Key = tuple[str, ...]
"""A name; of a join by several columns, one text each."""


@dataclass(frozen=True)
class Matches:
    """Which names of the first table belong to which of the second.

    Attributes:
        pairs: name -> name, each name of the second table once.
        ambiguous: names of the second table that stand for several of the first, with these.
        several: names of the first table that stand for several of the second, with these.
        alike: names without partner that would meet as numbers, ``("0007", "7")``.
        mangled: names of the second table that a spreadsheet has written as ``1.23E+15``.
        beside: pairs of folders that differ in names that meet by the file's name alone.
        dates: names without partner of which one is the date that a spreadsheet makes of the other,
            ``("MAR1", "1-Mar")``.
    """

    pairs: Mapping[Key, Key]
    ambiguous: Mapping[Key, tuple[Key, ...]]
    several: Mapping[Key, tuple[Key, ...]]
    alike: tuple[tuple[Key, Key], ...]
    mangled: tuple[Key, ...]
    beside: tuple[tuple[str, str], ...] = ()
    dates: tuple[tuple[Key, Key], ...] = ()


def plain_name(text: str) -> str:
    """A name without folders and without the suffix of an image; dots of an identifier stay."""
    return _without_suffix(clean(text).replace("\\", "/").rsplit("/", 1)[-1])


def _without_suffix(name: str) -> str:
    lower = name.lower()
    if not lower.endswith(_SUFFIXES):
        return name
    return next((name[: -len(s)] for s in _SUFFIXES if lower.endswith(s) and len(name) > len(s)), name)


def match_keys(first: Sequence[Key], second: Sequence[Key]) -> Matches:
    """Find partners.

    The same text is the same name. Else names meet without case, image suffix and the folders that one of the
    tables does not state. Where both state folders that differ, they meet only if these are a root that is
    the same for all of one table, such as ``pred/`` against ``images/``, or the same two for most.

    Args:
        first: different names of the rows that stay, as `anatozoo.io.tables.clean` gives them.
        second: different names of the rows that are looked up, in the same way.
    """
    there = set(second)
    pairs = {key: key for key in first if key in there}
    taken = set(pairs.values())
    tails = _Tails([key for key in second if key not in taken])
    several: dict[Key, tuple[Key, ...]] = {}
    whole: dict[Key, list[Key]] = {}
    partial: dict[Key, list[Key]] = {}
    for key in first:
        if key in pairs:
            continue
        found, complete = tails.look_up(key)
        if len(found) > 1:
            several[key] = tuple(found)
        elif found:
            (whole if complete else partial).setdefault(found[0], []).append(key)
    ambiguous = {other: tuple(keys) for other, keys in whole.items() if len(keys) > 1}
    pairs |= {keys[0]: other for other, keys in whole.items() if len(keys) == 1}
    beside: tuple[tuple[str, str], ...] = ()
    if not pairs and not ambiguous and not several:
        single = {keys[0]: other for other, keys in partial.items() if len(keys) == 1}
        pairs, beside = _of_one_root(single) if len(single) == len(partial) else ({}, ())
    left = [key for key in first if key not in pairs]
    taken = set(pairs.values())
    right = [key for key in second if key not in taken]
    mangled = tuple(key for key in right if any(map(_SCIENTIFIC.fullmatch, key)))
    dates = (*_made_dates(left, right), *((one, two) for two, one in _made_dates(right, left)))
    return Matches(pairs, ambiguous, several, _alike(left, right), mangled, beside, dates)


def _parts(key: Key) -> tuple[str, ...]:
    """The last part of a path first, as they are compared; further columns stand with the last part."""
    *others, path = key
    folders = [part for part in path.replace("\\", "/").casefold().split("/") if part not in ("", ".")]
    name = "\0".join([*(text.casefold() for text in others), _without_suffix(folders[-1] if folders else "")])
    return (name, *folders[-2::-1])


class _Tails:
    """Names by the ends of their paths."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._by_tail: dict[tuple[str, ...], list[Key]] = {}
        self._whole: dict[tuple[str, ...], list[Key]] = {}
        for key in keys:
            parts = _parts(key)
            for depth in range(1, len(parts) + 1):
                self._by_tail.setdefault(parts[:depth], []).append(key)
            self._whole.setdefault(parts, []).append(key)

    def look_up(self, key: Key) -> tuple[list[Key], bool]:
        """The keys with the longest common end, and whether one of the two has no more than that.

        None where paths part from each other and several are equally like this one.
        """
        parts = _parts(key)
        depth = 0
        while depth < len(parts) and parts[: depth + 1] in self._by_tail:
            depth += 1
        if not depth:
            return [], False
        found = self._by_tail[parts[:depth]]
        if depth == len(parts):
            same = self._whole.get(parts)
            return (same, True) if same else (found, True)
        ended = self._whole.get(parts[:depth])
        if ended:
            return ended, True
        # Shorter names that end before the paths part stand for this one too.
        for shorter in range(depth - 1, 0, -1):
            ended = self._whole.get(parts[:shorter])
            if ended:
                return ended, True
        return (found, False) if len(found) == 1 else ([], False)


def _of_one_root(pairs: Mapping[Key, Key]) -> tuple[dict[Key, Key], tuple[tuple[str, str], ...]]:
    """The pairs of paths that differ in a root alone, and the two roots."""
    roots = {key: _roots(key, other) for key, other in pairs.items()}
    found = set(roots.values())
    if 1 not in (len({one for one, _ in found}), len({two for _, two in found})):
        counts = Counter(roots.values()).most_common(1)
        found = {pair for pair, count in counts if 2 * count > len(roots)}
    return {k: other for k, other in pairs.items() if roots[k] in found}, tuple(sorted(found))


def _roots(key: Key, other: Key) -> tuple[str, str]:
    """What is left of two paths without the end that they share."""
    one, two = _parts(key), _parts(other)
    depth = 0
    while one[depth] == two[depth]:
        depth += 1
    return "/".join(reversed(one[depth:])), "/".join(reversed(two[depth:]))


def _alike(left: Sequence[Key], right: Sequence[Key]) -> tuple[tuple[Key, Key], ...]:
    """Names without partner that are one and the same number."""
    numbers = {number: key for key in right if (number := _as_numbers(key)) is not None}
    found = ((key, numbers.get(number)) for key in left if (number := _as_numbers(key)) is not None)
    return tuple((key, other) for key, other in found if other and _parts(key)[0] != _parts(other)[0])


def _made_dates(texts: Sequence[Key], written: Sequence[Key]) -> tuple[tuple[Key, Key], ...]:
    """Names, each with one that is the same but for dates in the place of texts that become them."""
    by_date: dict[tuple[str | Date, ...], Key] = {}
    for key in written:
        for index, part in enumerate(key):
            for date in dates_written(clean(part)):
                by_date.setdefault(_dated(key, index, date), key)
    if not by_date:
        return ()
    found: dict[Key, Key] = {}
    for key in texts:
        for index, part in enumerate(key):
            for date in dates_made_of(clean(part)) | dates_made_of(plain_name(part)):
                other = by_date.get(_dated(key, index, date))
                if other and clean(part) != clean(other[index]):
                    found.setdefault(key, other)
    return tuple(found.items())


def _dated(key: Key, index: int, date: Date) -> tuple[str | Date, ...]:
    """The name with a date in one place, the others as they are compared."""
    others = [clean(text).casefold() for text in key]
    return (*others[:index], date, *others[index + 1 :])


def _as_numbers(key: Key) -> Key | None:
    """The name with its digits as a spreadsheet keeps them; None if it holds no number."""
    parts = [plain_name(text) if index == len(key) - 1 else clean(text) for index, text in enumerate(key)]
    if not any(map(_NUMBER.fullmatch, parts)):
        return None
    return tuple(str(int(p.split(".")[0])) if _NUMBER.fullmatch(p) else p.casefold() for p in parts)


def example(keys: Sequence[Key], most: int = 3) -> str:
    """A few names for a message."""
    shown = [" ".join(key) for key in keys[:most]]
    return ", ".join(shown) + (", …" if len(keys) > most else "")


def repeated(keys: Sequence[Key]) -> dict[Key, int]:
    """Names that are there more than once, and how often."""
    return {key: count for key, count in Counter(keys).items() if count > 1}
