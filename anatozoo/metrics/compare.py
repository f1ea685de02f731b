"""Two evaluations of the same images, compared image by image."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.io.keys import match_keys
from anatozoo.io.tables import clean, read_text_table
from anatozoo.io.writers import write_bytes, write_csv, write_json, write_text
from anatozoo.metrics.columns import metric_values
from anatozoo.metrics.paired import COLUMNS, Array, Comparison, Paired, p_words
from anatozoo.metrics.statistics import holm, paired_test
from anatozoo.metrics.tables import in_mm, markdown_table, metric_names, ranked
from anatozoo.text import some

if TYPE_CHECKING:
    import pandas as pd

ID, POSITION, PATIENT, ERROR = "id", "position", "patient", "error"
REMARKS = "remarks"


def read_rows(path: Path) -> pd.DataFrame:
    """Read the rows of an evaluation, as ``anatozoo evaluate --out`` writes them to CSV.

    What was taken for granted in reading the file stands in the table's ``attrs["remarks"]``.

    Raises:
        DataError: no such file, no table, a table without ``id`` or without a metric, or a metric that holds
            words or is a share outside 0..1.
    """
    found = read_text_table(path)
    table = found.frame((ID, PATIENT))
    table.attrs[REMARKS] = found.remarks_of_frame((ID, PATIENT))
    if ID in table:
        table[ID] = table[ID].map(clean, na_action="ignore")
    metrics = metric_names([dict.fromkeys(map(str, table.columns))])
    if ID not in table or not metrics:
        raise DataError(
            f"{str(path)!r} is not an evaluation: it needs a column id and metrics as dice/heart. Take the "
            "CSV file that `anatozoo evaluate --out` writes."
        )
    failed = table[ERROR].notna() if ERROR in table else np.zeros(len(table), bool)
    for name in metrics:
        # Whatever stands in the row of an image that failed was not measured.
        table[name] = table[name].mask(failed)
        table[name] = metric_values(table, name, repr(str(path)))
    named = table[ID].notna() & (table[ID] != "")
    if not named.any():
        raise DataError(f"{str(path)!r}: no row has an id; each needs the name of its image.")
    if not named.all():
        table.attrs[REMARKS] += (f"{path.name}: rows without an id, passed over: {int((~named).sum())}.",)
    return table[named].reset_index(drop=True)


def compare_rows(
    a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str], wanted: Sequence[str] | None = None
) -> Comparison:
    """Pair the rows of two evaluations and test each metric.

    Rows belong together that have the same ``id`` and, where there is one, ``position``. An image counts
    once: its values are its means over the positions. Values in one table only are counted, not used.

    Args:
        a: rows of the first evaluation, as `read_rows` or `anatozoo.tasks.trials.measured` gives them.
        b: rows of the second.
        names: how the two are called.
        wanted: metrics, or patterns such as ``dice/*``. None takes all that both have and that vary,
            distances in millimetres rather than in pixels, the main ones first.

    Raises:
        DataError: a row is there twice, an image has two patients, the two share no image, or no metric.
    """
    keys = [ID, POSITION] if POSITION in a and POSITION in b else [ID]
    if (POSITION in a) != (POSITION in b):
        raise DataError(f"only one of {names[0]} and {names[1]} was evaluated with --occlusion.")
    indexed = [_indexed(table, keys, name) for table, name in zip((a, b), names, strict=True)]
    ids = [set(table[ID]) for table in indexed]
    _check_alike(*ids)
    common = indexed[0].index.intersection(indexed[1].index, sort=False)
    if not len(common):
        raise DataError(
            f"{names[0]} and {names[1]} share no image: the first has {some(sorted(ids[0]))}, the second "
            f"{some(sorted(ids[1]))}."
        )
    one, two = (table.loc[common] for table in indexed)
    images = one[ID].to_numpy()
    patient_of = _patients((one, two), names)
    values = {
        name: _per_image(images, *(side[name].to_numpy(np.float64, na_value=np.nan) for side in (one, two)))
        for name in metric_names([dict.fromkeys(one.columns)])
        if name in two
    }
    chosen = _choose(values, wanted, names)
    tests = {
        name: paired_test(values[name][2] - values[name][1], [patient_of[image] for image in values[name][0]])
        for name in chosen
    }
    corrected = holm([test.p for test in tests.values()])
    metrics = {
        name: Paired(values[name][1], values[name][2], values[name][0], values[name][3], tests[name], p)
        for name, p in zip(chosen, corrected, strict=True)
    }
    shared = set(images)
    only = [tuple(sorted(side - shared)) for side in ids]
    rows = [_rows_alone(table, common, shared) for table in indexed]
    measured = [_measured(table, wanted) for table in indexed]
    alone = [tuple(name for name in measured[k] if name not in measured[1 - k]) for k in (0, 1)]
    return Comparison(
        names, len(shared), (only[0], only[1]), metrics, (rows[0], rows[1]), (alone[0], alone[1])
    )


def _rows_alone(table: pd.DataFrame, common: pd.Index, shared: set[str]) -> tuple[str, ...]:
    """Rows of images in both tables that the other table lacks, as ``ID at POSITION``."""
    alone = table[~table.index.isin(common) & table[ID].isin(shared)]
    if alone.empty:
        return ()
    return tuple(f"{image} at {place}" for image, place in zip(alone[ID], alone[POSITION], strict=True))


def _measured(table: pd.DataFrame, wanted: Sequence[str] | None) -> list[str]:
    """Metrics with a value in a table; of those that were asked for, if any were."""
    found = [name for name in metric_names([dict.fromkeys(table.columns)]) if table[name].notna().any()]
    asked = [
        name for name in found if wanted is None or any(fnmatch.fnmatch(name, pattern) for pattern in wanted)
    ]
    return ranked(asked)


def _check_alike(a: set[str], b: set[str]) -> None:
    """Refuse names that a spreadsheet has changed, for these images would be missing without a word."""
    matches = match_keys([(name,) for name in sorted(a)], [(name,) for name in sorted(b)])
    if matches.alike:
        one, two = matches.alike[0]
        raise DataError(
            f"{len(matches.alike)} names differ only as numbers are written, such as {one[0]} in the first "
            f"table and {two[0]} in the second. Names are texts, and a spreadsheet drops their zeros: take "
            "the tables as `anatozoo evaluate` wrote them."
        )


def _patients(tables: Sequence[pd.DataFrame], names: tuple[str, str]) -> dict[Any, str]:
    """Image -> patient, from whichever table states one; an image without is a patient of its own."""
    found: dict[Any, tuple[str, str]] = {}
    for table, name in zip(tables, names, strict=True):
        if PATIENT not in table:
            continue
        stated = table[table[PATIENT].notna()]
        for image, cell in zip(stated[ID], stated[PATIENT].astype(str), strict=True):
            patient = clean(cell)
            known, where = found.setdefault(image, (patient, name)) if patient else ("", "")
            if known != patient:
                raise DataError(
                    f"{image} is of patient {known} in {where} and of patient {patient} in {name}; an image "
                    "has one patient. Correct the column patient, or leave it out of one table."
                )
    alone = {image: str(image) for image in tables[0][ID]}
    return alone | {image: patient for image, (patient, _) in found.items()}


def _indexed(table: pd.DataFrame, keys: list[str], name: str) -> pd.DataFrame:
    if ERROR in table:
        table = table[table[ERROR].isna()]
    doubled = table[table.duplicated(keys)]
    if len(doubled):
        raise DataError(
            f"{name} has two rows for {doubled[ID].iloc[0]}. If they are of different images, give these ids "
            "that tell them apart, such as a part of their path; else keep one row."
        )
    return table.set_index(keys, drop=False).rename_axis(index=[f"key {key}" for key in keys])


def _per_image(images: npt.NDArray[Any], a: Array, b: Array) -> tuple[tuple[str, ...], Array, Array, int]:
    """Images with a value in both, their values, and the number of images with a value in one only."""
    paired = ~np.isnan(a) & ~np.isnan(b)
    names = dict.fromkeys(images[paired])
    number = {image: index for index, image in enumerate(names)}
    member = [number[image] for image in images[paired]]
    count = np.bincount(member, minlength=len(names))
    sums = (np.bincount(member, weights=side[paired], minlength=len(names)) for side in (a, b))
    one, two = (total / np.maximum(count, 1) for total in sums)
    single = set(images[np.isnan(a) != np.isnan(b)]) - set(names)
    return tuple(names), one, two, len(single)


def _choose(
    values: Mapping[str, tuple[tuple[str, ...], Array, Array, int]],
    wanted: Sequence[str] | None,
    names: tuple[str, str],
) -> list[str]:
    usable = [name for name, (ids, *_) in values.items() if ids]
    if wanted is None:
        varying = [name for name in usable if np.ptp(np.concatenate(values[name][1:3])) > 0]
        chosen = ranked(name for name in varying if in_mm(name) not in varying)
        if not chosen:
            raise DataError(
                f"{names[0]} and {names[1]} have no metric in common that varies over images; name one "
                "by --metric."
            )
        return chosen
    found: dict[str, None] = {}
    for pattern in wanted:
        matching = fnmatch.filter(usable, pattern)
        if not matching:
            close = difflib.get_close_matches(pattern, usable, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {some(ranked(usable))}."
            raise DataError(f"no metric {pattern!r} has values in both; {hint}")
        found |= dict.fromkeys(matching)
    return list(found)


def comparison_markdown(comparison: Comparison, head: Sequence[str] = ()) -> str:
    """The comparison as Markdown that is also readable as text; `head` are lines below the title."""
    a, b = comparison.names
    lines = [f"# A: {a}, B: {b}", "", f"Images in both: {comparison.images}."]
    for name, ids in zip("AB", comparison.only, strict=True):
        lines += [f"Only in {name}, or only there readable: {len(ids)}: {some(ids)}."] if ids else []
    for name, rows_alone in zip("AB", comparison.rows_only, strict=True):
        if rows_alone:
            lines.append(
                f"Positions of these in {name} only, not used: {len(rows_alone)}: {some(rows_alone)}."
            )
    for name, metrics in zip("AB", comparison.metrics_only, strict=True):
        if metrics:
            lines.append(
                f"Metrics with values in {name} only, not compared: {len(metrics)}: {some(metrics)}."
            )
    lines += [line for part in head for line in ("", part)]
    rows = [_cells(name, pairs) for name, pairs in comparison.metrics.items()]
    header = ["metric", "n", "mean A", "mean B", "B − A", "95 % interval", "effect", "p", "Holm p"]
    lines += ["", *markdown_table(header, rows), ""]
    lines += [
        "B − A is the mean difference with its bootstrap interval; effect is the matched-pairs rank-biserial",
        "correlation, 1 where B is larger in every image and −1 where it is smaller; p is of the two-sided",
        f"Wilcoxon signed-rank test, Holm p the same corrected for the number of metrics, {len(rows)}.",
    ]
    same = [name for name, pairs in comparison.metrics.items() if pairs.test.zeros == pairs.test.n]
    if same:
        lines += ["", f"No image differs, so that p is 1: {', '.join(same)}."]
    single = {name: pairs.without_pair for name, pairs in comparison.metrics.items() if pairs.without_pair}
    if single:
        words = ", ".join(f"{name} ({count})" for name, count in single.items())
        lines += ["", f"Images with a value in one of the two only, not used: {words}."]
    return "\n".join(lines) + "\n"


def _cells(name: str, pairs: Paired) -> list[str]:
    n = pairs.numbers()
    digits = 4 if name.startswith(("dice", "nsd", "similarity")) else 3
    low, high, difference = (f"{n[key]:+.{digits}f}" for key in ("ci_low", "ci_high", "difference"))
    means = [f"{n[key]:.{digits}f}" for key in ("mean_a", "mean_b")]
    interval = f"{low} – {high}"
    return [
        name,
        str(n["n"]),
        *means,
        difference,
        interval,
        f"{n['effect']:+.2f}",
        *map(p_words, (n["p"], n["p_holm"])),
    ]


def write_comparison(
    folder: Path, stem: str, comparison: Comparison, summary: Mapping[str, Any], text: str
) -> list[Path]:
    """Write ``STEM.csv`` (one row per metric), ``STEM.json``, ``STEM.md`` and the picture ``STEM.png``.

    Raises:
        OutputError: a file cannot be written.
    """
    from anatozoo.io.figures import figure_bytes
    from anatozoo.metrics.compare_draw import plot_comparison

    rows = []
    for name, pairs in comparison.metrics.items():
        numbers = pairs.numbers()
        rows.append([name, *(numbers[column] for column in COLUMNS[1:])])
    return [
        write_csv(folder / f"{stem}.csv", COLUMNS, rows),
        write_json(folder / f"{stem}.json", summary),
        write_text(folder / f"{stem}.md", text),
        write_bytes(folder / f"{stem}.png", figure_bytes(plot_comparison(comparison))),
    ]
