"""Numbers in the cells of a table: which cells are some, and what a comma means in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anatozoo.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_POINT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf(?:inity)?", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(?:\d+,?\d*|,\d+)(?:[eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3}){1,5}")
"""What may be a whole number with a comma at each thousand."""
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_CODE = re.compile(r"[+-]?0\d+|[+-]?\d{19,}")
"""Digits that are a name and no number: ``0007``, or longer than a number is exact."""
_NO_NUMBER = frozenset(("", "nan", "na", "n/a", "#n/a"))


def comma_is_decimal(
    columns: Mapping[str, Sequence[str]], separator: str, label: str
) -> tuple[bool, tuple[str, ...]]:
    """Whether commas in numbers are decimal commas, and what was taken for granted.

    They are where no column has decimal points. Where each number with a comma could as well be one of
    thousands, as ``1,234``, nothing in a table tells which it is but its separator: who writes decimal commas
    separates fields by something else.

    Args:
        columns: column -> cells, of the columns that may hold numbers.
        separator: what stands between the fields of the file.
        label: the file, for messages.

    Raises:
        DataError: commas separate the fields, and those in numbers may be decimal commas or thousands.
    """
    if any(_all_match(_POINT, cells) and any("." in c for c in cells) for cells in columns.values()):
        return False, ()
    doubtful, decimal = dict[str, str](), False
    for name, cells in columns.items():
        with_comma = [cell for cell in cells if "," in cell]
        rest = [cell for cell in cells if "," not in cell]
        if with_comma and all(map(_GROUPED.fullmatch, with_comma)):
            if not any(rest) or all(c.lower() in _NO_NUMBER or _WHOLE.fullmatch(c) for c in rest):
                doubtful[name] = with_comma[0]
        elif with_comma and _all_match(_COMMA, cells):
            decimal = True
    if not doubtful:
        return True, ()
    if separator == "," and not decimal:
        name, cell = next(iter(doubtful.items()))
        raise DataError(
            f"{label}: numbers in the column {name}, such as {cell!r}, may be thousands or have "
            f"decimal commas. Write them without commas ({cell.replace(',', '')}), or with a decimal "
            f"point ({cell.replace(',', '.', 1)})."
        )
    read = {name: cell for name, cell in doubtful.items() if cell.count(",") == 1}
    if not read or (decimal and separator != ","):
        return True, ()
    name, cell = next(iter(read.items()))
    return True, (
        f"commas in {', '.join(read)} were read as decimal commas, {cell} as {cell.replace(',', '.')}; write "
        "thousands without commas if they are some.",
    )


def _all_match(pattern: re.Pattern[str], cells: Sequence[str]) -> bool:
    """Whether every cell that says something is a number of this form, and there is one."""
    stated = [cell for cell in cells if cell.lower() not in _NO_NUMBER]
    return bool(stated) and all(map(pattern.fullmatch, stated))


def numbers(cells: Sequence[str], *, comma: bool) -> npt.NDArray[np.generic] | None:
    """A column as int64 or float64, None where it holds words or names."""
    import numpy as np

    if not any(cells):
        return np.full(len(cells), np.nan)
    if any(map(_CODE.fullmatch, cells)):
        return None
    if all(map(_WHOLE.fullmatch, cells)):
        return np.array([int(cell) for cell in cells], np.int64)
    if _all_match(_POINT, cells):
        texts: Sequence[str] = cells
    elif comma and _all_match(_COMMA, cells):
        texts = [cell.replace(",", ".") for cell in cells]
    else:
        return None
    return np.array([float("nan" if text.lower() in _NO_NUMBER else text) for text in texts])
