"""Tables of an evaluation: one row per image, and what the rows say together."""

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.io.writers import write_csv, write_json, write_text
from anatozoo.metrics.statistics import bootstrap_interval
from anatozoo.organs import parts_of
from anatozoo.version import __version__

FAILURE_METRIC, FAILURE_DICE = "dice/lungs", 0.7
GROUPS = ("view", "sex", "degradation")
COLUMNS = ("error", "moving", "fixed", "moving_patient", "position", "degradation")
"""Columns that some evaluations add to a row, beside metrics."""
COUNTS = ("components", "holes", "self_intersections", "invented", "missed")
"""Metrics that are whole numbers."""
MAIN = (
    "dice", "hd_mm", "hd95_mm", "assd_mm", "nsd", "hd_px", "hd95_px", "assd_px",
    "mse_px2", "error_px", "error95_px", "error_mm", "error95_mm", "folding_percent", "similarity",
)  # fmt: skip
"""Metrics in the order in which people look for them; those not named here follow."""
CALIBRATION = ("ece", "ece_plus", "brier", "brier_plus", "nll")
"""Metrics of probabilities, see `anatozoo.metrics.calibration.calibration_numbers`."""
BARE = (
    "dice", "dice_before", "dice_clean", "dice_autoencoder", "similarity", "code_distance",
    "psnr", "ssim", "psnr_gain", "ssim_gain", "disagreement", *CALIBRATION,
)  # fmt: skip
"""Metrics whose names have neither an organ nor a unit."""
_UNITS = ("_px", "_px2", "_mm", "_percent")
_FOUR_DECIMALS = ("dice", "dice_before", "dice_after", "nsd", "similarity", "ssim", "ssim_gain", *CALIBRATION)
_GIT_SECONDS = 10
Row = Mapping[str, Any]


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Metrics that any row holds, in order of appearance: with an organ, with a unit, or one of `BARE`."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if "/" in name or name.endswith(_UNITS) or name in BARE]


def with_facts(known: Row, facts: Row) -> dict[str, Any]:
    """A row with further facts, such as the other columns of a manifest.

    Args:
        known: the row; it stays as it is.
        facts: name -> value. A fact with the name of a column of evaluations, such as ``id``, ``error`` or a
            metric, is kept as ``NAME (given)``, so that nobody takes it for a measured value.
    """
    row = dict(known)
    for name, value in facts.items():
        taken = name in known or name in COLUMNS or metric_names([{name: value}])
        row[f"{name.replace('/', ' ')} (given)" if taken else name] = value
    return row


def ranked(names: Iterable[str]) -> list[str]:
    """Metrics by what they measure, Dice first and counts last, else in the given order."""

    def rank(name: str) -> int:
        kind = name.split("/")[0]
        if kind in COUNTS:
            return len(MAIN) + 1 + COUNTS.index(kind)
        return MAIN.index(kind) if kind in MAIN else len(MAIN)

    return sorted(names, key=rank)


def in_mm(name: str) -> str | None:
    """The metric in millimetres that a distance in pixels has beside it; None for all others."""
    kind, slash, organ = name.partition("/")
    return f"{kind.removesuffix('_px')}_mm{slash}{organ}" if kind.endswith("_px") else None


def describe(rows: Sequence[Row]) -> dict[str, dict[str, float | int]]:
    """Statistics of each metric over the rows that have it.

    Returns:
        metric -> ``n``, ``mean``, ``sd`` (ddof 0, as in the published tables), ``median``, ``min``, ``max``,
        ``ci_low`` and ``ci_high``, the 95 % percentile bootstrap interval of the mean, for which rows of one
        ``patient``, or else of one ``id``, are drawn together. A metric ``METRIC/ORGAN`` whose rows say
        whether the organ was missed has ``missed``, the number of rows where it was: under the policy
        ``"nan"`` these are not in the mean. Metrics that are NaN in every row are left out, and so is
        ``missed/ORGAN`` where nothing was missed.
    """
    names = metric_names(rows)
    table = np.array([[_number(row.get(name)) for name in names] for row in rows], dtype=np.float64)
    clusters = [row.get("patient") or row.get("id") or index for index, row in enumerate(rows)]
    intervals = _intervals(table, clusters) if names else np.empty((2, 0))
    result: dict[str, dict[str, float | int]] = {}
    for column, name in enumerate(names):
        values = table[:, column]
        values = values[~np.isnan(values)]
        kind, _, organ = name.partition("/")
        if not values.size or (kind == "missed" and not values.any()):
            continue
        statistics: dict[str, float | int] = {"n": int(values.size)}
        missed = f"missed/{organ}"
        if kind != "missed" and missed in names:
            statistics["missed"] = int(np.nansum(table[:, names.index(missed)]))
        statistics |= {"mean": float(values.mean()), "sd": float(values.std())}
        statistics |= {f.__name__: float(f(values)) for f in (np.median, np.min, np.max)}
        result[name] = statistics | {
            "ci_low": float(intervals[0, column]),
            "ci_high": float(intervals[1, column]),
        }
    return result


def _number(value: object) -> float:
    return float("nan") if value is None or value == "" else float(value)  # type: ignore[arg-type]


def _intervals(table: np.ndarray, clusters: Sequence[object]) -> np.ndarray:
    """Bootstrap intervals of the columns of (n, k), NaN left out: (2, k).

    Columns with a value in the same rows share their draws, which is many times faster than one by one.
    """
    ends = np.full((2, table.shape[1]), np.nan)
    present = ~np.isnan(table)
    alike: dict[bytes, list[int]] = {}
    for column in range(table.shape[1]):
        alike.setdefault(present[:, column].tobytes(), []).append(column)
    for columns in alike.values():
        rows = np.flatnonzero(present[:, columns[0]]).tolist()
        if rows:
            ends[:, columns] = bootstrap_interval(table[rows][:, columns], [clusters[i] for i in rows])
    return ends


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
    """Everything that the rows say together, as JSON: ``images``, ``metrics``, ``failures``, ``groups``.

    ``groups`` has the same for each value of ``view``, ``sex`` and ``degradation``, if there are several.
    """
    groups = {}
    for column in GROUPS:
        values = sorted({str(row[column]) for row in rows if row.get(column)})
        if len(values) > 1:
            groups[column] = {value: _part([r for r in rows if r.get(column) == value]) for value in values}
    return _part(rows) | {"groups": groups}


def _part(rows: Sequence[Row]) -> dict[str, Any]:
    return {"images": len({row["id"] for row in rows}), "metrics": describe(rows), "failures": failures(rows)}


def provenance(packages: Sequence[str]) -> dict[str, Any]:
    """What computed the numbers, as JSON: ``versions`` of anatozoo, of `packages` and Python; ``commit``."""
    import platform
    from importlib.metadata import version

    versions = {"anatozoo": __version__}
    for package in packages:
        # A loaded package knows more than its metadata, such as torch for which CUDA it was built.
        versions[package] = str(getattr(sys.modules.get(package), "__version__", None) or version(package))
    return {"versions": versions | {"python": platform.python_version()}, "commit": source_commit()}


def source_commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """Commit of the source that runs, 40 hexadecimal digits.

    Args:
        package: folder of the package.

    Returns:
        None where the package is installed rather than run from its checkout, where a file of it differs
        from the commit, or where there is no git.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        ).stdout.strip()

    try:
        # An environment inside somebody's repository is not a checkout of ours: git must know our own files.
        git("ls-files", "--error-unmatch", "__init__.py")
        return None if git("status", "--porcelain", "--", ".") else git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def markdown(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown that is also readable as text.

    What was run, then one line per metric, and one table per grouping. A count that is as it should be in
    every image has no line, nor has a distance in pixels that is there in millimetres, nor what a mask had
    before its repair where every mask was the reference itself.
    """
    counted = _images(summary["images"], summary.get("unit", "image"))
    lines = [f"# {_title(summary)}", "", f"{counted}. `{summary['command']}`", ""]
    words = [f"{name} {version}" for name, version in summary["versions"].items()]
    words += [f"commit {summary['commit'][:12]}"] if summary.get("commit") else []
    lines += [", ".join(words), *_left_out(summary), *_dealt(summary), ""]
    metrics = {name: summary["metrics"][name] for name in ranked(summary["metrics"])}
    intact = metrics.get("dice_before", {}).get("min") == 1
    before = [name for name in metrics if "_before/" in name] if intact else []
    metrics = {name: s for name, s in metrics.items() if name not in before}
    expected = [name for name, s in metrics.items() if _as_expected(name, s)]
    doubled = [name for name in metrics if in_mm(name) in metrics]
    header = ["metric", "n", "missed", "mean ± sd", "95 % interval of the mean", "median", "min", "max"]
    lines += markdown_table(
        header,
        [
            [
                name,
                s["n"],
                s.get("missed", ""),
                _mean_sd(name, s),
                f"{_mean(name, s['ci_low'])} – {_mean(name, s['ci_high'])}",
                *(_value(name, s[k]) for k in ("median", "min", "max")),
            ]
            for name, s in metrics.items()
            if name not in (*expected, *doubled)
        ],
    )
    if expected:
        lines += ["", f"As it should be in every image, and not listed: {_by_kind(expected, metrics)}."]
    if before:
        lines += ["", "Every mask was the reference itself: what it had before is in the JSON and CSV."]
    if doubled:
        lines += ["", "The same distances in pixels are in the JSON and CSV."]
    if summary["failures"]:
        f = summary["failures"]
        lines += [
            "",
            f"{f['metric']} below {f['below']}: {f['failed']} of {f['n']} images ({f['rate']:.1%}).",
        ]
    if "findings" in summary:
        lines += ["", *_finding_table(summary["findings"])]
    for column, values in summary["groups"].items():
        lines += ["", *_group_table(column, values, summary["metrics"])]
    return "\n".join(lines) + "\n"


def _images(count: int, unit: str) -> str:
    return f"1 {unit}" if count == 1 else f"{count} {unit}s"


def _title(summary: Mapping[str, Any]) -> str:
    if "checkpoint" in summary:
        return f"{summary['checkpoint']} {summary['version']} on {summary['data']}, split {summary['split']}"
    return f"{summary['prediction']} against {summary['reference']}"


def _left_out(summary: Mapping[str, Any]) -> list[str]:
    """What the numbers do not cover."""
    parts = [f"unreadable or not comparable: {len(summary['unread'])}"] if summary.get("unread") else []
    unmatched = summary.get("unmatched", {}).items()
    parts += [f"without counterpart: {len(names)} of the {side}" for side, names in unmatched if names]
    return ["", f"Images left out: {'; '.join(parts)}."] if parts else []


def _dealt(summary: Mapping[str, Any]) -> list[str]:
    """Whether the split is one that the data set came with."""
    count = summary.get("split_origin", {}).get("dealt", 0)
    if not count:
        return []
    return [
        "",
        f"The split was dealt: no list names {count} of the images, and each patient's name decided. A model "
        "trained elsewhere may have seen any of them.",
    ]


def _finding_table(findings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """AUC and calibration of each finding, see `anatozoo.metrics.classification.finding_numbers`."""

    def words(value: float | None) -> str:
        return "not defined" if value is None else f"{value:.3f}"

    header = ["finding", "images", "with it", "patients", "AUC", "95 % interval", "ECE"]
    return markdown_table(
        header,
        [
            [
                finding,
                *(each[name] for name in ("images", "with", "patients")),
                words(each["auc"]),
                "" if each["ci_low"] is None else f"{words(each['ci_low'])} – {words(each['ci_high'])}",
                words(each["ece"]),
            ]
            for finding, each in findings.items()
        ],
    )


def _group_table(column: str, values: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    shown = [m for m in ("dice/lungs", "dice/heart", "mse_px2") if m in metrics]
    shown = [m for m in ("dice_before", "dice") if m in metrics] or shown
    rows = []
    for value, part in values.items():
        cells: list[object] = [value, part["images"]]
        for name in shown:
            s = part["metrics"].get(name)
            cells += [_mean_sd(name, s), _value(name, s["median"])] if s else ["–", "–"]
        f = part["failures"]
        rows.append([*cells, f"{f['failed']} of {f['n']}" if f else "–"])
    heads = [head for name in shown for head in (f"{name} mean ± sd", "median")]
    return markdown_table([column, "images", *heads, "failures"], rows)


def _as_expected(name: str, s: Mapping[str, float]) -> bool:
    """Whether a count is in every image what anatomy wants: one part for each organ, else none."""
    kind, _, organ = name.partition("/")
    wanted = (len(parts_of(organ)) if kind == "components" else 0) if kind in COUNTS else None
    return wanted is not None and s["min"] == s["max"] == wanted


def _by_kind(names: Sequence[str], metrics: Iterable[str]) -> str:
    """Counts by what they count, organs named only where it is not all of them."""
    organs: dict[str, list[str]] = {}
    for name in names:
        kind, _, organ = name.partition("/")
        organs.setdefault(kind, []).append(organ)
    every = {kind: sum(name.startswith(f"{kind}/") for name in metrics) for kind in organs}
    kinds: dict[str, list[str]] = {}
    for kind, found in organs.items():
        kinds.setdefault("every organ" if len(found) == every[kind] else ", ".join(found), []).append(kind)
    return "; ".join(f"{', '.join(counts)} of {where}" for where, counts in kinds.items())


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
        write_text(folder / f"{stem}.md", markdown(summary)),
    ]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _mean_sd(name: str, s: Mapping[str, float]) -> str:
    return f"{_mean(name, s['mean'])} ± {_mean(name, s['sd'])}"


def _mean(name: str, value: float) -> str:
    return f"{value:.4f}" if name.split("/")[0] in _FOUR_DECIMALS else f"{value:.3f}"


def _value(name: str, value: float) -> str:
    whole = name.split("/")[0] in COUNTS and value == int(value)
    return str(int(value)) if whole else _mean(name, value)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table, columns padded to one width: the first to the left, others to the right."""
    body = [[str(cell) for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(header, *body, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cells[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(header), line(rule), *(line(row) for row in body)]
