"""Join what else is known of images and patients, such as sex and age, to their scores."""

from __future__ import annotations

import difflib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from anatozoo.errors import DataError
from anatozoo.fairness.groups import LeftOut
from anatozoo.fairness.tables import NAMING, Scores

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (
    ".nii.gz", ".img.gz", ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".nii",
    ".mha", ".mhd", ".nrrd", ".img", ".npy",
)  # fmt: skip
_MOST_NAMES = 3


def join(scores: Scores, other: pd.DataFrame, on: str, name: str) -> Scores:
    """Add the columns of a second table, such as sex and age, to the rows of the same image or patient.

    Names are compared as they are, else without folders and the suffixes of images, so that ``JPCLN001``
    meets ``JPCLN001.png``. Where both tables have a column, the first one's value stands, and the second
    one's where that is missing.

    Args:
        scores: the rows that stay.
        other: the second table, one row per name.
        on: the column with the names; in the first table the one of the same name, or else of the image.
        name: what the second table is called in messages.

    Raises:
        DataError: no such column, a name is there twice, or no row has a partner.
    """
    import pandas as pd

    table = scores.table
    own = _naming_column(table, on)
    if on not in other:
        close = difflib.get_close_matches(on, list(other.columns), n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(map(str, other.columns))}."
        raise DataError(f"{name} has no column {on}; {hint}")
    left, right = table[own].astype(str), other[on].astype(str)
    if not left.isin(right).any():
        left, right = left.map(plain_name), right.map(plain_name)
    doubled = right[right.duplicated()]
    if len(doubled):
        raise DataError(f"{name} has two rows for {doubled.iloc[0]}; keep one of them.")
    known = left.isin(right)
    if not known.any():
        raise DataError(
            f"no row has a partner in {name}: {own} has {_some(left)}, and there {on} has {_some(right)}."
        )
    added = other.set_index(right).reindex(left).set_index(table.index)
    joined, notes = table.copy(), list(scores.notes)
    for column in added.columns:
        if column == on:
            continue
        if column not in joined:
            joined[column] = added[column]
            continue
        unlike = _unlike(joined[column], added[column])
        if unlike:
            notes.append(
                f"{column} differs between the two tables in {unlike} rows; that of the scores was taken."
            )
        joined[column] = joined[column].astype(object).where(joined[column].notna(), added[column])
    missing = int((~known).sum())
    left_out = (LeftOut(f"not in {name}, so its columns are empty there", missing),) if missing else ()
    return Scores(pd.DataFrame(joined), scores.rows, scores.left_out + left_out, tuple(notes))


def _unlike(one: pd.Series, other: pd.Series) -> int:
    """In how many rows both state something, and not the same."""
    import pandas as pd

    numbers = [pd.to_numeric(side, errors="coerce") for side in (one, other)]
    same = (numbers[0] == numbers[1]) | (one.astype(str).str.strip() == other.astype(str).str.strip())
    return int((one.notna() & other.notna() & ~same).sum())


def plain_name(text: str) -> str:
    """A name without folders and without the suffix of an image; dots of an identifier stay."""
    name = PurePosixPath(text.strip().replace("\\", "/")).name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _naming_column(table: pd.DataFrame, on: str) -> str:
    found = [column for column in (on, *NAMING) if column in table]
    if not found:
        raise DataError(f"the scores have neither a column {on} nor one that names images, such as id.")
    return found[0]


def _some(names: pd.Series) -> str:
    shown = list(dict.fromkeys(names))[:_MOST_NAMES]
    return ", ".join(shown) + (", …" if names.nunique() > _MOST_NAMES else "")
