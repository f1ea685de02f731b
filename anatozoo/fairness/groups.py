"""Groups of patients from the columns of real tables: "045Y", "male ", 0 for unknown, empty fields."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness.values import read_age, read_column, read_number, read_sex, read_word

if TYPE_CHECKING:
    import pandas as pd

AGE_EDGES = (18.0, 45.0, 65.0)
"""Where the default bins of ages begin, besides 0: 0–17, 18–44, 45–64, 65+, in whole years."""
MOST_GROUPS = 20

_ALIASES = {
    "sex": ("sex", "gender", "patientsex", "patient sex", "patient gender"),
    "age": ("age", "patientage", "patient age", "age_years"),
    "view": ("view", "viewposition", "view position", "projection"),
}
_BIN = "_bin"


@dataclass(frozen=True)
class LeftOut:
    """Rows that a number does not cover.

    Attributes:
        reason: why, in words.
        rows: how many.
    """

    reason: str
    rows: int


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each row.

    Attributes:
        name: what the rows are grouped by, such as ``"sex"``.
        labels: (n,) names of groups, missing (``None``) where a row has none; the table's index.
        order: all groups, in the order in which people expect them.
        left_out: why rows have no group.
        notes: what was taken for granted, one sentence each.
    """

    name: str
    labels: pd.Series
    order: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()


def find_column(table: pd.DataFrame, name: str) -> str:
    """The table's column of a name: the same, or the same but for case, or a usual other name of it.

    Args:
        table: any table.
        name: such as ``"sex"``, which ``"Sex"`` and DICOM's ``"PatientSex"`` answer to.

    Raises:
        DataError: there is none, or several.
    """
    columns = [str(column) for column in table.columns]
    if name in columns:
        return name
    wanted = _ALIASES.get(name.lower(), (name.lower(),))
    found = [column for column in columns if column.strip().lower() in wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{name} may be any of the columns {', '.join(found)}; name one of them.")
    close = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the table has {', '.join(columns)}."
    raise DataError(f"the table has no column {name}; {hint}")


def make_groups(table: pd.DataFrame, name: str, bins: Mapping[str, Sequence[float]] | None = None) -> Groups:
    """Group the rows of a table by one column.

    * ``sex``: M, F and O of whatever spelling, see `read_sex`.
    * ``age_bin``, or any other ``X_bin`` that is not a column of the table: the column X in bins. Ages are
      understood as by `read_age`, and have default bins.
    * a column of words: its values, upper and lower case taken for the same.
    * a column of numbers with up to twenty different values: these values.

    Args:
        table: one row per image.
        name: the column.
        bins: column -> where its bins begin, ascending, besides the lowest bin; ``{"age": (50, 65)}`` gives
            0–49, 50–64 and 65+. None takes `AGE_EDGES` for ages.

    Raises:
        DataError: no such column, no row with a group, or more than twenty groups.
        ConfigError: bins are not ascending, or are needed and not given.
    """
    edges = dict(bins or {})
    lowered = [str(column).strip().lower() for column in table.columns]
    if name.lower().endswith(_BIN) and name.lower() not in lowered:
        groups = _binned(table, name, name[: -len(_BIN)], edges)
    else:
        column = find_column(table, name)
        kind = name.lower() if name.lower() in _ALIASES else column.strip().lower()
        if kind in _ALIASES["sex"]:
            groups = _sexes(table[column], name)
        elif kind in _ALIASES["age"]:
            groups = _binned(table, f"{name}{_BIN}", name, edges)
        else:
            groups = _values(table[column], name)
    if not groups.order:
        reasons = "; ".join(f"{entry.reason}: {entry.rows}" for entry in groups.left_out)
        raise DataError(f"no row of {len(table)} has a group by {name} ({reasons or 'there is no row'}).")
    if len(groups.order) > MOST_GROUPS:
        raise DataError(
            f"{name} has {len(groups.order)} different values, such as {', '.join(groups.order[:3])}; a "
            f"group needs patients, so merge them to {MOST_GROUPS} at most, or give bins if they are numbers."
        )
    return groups


def combine(parts: Sequence[Groups]) -> Groups:
    """Intersections of groupings: rows with a group in every one, as ``M, 18–44``."""
    import pandas as pd

    if len(parts) == 1:
        return parts[0]
    known = pd.concat([part.labels.notna() for part in parts], axis=1).all(axis=1)
    labels = pd.Series(
        [
            ", ".join(words) if all(word is not None for word in words) else None
            for words in zip(*(part.labels for part in parts), strict=True)
        ],
        index=parts[0].labels.index,
        dtype=object,
    ).where(known, None)
    present = set(labels.dropna())
    order = tuple(
        name
        for words in itertools.product(*(p.order for p in parts))
        if (name := ", ".join(words)) in present
    )
    if not order:
        raise DataError(f"no row has a group by each of {', '.join(part.name for part in parts)}.")
    left_out = tuple(entry for part in parts for entry in part.left_out)
    notes = tuple(note for part in parts for note in part.notes)
    return Groups(" × ".join(part.name for part in parts), labels, order, left_out, notes)


def _sexes(column: pd.Series, name: str) -> Groups:
    labels, unclear = read_column(column, read_sex)
    order = tuple(sex for sex in ("M", "F", "O") if (labels == sex).any())
    return Groups(name, labels, order, _reasons(name, labels, unclear))


def _binned(table: pd.DataFrame, name: str, base: str, bins: dict[str, Sequence[float]]) -> Groups:
    import numpy as np
    import pandas as pd

    column = find_column(table, base)
    is_age = column.strip().lower() in _ALIASES["age"]
    edges = bins.get(base, bins.get(column, AGE_EDGES if is_age else ()))
    if not edges:
        raise ConfigError(f"{name} needs to know where bins of {base} begin; give bins (--bins {base}=A,B).")
    inner = np.asarray(edges, dtype=np.float64)
    if not np.isfinite(inner).all() or (np.diff(inner) <= 0).any():
        raise ConfigError(f"bins of {base} must begin at ascending numbers, not {list(edges)}.")
    values, unclear = read_column(table[column], read_age if is_age else read_number)
    numbers = pd.to_numeric(values, errors="coerce")
    names = _bin_names(inner.tolist(), is_age)
    place = np.searchsorted(inner, numbers.to_numpy(np.float64), side="right")
    labels = pd.Series([names[i] for i in place], index=table.index, dtype=object).where(
        numbers.notna(), None
    )
    zeros = int((numbers == 0).sum()) if is_age else 0
    note = f"{base} is 0 in {zeros} rows, which were taken for newborns; some data sets write 0 for unknown."
    notes = (note,) if zeros else ()
    order = tuple(label for label in names if (labels == label).any())
    return Groups(name, labels, order, _reasons(base, labels, unclear), notes)


def _bin_names(edges: Sequence[float], is_age: bool) -> list[str]:
    """Names of the bins below, between and above edges; ages are whole years, so 18–44 ends at 45."""
    words = [f"{edge:g}" for edge in edges]
    if is_age and all(edge == int(edge) for edge in edges):
        ends = [f"{edge - 1:g}" for edge in edges]
        between = [f"{a}–{b}" if a != b else a for a, b in zip(words, ends[1:], strict=False)]
        first = f"0–{ends[0]}" if edges[0] > 1 else "0"
        return [first, *between, f"{words[-1]}+"]
    between = [f"{a} to <{b}" for a, b in itertools.pairwise(words)]
    return [f"<{words[0]}", *between, f"≥{words[-1]}"]


def _values(column: pd.Series, name: str) -> Groups:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        if column.nunique() > MOST_GROUPS:
            raise ConfigError(
                f"{name} has {column.nunique()} different numbers; group by {name}{_BIN} and say where its "
                f"bins begin (--bins {name}=A,B)."
            )
        labels = column.map(lambda value: None if pd.isna(value) else _digits(value)).astype(object)
        order = tuple(_digits(value) for value in sorted(column.dropna().unique()))
    else:
        labels, _ = read_column(column, read_word)
        # Of several spellings the one that is there most often names the group.
        spelling: dict[str, str] = {}
        for word in labels.dropna().value_counts().index:
            spelling.setdefault(word.casefold(), word)
        labels = labels.map(lambda word: None if word is None else spelling[word.casefold()]).astype(object)
        order = tuple(sorted(spelling.values(), key=str.casefold))
    labels = labels.where(labels.notna(), None)
    return Groups(name, labels, order, _reasons(name, labels, {}))


def _digits(value: float) -> str:
    """A number with as many digits as tell it from others."""
    short = f"{value:g}"
    return short if float(short) == value else str(value)


def _reasons(name: str, labels: pd.Series, unclear: Mapping[str, int]) -> tuple[LeftOut, ...]:
    missing = int(labels.isna().sum()) - sum(unclear.values())
    reasons = [LeftOut(f"{name} not stated", missing)] if missing else []
    if unclear:
        shown = ", ".join(repr(text) for text in list(unclear)[:3]) + (", …" if len(unclear) > 3 else "")
        reasons.append(LeftOut(f"{name} not understood ({shown})", sum(unclear.values())))
    return tuple(reasons)
