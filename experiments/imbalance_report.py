"""What training on one group costs the other: matrix, gaps, tests, curve; of our runs and published AUCs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.errors import DataError
from anatozoo.io.tables import read_text_table
from anatozoo.metrics.classification import auc
from anatozoo.metrics.statistics import bootstrap_interval_of, holm
from anatozoo.metrics.tables import markdown_table

Row = dict[str, Any]
"""``share`` of the second group in the training, tested group (``test``), ``finding``, ``fold``, ``auc``."""
OWN, OTHER = "own", "other"


def means_of(rows: Sequence[Row]) -> dict[tuple[int, str, str], Row]:
    """(Share, tested group, finding) -> mean and standard deviation of the AUC over folds, and their number.

    A fold in which the AUC is not defined does not count; ``undefined`` says how many these are.
    """
    found: dict[tuple[int, str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["share"], row["test"], row["finding"]), []).append(row["auc"])
    return {key: _mean(values) for key, values in found.items()}


def gaps_of(rows: Sequence[Row], groups: tuple[str, str]) -> list[Row]:
    """What training on the other group costs, for each tested group and finding.

    Args:
        rows: of classifiers that were trained on 0 and on 100 % of the second group.
        groups: names of the groups.

    Returns:
        ``own`` and ``other``, mean AUCs; ``gap``, own − other; ``folds``; ``p`` of the Mann–Whitney U test
        over folds, None with fewer than two; ``p_holm``, corrected over the findings of a tested group.
    """
    entries = []
    for place, test in enumerate(groups):
        shares = {OWN: 100 * place, OTHER: 100 - 100 * place}
        own_entries = []
        for finding in dict.fromkeys(row["finding"] for row in rows):
            values = {
                name: [
                    row["auc"]
                    for row in rows
                    if (row["share"], row["test"], row["finding"]) == (share, test, finding)
                    and np.isfinite(row["auc"])
                ]
                for name, share in shares.items()
            }
            if not all(values.values()):
                raise DataError(f"{finding}, tested on {test}: no fold has an AUC of both trainings.")
            own_entries.append(
                {
                    "test": test,
                    "finding": finding,
                    **{name: float(np.mean(each)) for name, each in values.items()},
                    "gap": float(np.mean(values[OWN]) - np.mean(values[OTHER])),
                    "folds": min(map(len, values.values())),
                    "p": _mann_whitney(values[OWN], values[OTHER]),
                }
            )
        tested = [entry for entry in own_entries if entry["p"] is not None]
        for entry, p in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
            entry["p_holm"] = p
        entries += own_entries
    return entries


def mean_gaps(gaps: Sequence[Row]) -> dict[str, float]:
    """Tested group -> mean gap over findings."""
    tests = dict.fromkeys(gap["test"] for gap in gaps)
    return {test: float(np.mean([gap["gap"] for gap in gaps if gap["test"] == test])) for test in tests}


def read_published(path: Path) -> dict[tuple[str, str], list[Row]]:
    """Published AUCs: (network, data set) -> rows, the mean over folds as one fold.

    The table has the columns network, dataset, test (M or F), finding, male and female: the AUC after a
    training on men and on women alone.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for record in read_text_table(path).records():
        for share, column in ((0, "male"), (100, "female")):
            found.setdefault((record["network"], record["dataset"]), []).append(
                {
                    "share": share,
                    "test": record["test"],
                    "finding": record["finding"],
                    "fold": 0,
                    "auc": float(record[column]),
                }
            )
    return found


def read_shares(path: Path) -> list[Row]:
    """Published AUCs over the share of women: columns test, finding, and one for each share in percent."""
    return [
        {
            "share": int(share),
            "test": record["test"],
            "finding": record["finding"],
            "fold": 0,
            "auc": float(value),
        }
        for record in read_text_table(path).records()
        for share, value in record.items()
        if share.isdecimal()
    ]


def published_report(path: Path, shares: Path) -> tuple[dict[str, Any], list[str]]:
    """Gaps of the published AUCs, the curve of two findings, and lines of Markdown."""
    record: dict[str, Any] = {}
    lines = ["# Gender imbalance, the published AUCs", ""]
    rows, largest = [], []
    for (network, dataset), found in read_published(path).items():
        gaps = gaps_of(found, ("M", "F"))
        means = mean_gaps(gaps)
        record[f"{network}, {dataset}"] = {"mean_gap": means, "gaps": gaps}
        for test, mean in means.items():
            own, other = (
                float(np.mean([gap[name] for gap in gaps if gap["test"] == test])) for name in (OWN, OTHER)
            )
            worse = sum(gap["gap"] > 0 for gap in gaps if gap["test"] == test)
            count = sum(gap["test"] == test for gap in gaps)
            rows.append(
                [network, dataset, test, f"{own:.3f}", f"{other:.3f}", _points(mean), f"{worse} of {count}"]
            )
        largest += [(gap["gap"], network, dataset, gap["test"], gap["finding"]) for gap in gaps]
    head = ["network", "data set", "tested on", "trained on the same", "on the other sex", "gap, points"]
    lines += markdown_table([*head, "findings that lose"], rows)
    every = [mean for each in record.values() for mean in each["mean_gap"].values()]
    record["range_of_mean_gaps"] = [min(every), max(every)]
    lines += ["", f"Mean gaps from {_points(min(every))} to {_points(max(every))} points of AUC.", ""]
    lines += ["The largest gaps:", ""]
    lines += markdown_table(
        ["finding", "network", "data set", "tested on", "gap, points"],
        [[finding, n, d, t, _points(gap)] for gap, n, d, t, finding in sorted(largest, reverse=True)[:5]],
    )
    means = means_of(read_shares(shares))
    record["shares"] = [
        {"share": s, "test": t, "finding": f, "auc": m["mean"]} for (s, t, f), m in means.items()
    ]
    percents = sorted({share for share, _, _ in means})
    lines += ["", "DenseNet-121 on ChestX-ray14, AUC by the share of women in the training (± .003):", ""]
    lines += markdown_table(
        ["finding", "tested on", *(f"{share} %" for share in percents)],
        [
            [finding, test, *(f"{means[share, test, finding]['mean']:.3f}" for share in percents)]
            for test, finding in dict.fromkeys((t, f) for _, t, f in means)
        ],
    )
    return record, lines


def rows_of(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The AUC of each run on each group."""
    rows = []
    for run in runs:
        for test, scored in run["scores"].items():
            y, p = _flat(scored, list(scored))
            rows.append(
                {
                    "share": run["share"],
                    "test": test,
                    "finding": run["finding"],
                    "fold": run["fold"],
                    "auc": auc(y, p),
                }
            )
    return rows


def interval_of_gap(runs: Sequence[Mapping[str, Any]], test: str, first: int, second: int) -> Row:
    """The AUC with one share less that with another on a group, and its bootstrap interval over patients.

    Patients are drawn within their fold; the AUC is the mean over folds in which both are defined.
    """
    folds: dict[int, dict[int, Any]] = {}
    for run in runs:
        if run["share"] in (first, second):
            folds.setdefault(run["fold"], {})[run["share"]] = run["scores"][test]
    pairs = [each for each in folds.values() if len(each) == 2]
    where = [(number, patient) for number, pair in enumerate(pairs) for patient in pair[first]]

    def gap(drawn: Any) -> float:
        chosen: dict[int, list[str]] = {}
        for place in drawn:
            chosen.setdefault(where[place][0], []).append(where[place][1])
        each = [
            auc(*_flat(pairs[n][first], names)) - auc(*_flat(pairs[n][second], names))
            for n, names in chosen.items()
        ]
        finite = [value for value in each if np.isfinite(value)]
        return float(np.mean(finite)) if finite else float("nan")

    low, high = bootstrap_interval_of(gap, where, resamples=1000)
    value = gap(range(len(where)))
    return {"test": test, "gap": value, "ci_low": low, "ci_high": high, "patients": len(where)}


def report(runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """One setting: record and lines of Markdown."""
    groups = tuple(runs[0]["settings"]["groups"])
    rows, finding = rows_of(runs), runs[0]["finding"]
    means = means_of(rows)
    shares = sorted({row["share"] for row in rows})
    record: dict[str, Any] = {
        "settings": runs[0]["settings"],
        "runs": len(runs),
        "cpu_s": float(np.mean([run["cpu_s"] for run in runs])),
        "means": [{"share": s, "test": t, "finding": f, **mean} for (s, t, f), mean in means.items()],
    }
    lines = markdown_table(
        [f"share of {groups[1]} in the training", *(f"AUC on {test}" for test in groups), "folds"],
        [
            [f"{share} %", *(_pm(means[share, test, finding]) for test in groups)]
            + [str(min(means[share, test, finding]["folds"] for test in groups))]
            for share in shares
        ],
    )
    if {0, 100} <= set(shares):
        gaps = gaps_of(rows, (groups[0], groups[1]))
        for place, (test, gap) in enumerate(zip(groups, gaps, strict=True)):
            gap["interval"] = interval_of_gap(runs, test, 100 * place, 100 - 100 * place)
            if 50 in shares:
                gap["mixed"] = interval_of_gap(runs, test, 50, 100 * place)
        record["gaps"] = gaps
        lines += ["", *_gap_lines(gaps)]
    return record, lines


def _gap_lines(gaps: Sequence[Row]) -> list[str]:
    head = ["tested on", "trained on the same", "on the other", "cost of the other, points", "p", "p, Holm"]
    lines = markdown_table(
        [*head, "half and half less the same, points"],
        [
            [
                gap["test"],
                f"{gap[OWN]:.3f}",
                f"{gap[OTHER]:.3f}",
                _with_ends(gap["interval"]),
                _p(gap["p"]),
                _p(gap.get("p_holm")),
                _with_ends(gap["mixed"]) if "mixed" in gap else "",
            ]
            for gap in gaps
        ],
    )
    return [*lines, "", "Intervals: 95 %, by drawing patients within folds. p: Mann–Whitney over folds."]


def draw(records: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """The AUC on each group over the share of the second one, a panel for each setting."""
    from matplotlib.figure import Figure

    from anatozoo.io.figures import figure_bytes
    from anatozoo.io.writers import write_bytes

    figure = Figure(figsize=(3.6 * len(records), 3.0), layout="constrained")
    for ax, (name, record) in zip(
        figure.subplots(1, len(records), squeeze=False)[0], records.items(), strict=True
    ):
        for test, colour in zip(record["settings"]["groups"], ("#0072b2", "#d55e00"), strict=True):
            points = sorted((m for m in record["means"] if m["test"] == test), key=lambda m: m["share"])
            shares, values = [m["share"] for m in points], [m["mean"] for m in points]
            ax.errorbar(
                shares,
                values,
                [m["sd"] for m in points],
                color=colour,
                marker="o",
                capsize=3,
                label=f"tested on {test}",
            )
        ax.axhline(0.5, color="#999999", lw=0.8, ls=":")
        ax.set(title=name, xlabel=f"% {record['settings']['groups'][1]} in the training", ylabel="AUC")
        ax.legend(fontsize=7, frameon=False)
    write_bytes(path, figure_bytes(figure))


def _flat(scored: Mapping[str, Sequence[Sequence[float]]], patients: Sequence[str]) -> tuple[Any, Any]:
    """Truth and score of the images of some patients, who may be there several times."""
    y, p = (np.concatenate([np.asarray(scored[name][which], float) for name in patients]) for which in (0, 1))
    return y, p


def _mean(values: Sequence[float]) -> Row:
    finite = [value for value in values if np.isfinite(value)]
    return {
        "mean": float(np.mean(finite)) if finite else float("nan"),
        "sd": float(np.std(finite, ddof=1)) if len(finite) > 1 else 0.0,
        "folds": len(finite),
        "undefined": len(values) - len(finite),
    }


def _mann_whitney(one: Sequence[float], other: Sequence[float]) -> float | None:
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(one, other).pvalue) if min(len(one), len(other)) > 1 else None


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _pm(mean: Row) -> str:
    spread = f" ± {mean['sd']:.3f}" if mean["folds"] > 1 else ""
    return f"{mean['mean']:.3f}{spread}"


def _with_ends(gap: Row) -> str:
    return f"{_points(gap['gap'])} ({_points(gap['ci_low'])} to {_points(gap['ci_high'])})"


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}"
