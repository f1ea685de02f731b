"""Read the tables that `anatozoo evaluate` and `anatozoo predict` write, and choose their metrics."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness.columns import PATIENT_COLUMNS
from anatozoo.fairness.directions import higher_is_better
from anatozoo.fairness.groups import LeftOut
from anatozoo.io.rle import ID_COLUMNS, RCA_COLUMNS, exchanged_rca
from anatozoo.io.tables import clean, read_text_table
from anatozoo.metrics.columns import IMAGE_COLUMNS, metric_values
from anatozoo.metrics.tables import MAIN, in_mm, ranked
from anatozoo.organs import PAIRS

if TYPE_CHECKING:
    import pandas as pd

NAMING = tuple(dict.fromkeys((*IMAGE_COLUMNS, *ID_COLUMNS)))
"""Columns that may name an image, the most common first."""
_ESTIMATED = "_rca_"
_ENDS = ("dice_low", "dice_high")
"""Ends of intervals of estimated Dice, which stand for no metric of their own."""
_NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?\s*%?")
"""A cell that says a number in some spelling, such as ``0,9`` or ``92%``."""


@dataclass(frozen=True)
class Joined:
    """How a second table was joined to the scores.

    Attributes:
        table: name of the second table.
        on: its columns with names.
        own: the columns of the scores with names.
        rows: number of rows of the scores.
        with_partner: rows of the scores that have a partner in the second table.
        without_partner: rows of the scores without a partner.
        unused: names of the second table without a row in the scores.
        unnamed: ignored rows of the second table without a name.
        repeated: ignored rows of the second table that repeat another.
    """

    table: str
    on: tuple[str, ...]
    own: tuple[str, ...]
    rows: int
    with_partner: int
    without_partner: int
    unused: int
    unnamed: int
    repeated: int


@dataclass(frozen=True, eq=False)
class Scores:
    """A table of images.

    Attributes:
        table: one row per image that was measured.
        rows: number of rows in the file.
        left_out: rows of the file that are not in the table, or that a joined table does not know.
        notes: assumptions made in reading it, one sentence each.
        joined: how other tables were joined to it.
    """

    table: pd.DataFrame
    rows: int
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    joined: tuple[Joined, ...] = ()


def read_scores(path: Path, texts: Collection[str] = ()) -> Scores:
    """Read a table of images: CSV of `anatozoo evaluate`, of `anatozoo predict`, of CheXmask, or your own.

    Rows of failed images (a text in ``error``, or ``failed`` as ``status``) are left out and counted. In
    CheXmask's table of Padchest, rows with exchanged maximum and mean of the estimated quality are corrected
    and noted, see `anatozoo.io.rle.exchanged_rca`.

    Args:
        path: the file, see `anatozoo.io.tables.read_text_table`.
        texts: further columns that hold names, and no numbers whatever they look like.

    Raises:
        DataError: no such file, no table, or every image failed.
    """
    import pandas as pd

    table, remarks = read_table(path, texts)
    failed = pd.Series(False, index=table.index)
    if "error" in table:
        failed = failed | table["error"].notna()
    if "status" in table:
        failed = failed | (table["status"].astype(str).str.strip().str.lower() == "failed")
    kept = table[~failed].reset_index(drop=True)
    if kept.empty:
        raise DataError(f"{str(path)!r} has no row of an image that was measured ({len(table)} failed).")
    count = int(failed.sum())
    left_out = (LeftOut("image could not be read or segmented", count),) if count else ()
    kept, notes = _rca_in_place(kept)
    return Scores(kept, len(table), left_out, (*remarks, *notes))


def _rca_in_place(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with corrected maximum and mean of the estimated quality, and notes about it."""
    import pandas as pd

    columns = list(RCA_COLUMNS)
    if not all(c in table and pd.api.types.is_numeric_dtype(table[c]) for c in columns):
        return table, ()
    highest, mean = columns
    rows, notes = exchanged_rca(table), []
    if rows.any():
        table = table.copy()
        table.loc[rows, columns] = table.loc[rows, columns[::-1]].to_numpy()
        notes.append(
            f"{highest} and {mean} were exchanged in {int(rows.sum())} rows: this is Padchest's table of "
            "CheXmask, which has them in each other's place there."
        )
    impossible = int((table[highest] < table[mean]).sum())
    if impossible:
        notes.append(
            f"{highest} is below {mean} in {impossible} rows, which cannot be; they were taken as they are."
        )
    return table, tuple(notes)


def read_table(path: Path, texts: Collection[str] = ()) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table, see `anatozoo.io.tables.read_text_table`; names of images and patients are texts.

    Args:
        path: the file.
        texts: further columns that hold names.

    Returns:
        The rows, and what was taken for granted in reading them.

    Raises:
        DataError: no such file, no table, or numbers whose commas may be decimal or at thousands.
    """
    found = read_text_table(path)
    named = {clean(name).casefold() for name in (*NAMING, *PATIENT_COLUMNS, *texts)}
    kept = {name for name in found.header if name.casefold() in named}
    return found.frame(kept), found.remarks_of_frame(kept)


def choose_metrics(
    table: pd.DataFrame,
    wanted: Sequence[str] | None = None,
    *,
    higher: Sequence[str] = (),
    lower: Sequence[str] = (),
) -> list[str]:
    """Columns to audit.

    Args:
        table: rows of images.
        wanted: names, or patterns such as ``dice/*``. None takes Dice and Hausdorff distances (in millimetres
            where they are known) of all organs, sides together; else every metric that is known by name. Of
            estimates (``dice_rca_max``, ``dice_rca_mean``, ...) it takes the means over atlas images, and
            beside measured metrics only those that estimate the Dice of an organ that was measured.
        higher: metrics of which more is better, whatever their names.
        lower: metrics of which less is better.

    Raises:
        DataError: a pattern matches no column, a metric holds words or is a share outside 0..1, or none of
            the columns is a metric.
        ConfigError: it is unknown whether more is better.
    """
    columns = [str(column) for column in table.columns]
    if wanted is not None:
        found: dict[str, None] = {}
        for pattern in wanted:
            matching = [pattern] if pattern in columns else fnmatch.filter(columns, pattern)
            if not matching:
                close = difflib.get_close_matches(pattern, columns, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(columns)}."
                raise DataError(f"the table has no column {pattern!r}; {hint}")
            found |= dict.fromkeys(matching)
        for metric in found:
            metric_values(table, metric)
            higher_is_better(metric, higher, lower)
        return list(found)
    known = [
        column
        for column in columns
        if column.split("/")[0] not in _ENDS and _is_metric(table, column, higher, lower)
    ]
    if not known:
        raise DataError(
            f"none of the columns is known as a metric; name some by --metrics: {', '.join(columns)}."
        )
    main = [column for column in known if column.lower().startswith(("dice", "hd_", *higher, *lower))]
    chosen = [column for column in main or known if in_mm(column) not in known]
    kept = ranked(c for c in chosen if not _is_half(c, chosen) and not _is_spare(c, chosen))
    for metric in kept:
        metric_values(table, metric)
    return kept


def estimate_of(metric: str) -> str:
    """The column of a metric's estimate, as `anatozoo quality` calls it: the mean over the atlas images."""
    kind, slash, organ = metric.partition("/")
    return f"{kind}{_ESTIMATED}mean{slash}{organ}"


def measured_dice(columns: Sequence[str]) -> dict[str, str]:
    """Dice of organs -> the column of its estimate, of the columns that have both."""
    dice = (column for column in columns if column.split("/")[0] == "dice")
    return {column: estimate_of(column) for column in dice if estimate_of(column) in columns}


def _is_metric(table: pd.DataFrame, column: str, higher: Sequence[str], lower: Sequence[str]) -> bool:
    """Whether a column is known to be good or bad by name, and holds numbers that vary.

    Raises:
        DataError: it holds words beside numbers, or words under the name of a metric that `evaluate` writes.
    """
    import pandas as pd

    try:
        higher_is_better(column, higher, lower)
    except ConfigError:
        return False
    if pd.api.types.is_numeric_dtype(table[column]):
        return bool(table[column].nunique() > 1)
    cells = table[column].dropna().astype(str).str.strip()
    # A column of words alone, such as "error" or "quality", is a remark and no metric.
    if column.split("/")[0] not in MAIN and not cells.map(_NUMBER.fullmatch).notna().any():
        return False
    return bool(pd.Series(metric_values(table, column)).nunique() > 1)


def _is_spare(column: str, others: Sequence[str]) -> bool:
    """Whether a column is an estimate that others stand for."""
    kind, estimated, rest = column.partition(_ESTIMATED)
    if not estimated:
        return False
    if any(_ESTIMATED not in other for other in others):
        return column not in measured_dice(others).values()
    _, slash, organ = rest.partition("/")
    mean = f"{kind}{_ESTIMATED}mean{slash}{organ}"
    return column != mean and mean in others


def _is_half(column: str, others: Sequence[str]) -> bool:
    kind, _, organ = column.partition("/")
    return any(organ in parts and f"{kind}/{both}" in others for both, parts in PAIRS.items())
