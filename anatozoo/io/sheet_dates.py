"""Names of which a spreadsheet has made dates, such as ``1-Mar`` of ``MAR1`` or ``2-Jan`` of ``1-2``."""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
_OTHERS = {"mrz": 3, "mär": 3, "mai": 5, "okt": 10, "dez": 12, "sept": 9}
_DAY_MONTH = re.compile(r"(\d{1,2})(?:-|\. ?| )([^\W\d_]{3})")
_MONTH_YEAR = re.compile(r"([^\W\d_]{3})[- ](\d{2})")
_WHOLE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ]00:00(?::00)?)?")
_SLASHED = re.compile(r"(\d{1,2})[/.](\d{1,2})[/.](\d{4}|\d{2})")
_WORD_FIRST = re.compile(r"([^\W\d_]{3,9})[-/. ]?(\d{1,4})")
_WORD_LAST = re.compile(r"(\d{1,4})[-/. ]?([^\W\d_]{3,9})")
_TWO = re.compile(r"(\d{1,2})[-/.](\d{1,4})")
_THREE = re.compile(r"(\d{1,4})[-/.](\d{1,2})[-/.](\d{1,4})")

Date = tuple[int, int, int]
"""Month, day and year; 0 for what is not said, of years the last two digits."""


def dates_written(text: str) -> set[Date]:
    """The dates that a cell shows if a spreadsheet wrote it; of 03/04/2024 both that it may be."""
    if found := _DAY_MONTH.fullmatch(text):
        return _day(_month(found[2]), int(found[1]))
    if found := _MONTH_YEAR.fullmatch(text):
        month = _month(found[1])
        return {(month, 0, int(found[2]))} if month else set()
    if found := _WHOLE.fullmatch(text):
        year, month, day = int(found[1]), int(found[2]), int(found[3])
        return _whole(month, day, year)
    if found := _SLASHED.fullmatch(text):
        one, two, year = int(found[1]), int(found[2]), int(found[3])
        return _whole(one, two, year) | _whole(two, one, year)
    return set()


def dates_made_of(text: str) -> set[Date]:
    """The dates that spreadsheets of any country may make of a name."""
    if found := _WORD_FIRST.fullmatch(text):
        return _short(_month(found[1]), int(found[2]))
    if found := _WORD_LAST.fullmatch(text):
        return _short(_month(found[2]), int(found[1]))
    if found := _TWO.fullmatch(text):
        one, two = int(found[1]), int(found[2])
        return _short(one, two) | _day(two, one)
    if found := _THREE.fullmatch(text):
        one, two, three = int(found[1]), int(found[2]), int(found[3])
        made = (one, two, three), (two, one, three), (two, three, one)
        return {date for parts in made for date in _whole(*parts) if date[2]}
    return set()


def _month(word: str) -> int:
    lower = word.casefold()
    if lower in _MONTHS:
        return _MONTHS.index(lower) + 1
    return _FULL.index(lower) + 1 if lower in _FULL else _OTHERS.get(lower, 0)


def _day(month: int, day: int) -> set[Date]:
    return {(month, day, 0)} if 1 <= month <= 12 and 1 <= day <= 31 else set()


def _short(month: int, number: int) -> set[Date]:
    """A month with what may be its day or its year."""
    year = {(month, 0, number % 100)} if 1 <= month <= 12 and (number < 100 or number >= 1900) else set()
    return _day(month, number) | year


def _whole(month: int, day: int, year: int) -> set[Date]:
    """A whole date; a name without a year has become one of the current year, one without a day a first."""
    if not _day(month, day):
        return set()
    return {(month, day, 0), (month, day, year % 100)} | ({(month, 0, year % 100)} if day == 1 else set())
