"""Columns of a table of images that hold a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = ("id", "file", "name", "File")
_NO_NUMBERS = ("", "nan", "none", "na", "n/a", "#n/a")


def metric_values(table: pd.DataFrame, metric: str, label: str = "the table") -> npt.NDArray[np.float64]:
    """A column as float64 (n,); empty fields and "nan" are NaN.

    Args:
        table: one row per image.
        metric: name of the column.
        label: what the table is called in messages.

    Raises:
        DataError: there is no such column, or it holds words.
    """
    import pandas as pd

    if metric not in table:
        raise DataError(f"{label} has no column {metric}; it has {', '.join(map(str, table.columns))}.")
    column = table[metric]
    numbers = pd.to_numeric(column, errors="coerce")
    words = column.astype(object).where(numbers.isna() & column.notna(), "").astype(str).str.strip()
    wrong = np.flatnonzero(~words.str.lower().isin(_NO_NUMBERS))
    if wrong.size:
        raise DataError(
            f"{label}: the column {metric} holds words, such as {words.iloc[wrong[0]]!r} in the row of "
            f"{_row_name(table, int(wrong[0]))}; metrics are numbers."
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _row_name(table: pd.DataFrame, row: int) -> str:
    """The image of a row, or the row's number where no column names images."""
    column = next((name for name in IMAGE_COLUMNS if name in table), None)
    return f"number {row + 1}" if column is None else str(table[column].iloc[row])
