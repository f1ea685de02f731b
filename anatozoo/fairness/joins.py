"""Join what else is known of images and patients, such as sex and age, to their scores."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anatozoo.errors import DataError
from anatozoo.fairness.columns import PATIENT_COLUMNS
from anatozoo.fairness.groups import LeftOut
from anatozoo.fairness.tables import NAMING, Joined, Scores
from anatozoo.io.keys import Key, Matches, example, match_keys, repeated
from anatozoo.io.tables import clean, uncollected

if TYPE_CHECKING:
    import pandas as pd

POSITION = "position"
"""Column of the place of a square that hides a part of the image: an image then has several rows."""
_MOST_NAMES = 3
_WHICH_IMAGE = frozenset(
    [
        "site",
        "center",
        "centre",
        "hospital",
        "institution",
        "visit",
        "study",
        "series",
        "session",
        "scan",
        "exam",
        "examination",
        "accession",
        "image",
        "file",
        "path",
        "view",
        "side",
        "laterality",
        "eye",
        "date",
        "time",
        "timepoint",
        "acquisition",
        "slice",
        "frame",
        "position",
        "projection",
        "scanner",
        "uid",
        "number",
        "id",
    ]
)
_OF_PATIENTS = frozenset(
    ["age", "sex", "gender", "race", "ethnicity", "birth", "death", "diagnosis", "patient", "dob"]
)
"""Words in names of columns: what tells images of one patient apart, and what is known of the patient."""


@dataclass(frozen=True, eq=False)
class _Side:
    """Rows of a table that have a name."""

    table: pd.DataFrame
    keys: list[Key]


@uncollected()
def join(
    scores: Scores, other: pd.DataFrame, on: str | Sequence[str], name: str, *, subject: str | None = None
) -> Scores:
    """Add the columns of a second table, such as sex and age, to the rows of the same image or patient.

    Names are texts, compared as `anatozoo.io.keys.match_keys` says: ``JPCLN001`` meets
    ``JPCLN001.png``, and a path the longest end of a path that both have. Each name of the second table
    belongs to one name of the first. Where both tables have a column, the first one's value stands, and the
    second one's where that is missing.

    Args:
        scores: the rows that stay.
        other: the second table, one row per name. Rows that say the same again are taken once.
        on: the column with the names, or several that tell them apart together, as ``("site", "id")``; in the
            first table the one of the same name, or else of the image.
        name: what the second table is called in messages.
        subject: the column of the scores that names the patient, of whom there may be several rows.

    Raises:
        DataError: no such column, a name that is there twice with different values or stands for several
            images, names that a spreadsheet has changed, or no row has a partner.
    """
    import pandas as pd

    table = scores.table
    wanted = [on] if isinstance(on, str) else list(on)
    theirs = _columns(other, wanted, name)
    own = _own_columns(table, wanted, theirs)
    right, counts = _looked_up(other, theirs, name)
    left = _keys(table, own)
    named = [key for key in left if key is not None]
    matches = match_keys(list(dict.fromkeys(named)), right.keys)
    _check(matches, named, right, own, theirs, name)
    _check_rows(table, own, left, matches, right, name, subject)
    row_of = {key: index for index, key in enumerate(right.keys)}
    places = [row_of[matches.pairs[key]] if key and key in matches.pairs else -1 for key in left]
    added = right.table.reset_index(drop=True).reindex(places)
    added.index = table.index
    joined, notes = table.copy(), list(scores.notes)
    for column in added.columns:
        if column in theirs:
            continue
        if column not in joined:
            joined[column] = added[column]
            continue
        unlike = _unlike(joined[column], added[column])
        if unlike:
            notes.append(
                f"{column} differs between the two tables in {unlike} rows; that of the scores was taken."
            )
        joined[column] = _filled(joined[column], added[column])
    missing = sum(place < 0 for place in places)
    if matches.beside:
        one, two = matches.beside[0]
        notes.append(
            f"images meet those of {name} by the name of the file alone, for their folders differ ({one} and "
            f"{two})."
        )
    left_out = (LeftOut(f"not in {name}, so its columns are empty there", missing),) if missing else ()
    said = Joined(
        table=name,
        on=tuple(theirs),
        own=tuple(own),
        rows=len(table),
        with_partner=len(table) - missing,
        without_partner=missing,
        unused=len(right.keys) - len(matches.pairs),
        **counts,
    )
    return Scores(
        pd.DataFrame(joined), scores.rows, scores.left_out + left_out, tuple(notes), (*scores.joined, said)
    )


def _columns(other: pd.DataFrame, wanted: Sequence[str], name: str) -> list[str]:
    """The second table's columns of names; case and blanks do not matter where they decide nothing."""
    columns = [str(column) for column in other.columns]
    found = []
    for on in wanted:
        alike = _alike(columns, on)
        if on in columns:
            found.append(on)
        elif len(alike) == 1:
            found.append(alike[0])
        else:
            close = difflib.get_close_matches(on, columns, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(columns)}."
            raise DataError(f"{name} has no column {on}; {hint}")
    return found


def _alike(columns: Sequence[str], name: str) -> list[str]:
    return [column for column in columns if clean(column).casefold() == clean(name).casefold()]


def _own_columns(table: pd.DataFrame, wanted: Sequence[str], theirs: list[str]) -> list[str]:
    """Columns of the scores for those of the second table, in whose place one names images.

    The column that names images comes last in both, for of paths the last part counts first.
    """
    columns = list(map(str, table.columns))
    alike = {on: [on] if on in columns else _alike(columns, on) for on in wanted}
    same = {on: found[0] for on, found in alike.items() if len(found) == 1}
    absent = [on for on in wanted if on not in same]
    image = next((column for column in NAMING if column in table and column not in same.values()), None)
    if len(absent) > 1 or (absent and image is None):
        raise DataError(
            f"the scores have no column {', '.join(absent)}"
            + ("" if len(wanted) > 1 else ", nor one that names images, such as id")
            + f"; they have {', '.join(map(str, table.columns))}."
        )
    own = [same.get(on) or str(image) for on in wanted]
    order = sorted(range(len(own)), key=lambda index: own[index] in NAMING)
    theirs[:] = [theirs[index] for index in order]
    return [own[index] for index in order]


def _keys(table: pd.DataFrame, columns: Sequence[str]) -> list[Key | None]:
    """The name in each row; None where it says none."""
    parts = []
    for column in columns:
        cells = table[column].astype(object)
        stated = cells.notna()
        texts = {cell: clean(str(cell)) for cell in cells[stated].unique()}
        parts.append([texts[c] if here else "" for c, here in zip(cells, stated, strict=True)])
    return [tuple(key) if all(key) else None for key in zip(*parts, strict=True)]


def _looked_up(other: pd.DataFrame, on: Sequence[str], name: str) -> tuple[_Side, dict[str, int]]:
    """The second table with one row for each name, and what was passed over."""
    keys = _keys(other, on)
    stated = [index for index, key in enumerate(keys) if key is not None]
    named = [key for key in keys if key is not None]
    if not named:
        raise DataError(f"no row of {name} has a name in the column {', '.join(on)}.")
    table = other.iloc[stated].reset_index(drop=True)
    many, count = repeated(named), 0
    if many:
        count = _check_same(table, named, many, on, name)
        first = {key: index for index, key in reversed(list(enumerate(named)))}
        kept = sorted(first.values())
        table, named = table.iloc[kept].reset_index(drop=True), [named[index] for index in kept]
    return _Side(table, named), {"unnamed": len(keys) - len(stated), "repeated": count}


def _check_same(
    table: pd.DataFrame, keys: Sequence[Key], many: dict[Key, int], on: Sequence[str], name: str
) -> int:
    """Refuse rows of one name that say different things; else the number of rows that say nothing new."""
    rows = [index for index, key in enumerate(keys) if key in many]
    texts = table.iloc[rows].astype(object).where(table.iloc[rows].notna(), "").astype(str)
    doubled = [keys[index] for index in rows]
    # A number for each name, for names of several columns do not differ once they are put together.
    numbers = dict(zip(many, range(len(many)), strict=True))
    number = [numbers[key] for key in doubled]
    groups = texts.groupby(number, sort=False)
    differing = [c for c in texts.columns if c not in on and (groups[c].nunique() > 1).any()]
    if not differing:
        return len(rows) - len(many)
    # Only what says which image a row is of can tell rows apart; sex or age are what contradicts itself.
    apart = [
        c
        for c in differing
        if says_which_image(str(c))
        and len(differing) > 1
        and not texts.assign(**{"\0": number}).duplicated(["\0", c]).any()
    ]
    column = next((c for c in differing if c not in apart), differing[0])
    where = groups[column].unique()
    names = list(many)
    shown = [
        f"{' '.join(names[which])} ({column} {', '.join(map(repr, values[:3]))})"
        for which, values in zip(where.index.tolist(), where, strict=True)
        if len(values) > 1
    ]
    advice = (
        f"{apart[0]} tells them apart: where the scores have it, join by it too, --on "
        f"{','.join([*on, apart[0]])}; else keep in the table the row that belongs to the image"
        if apart
        else "make the table such that each name has one row, or join by a column that tells the rows apart"
    )
    raise DataError(
        f"{name} has several rows with different values for {len(shown)} names in {', '.join(on)}, such as "
        f"{'; '.join(shown[:_MOST_NAMES])}. {advice[0].upper()}{advice[1:]}."
    )


def says_which_image(column: str) -> bool:
    """Whether a column, by its name, tells images of a patient apart, and is not a fact about the patient."""
    words = set(re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column))
    words = {word.lower() for word in words}
    return bool(words & _WHICH_IMAGE) and not words & _OF_PATIENTS


def _check(
    matches: Matches, named: Sequence[Key], right: _Side, own: Sequence[str], theirs: Sequence[str], name: str
) -> None:
    """Refuse names that stand for several, names that a spreadsheet has changed, and no partner at all."""
    ours, there = ", ".join(own), ", ".join(theirs)
    if matches.ambiguous:
        other, keys = next(iter(matches.ambiguous.items()))
        raise DataError(
            f"{len(matches.ambiguous)} names of {name} stand for several images of the scores: "
            f"{example([other])} for {example(keys)}. Sites may number images alike. Write into {there} as "
            "much of the path as tells them apart, as the scores have it, or add a column for it to both "
            f"tables and join by both: --on COLUMN,{theirs[-1]}."
        )
    if matches.several:
        key, others = next(iter(matches.several.items()))
        raise DataError(
            f"{len(matches.several)} names of the scores stand for several rows of {name}: {example([key])} "
            f"for {example(others)}. Write into {ours} as much of the path as tells them apart, or add a "
            f"column for it to both tables and join by both: --on COLUMN,{theirs[-1]}."
        )
    if matches.alike:
        one, two = matches.alike[0]
        raise DataError(
            f"{len(matches.alike)} names differ only as numbers are written, such as {example([one])} in the "
            f"scores and {example([two])} in {name}. Names are texts, and a spreadsheet that takes them for "
            "numbers drops zeros: write them alike in both tables (in Excel import the column as text)."
        )
    if matches.dates:
        pairs = "; ".join(
            f"{example([one])} and {example([two])}" for one, two in matches.dates[:_MOST_NAMES]
        )
        raise DataError(
            f"{len(matches.dates)} names differ as a spreadsheet makes dates of them, such as, in the scores "
            f"and in {name}, {pairs}. Write them alike in both tables: export {there} and {ours} again as "
            "text (in Excel import the column as text)."
        )
    if matches.mangled and len(matches.pairs) < len(set(named)):
        raise DataError(
            f"{name} has names that a spreadsheet has rounded, such as {example(matches.mangled)}; export "
            f"{there} again as text, for the digits are lost."
        )
    if not matches.pairs:
        raise DataError(
            f"no row has a partner in {name}: {ours} has {example(list(dict.fromkeys(named)))}, and there "
            f"{there} has {example(right.keys)}."
        )


def _check_rows(
    table: pd.DataFrame,
    own: Sequence[str],
    left: Sequence[Key | None],
    matches: Matches,
    right: _Side,
    name: str,
    subject: str | None,
) -> None:
    """Refuse rows of different images that have one name: what is known of one is not known of the other."""
    if set(own) & {*PATIENT_COLUMNS, subject} or POSITION in table or not set(own) & set(NAMING):
        return
    many = repeated([key for key in left if key and key in matches.pairs])
    if not many:
        return
    column = own[-1]
    doubled = table[[key in many for key in left]].astype(str)
    apart = [c for c in right.table.columns if c in table and c not in own and doubled[c].nunique() > 1]
    others = [c for c in table.columns if c not in own and not doubled.duplicated([*own, c]).any()]
    words = [c for c in others if table[c].dtype.kind != "f"]
    advice = (
        f"join by {apart[0]} too: --on {','.join([apart[0], *own])}"
        if apart
        else f"add the column {words[0]} to {name} and join by it too: --on {','.join([words[0], *own])}"
        if words
        else "add a column that tells them apart to both tables, such as the site, and join by it too "
        f"(--on COLUMN,{column})"
    )
    raise DataError(
        f"{len(many)} names of the scores are in several rows, such as {example(list(many))} in "
        f"{next(iter(many.values()))}; {name} cannot say of which image it speaks. If they are different "
        f"images, {advice}. If they are all of one patient, say so: --subject {column}."
    )


def _filled(own: pd.Series, other: pd.Series) -> pd.Series:
    """The first column, with values of the second where it has none."""
    import pandas as pd

    if own.notna().all():
        return own
    numeric = all(pd.api.types.is_numeric_dtype(side) for side in (own, other))
    return own.where(own.notna(), other) if numeric else own.astype(object).where(own.notna(), other)


def _unlike(one: pd.Series, other: pd.Series) -> int:
    """In how many rows both state something, and not the same."""
    import pandas as pd

    numbers = [pd.to_numeric(side, errors="coerce") for side in (one, other)]
    same = (numbers[0] == numbers[1]) | (one.astype(str).str.strip() == other.astype(str).str.strip())
    return int((one.notna() & other.notna() & ~same).sum())
