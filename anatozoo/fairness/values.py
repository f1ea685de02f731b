"""Values of cells as people and machines write them: "045Y", "male ", "N/A", an empty field."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

OLDEST = 120.0

_MISSING = frozenset(
    (
        "",
        "nan",
        "none",
        "null",
        "na",
        "n/a",
        "<na>",
        "?",
        "-",
        "–",
        "#n/a",
        "u",
        "unk",
        "unknown",
        "unspecified",
    )
)
# A column of words may say "none" and mean it: a patient without a disease.
_WORDS = _MISSING - {"none", "u"}
_SEXES = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F", "o": "O", "other": "O"}
_YEARS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_AGE = re.compile(r"(\d+(?:[.,]\d*)?)\s*(?:(y|m|w|d)|(year|month|week|day)s?)?(?:\s+old)?\.?")


def read_age(value: object) -> float:
    """Age in years of a number, of DICOM's age string, or of words.

    ``45``, ``"45"``, ``"45,5"``, ``"045Y"``, ``"006M"``, ``"10 days"`` and ``"45 years"`` are understood;
    DICOM PS3.5, value representation AS.

    Returns:
        Years from 0 to 120; NaN where nothing is stated.

    Raises:
        ValueError: the value is not an age.
    """
    text = str(value).strip().lower()
    if value is None or text in _MISSING:
        return math.nan
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{value!r} is not an age")
    unit = match[2] or (match[3] or "y")[0]
    years = float(match[1].replace(",", ".")) * _YEARS[unit]
    if years > OLDEST:
        raise ValueError(f"{value!r} is not an age of a person")
    return years


def read_sex(value: object) -> str | None:
    """``"M"``, ``"F"`` or DICOM's ``"O"`` of male, Female, m, woman, …; None where nothing is stated.

    Raises:
        ValueError: the value is not a sex that is known here; numbers are refused, because both codings are
            in use.
    """
    text = str(value).strip().lower()
    if value is None or text in _MISSING:
        return None
    if text not in _SEXES:
        raise ValueError(f"{value!r} is not a sex")
    return _SEXES[text]


def read_word(value: object) -> str | None:
    """A word with single blanks; None where nothing is stated. "none" is a word, as of diseases."""
    text = " ".join(str(value).split())
    return None if value is None or text.lower() in _WORDS else text


def read_number(value: object) -> float:
    """A finite number; NaN where nothing is stated.

    Raises:
        ValueError: the value is not a number, or infinite.
    """
    text = str(value).strip().lower()
    number = math.nan if value is None or text in _MISSING else float(text)
    if math.isinf(number):
        raise ValueError("infinite")
    return number


def read_column(column: pd.Series, reader: Callable[[object], object]) -> tuple[pd.Series, dict[str, int]]:
    """Read every cell of a column.

    Args:
        column: any cells.
        reader: one of those above; a `ValueError` of it means "not understood".

    Returns:
        The values, None where nothing is stated or understood, and how often each cell was not understood.
    """
    import pandas as pd

    cells = column.astype(object).where(column.notna(), "")
    read: dict[object, object] = {}
    strange = set()
    for cell in cells.unique():
        try:
            value = reader(cell)
            # NaN is the one value that differs from itself.
            read[cell] = value if value == value else None
        except ValueError:
            read[cell] = None
            strange.add(cell)
    values = pd.Series([read[cell] for cell in cells], index=column.index, dtype=object)
    unclear = cells[cells.isin(strange)].astype(str).value_counts(sort=False)
    return values, {str(text): int(count) for text, count in unclear.items()}
