"""Columns of a table of images that hold a metric."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.organs import CHEST_ORGANS, PAIRS

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = ("id", "file", "name", "File")
_SHARES = frozenset(("dice", "dsc", "nsd", "iou", "jaccard"))
_STILL_SHARES = frozenset(
    (
        *("score", "coefficient", "index", "px", "mm", "before", "after", "clean", "autoencoder", "rca"),
        *("calibrated", "low", "high"),
        *("mean", "median", "min", "max", "average"),
        *(word for organ in (*CHEST_ORGANS, *PAIRS) for word in organ.split("_")),
    )
)
"""Words behind the name of a share that leave it one, as ``dice_rank`` does not."""
_ROUNDING = 1e-6
_NO_NUMBERS = ("", "nan", "none", "na", "n/a", "#n/a")


def metric_values(table: pd.DataFrame, metric: str, label: str = "the table") -> npt.NDArray[np.float64]:
    """A column as float64 (n,); empty fields and "nan" are NaN.

    Args:
        table: one row per image.
        metric: name of the column.
        label: what the table is called in messages.

    Raises:
        DataError: there is no such column, it holds words, or it is a share (`is_share`) and holds a value
            outside 0..1.
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
    values: npt.NDArray[np.float64] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    outside = np.flatnonzero((values < -_ROUNDING) | (values > 1 + _ROUNDING))
    if outside.size and is_share(metric):
        raise DataError(
            f"{label}: the column {metric} holds {values[outside[0]]:g} in the row of "
            f"{_row_name(table, int(outside[0]))}; it runs from 0 to 1. Divide per cent by 100, and leave "
            "the cell empty where it was not measured."
        )
    return values


def check_probabilities(table: pd.DataFrame, column: str, label: str = "the table") -> None:
    """Refuse a column with a value outside 0..1; arguments and errors as of `metric_values`."""
    values = metric_values(table, column, label)
    outside = np.flatnonzero((values < -_ROUNDING) | (values > 1 + _ROUNDING))
    if outside.size:
        raise DataError(
            f"{label}: the column {column} holds {values[outside[0]]:g} in the row of "
            f"{_row_name(table, int(outside[0]))}; probabilities run from 0 to 1. Apply a sigmoid to logits "
            "first."
        )


def is_share(metric: str) -> bool:
    """Whether a metric runs from 0 to 1 by its name: Dice, normalised surface Dice, IoU, and estimates."""
    first, *others = re.findall(r"[a-z]+", metric.split("/")[0].lower()) or [""]
    return first in _SHARES and _STILL_SHARES.issuperset(others)


def _row_name(table: pd.DataFrame, row: int) -> str:
    """The image of a row, or the row's number where no column names images."""
    column = next((name for name in IMAGE_COLUMNS if name in table), None)
    return f"number {row + 1}" if column is None else str(table[column].iloc[row])
