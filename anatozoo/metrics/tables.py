"""Tables of an evaluation: one row per image, and what the rows say together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.io.writers import write_bytes, write_csv, write_json

FAILURE_METRIC, FAILURE_DICE = "dice/lungs", 0.7
GROUPS = ("view", "sex")
Row = Mapping[str, Any]


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Metrics that any row holds, in order of appearance: they hold a slash or their unit."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if "/" in name or name.endswith(("_px", "_px2", "_mm"))]


def describe(rows: Sequence[Row]) -> dict[str, dict[str, float | int]]:
    """Statistics of each metric over the rows that have it.

    Returns:
        metric -> ``n``, ``mean``, ``sd`` (ddof 0, as in the published tables), ``median``, ``min``, ``max``;
        metrics that are NaN in every row are left out.
    """
    result: dict[str, dict[str, float | int]] = {}
    for name in metric_names(rows):
        values = np.array([row.get(name, np.nan) for row in rows], dtype=np.float64)
        values = values[~np.isnan(values)]
        if values.size:
            statistics = {f.__name__: float(f(values)) for f in (np.mean, np.median, np.min, np.max)}
            result[name] = {"n": int(values.size), "sd": float(values.std())} | statistics
    return result


def failures(rows: Sequence[Row]) -> dict[str, float | int | str] | None:
    """How many images have a Dice of the lungs below 0.7; None where that Dice was not measured."""
    values = [row[FAILURE_METRIC] for row in rows if not np.isnan(row.get(FAILURE_METRIC, np.nan))]
    if not values:
        return None
    failed = int(np.count_nonzero(np.array(values) < FAILURE_DICE))
    return {
        "metric": FAILURE_METRIC,
        "below": FAILURE_DICE,
        "n": len(values),
        "failed": failed,
        "rate": failed / len(values),
    }


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that the rows say together, as JSON: ``metrics``, ``failures``, ``groups``.

    ``groups`` has the same for each value of ``view`` and ``sex`` where the rows have several.
    """
    groups = {}
    for column in GROUPS:
        values = sorted({str(row[column]) for row in rows if row.get(column)})
        if len(values) > 1:
            groups[column] = {value: _part([r for r in rows if r.get(column) == value]) for value in values}
    return _part(rows) | {"groups": groups}


def _part(rows: Sequence[Row]) -> dict[str, Any]:
    return {"images": len({row["id"] for row in rows}), "metrics": describe(rows), "failures": failures(rows)}


def markdown(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown: what was run, one line per metric, then one table per grouping."""
    lines = [
        f"# {summary['checkpoint']} {summary['version']} on {summary['data']}, split {summary['split']}",
        "",
    ]
    lines += [f"{summary['images']} images. `{summary['command']}`", ""]
    lines += [", ".join(f"{name} {version}" for name, version in summary["versions"].items()), ""]
    lines += _table("metric", ["n", "mean ± sd", "median", "min", "max"])
    for name, s in summary["metrics"].items():
        cells = [s["n"], _mean_sd(name, s), *(_number(name, s[k]) for k in ("median", "min", "max"))]
        lines.append(_line(name, cells))
    if summary["failures"]:
        f = summary["failures"]
        lines += [
            "",
            f"{f['metric']} below {f['below']}: {f['failed']} of {f['n']} images ({f['rate']:.1%}).",
        ]
    for column, values in summary["groups"].items():
        shown = [m for m in ("dice/lungs", "dice/heart", "mse_px2") if m in summary["metrics"]]
        heads = [h for m in shown for h in (f"{m} mean ± sd", "median")]
        lines += ["", *_table(column, ["images", *heads, "failures"])]
        for value, part in values.items():
            cells = [part["images"]]
            for name in shown:
                s = part["metrics"].get(name)
                cells += [_mean_sd(name, s), _number(name, s["median"])] if s else ["–", "–"]
            f = part["failures"]
            lines.append(_line(value, [*cells, f"{f['failed']} of {f['n']}" if f else "–"]))
    return "\n".join(lines) + "\n"


def write_tables(folder: Path, stem: str, rows: Sequence[Row], summary: Mapping[str, Any]) -> list[Path]:
    """Write ``STEM.csv`` (rows), ``STEM.json`` and ``STEM.md`` (summary).

    Raises:
        OutputError: a file cannot be written.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[None if _is_nan(row.get(name)) else row.get(name) for name in columns] for row in rows]
    return [
        write_csv(folder / f"{stem}.csv", columns, cells),
        write_json(folder / f"{stem}.json", summary),
        write_bytes(folder / f"{stem}.md", markdown(summary).encode()),
    ]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _mean_sd(name: str, s: Mapping[str, float]) -> str:
    return f"{_number(name, s['mean'])} ± {_number(name, s['sd'])}"


def _number(name: str, value: float) -> str:
    return f"{value:.4f}" if name.startswith("dice") else f"{value:.3f}"


def _table(first: str, others: Sequence[str]) -> list[str]:
    return [_line(first, others), _line("---", ["---:"] * len(others))]


def _line(first: object, others: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, [first, *others])) + " |"
