"""The report of the experiment on supervision by denoising: means over runs, and two kinds of p."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from comparing import p_cell, p_over_runs, paired, table_lines
from kept import commits_of
from sud_design import ARMS, LOOKS

METRICS = ("dice", "hd_px")
THEN = {
    "none": "",
    "parts": "largest part, holes filled",
    "few": "repaired, few masks",
    "pool": "repaired, all masks",
}
REFERENCE = ("supervised", "none")
REPAIRED = ("supervised", "damaged", "sud-pool")
"""Arms whose repaired masks the table shows; the JSON has those of all."""


def compared(table: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    """Mean, and difference to the reference in the runs that both have, for each metric.

    ``p_runs`` is the paired t-test over runs, ``p_cases`` Wilcoxon's over subjects, whose differences are
    averaged over their cases and the runs: that one says nothing about how another training would have turned
    out.
    """
    result: dict[str, Any] = {}
    for metric in METRICS:
        ours, theirs = (
            each.pivot(index=["subject", "case"], columns="seed", values=metric)
            for each in (table, reference)
        )
        runs = ours.mean()
        result[metric] = {"mean": float(runs.mean()), "runs": runs.round(5).tolist()}
        both = ours.columns.intersection(theirs.columns)
        difference = (ours[both] - theirs[both]).dropna()
        by_run = difference.mean()
        if table is reference or not len(both) or not difference.to_numpy().any():
            continue
        result[metric] |= {
            "difference": float(by_run.mean()),
            "relative": float(by_run.mean() / theirs[both].mean().mean()),
            "better": int(((by_run > 0) if metric == "dice" else (by_run < 0)).sum()),
            "p_runs": p_over_runs(by_run.to_numpy()),
            "p_cases": paired(difference.mean(axis=1).groupby("subject").mean())["p"],
        }
    return result


def record_of(runs: Sequence[Mapping[str, Any]], label: str, command: str) -> dict[str, Any]:
    """Everything that the report holds."""
    rows = [row | {"arm": run["arm"], "seed": run["seed"]} for run in runs for row in run["rows"]]
    groups = dict(list(pd.DataFrame(rows).groupby(["look", "arm", "then"], sort=False)))
    results = []
    for look, arm, then in itertools.product(LOOKS, ARMS, THEN):
        if (look, arm, then) in groups:
            numbers = compared(groups[look, arm, then], groups[look, *REFERENCE])
            results.append({"look": look, "arm": arm, "then": then} | numbers)
    seeds = {arm: sorted(run["seed"] for run in runs if run["arm"] == arm) for arm in ARMS}
    seconds = {
        arm: float(np.mean([run["train_cpu_s"] for run in runs if run["arm"] == arm]))
        for arm in ARMS
        if seeds[arm]
    }
    return {
        "command": command,
        "label": label,
        "commits": commits_of(runs),
        "settings": runs[0]["settings"],
        "cases": len({row["case"] for row in rows}),
        "unlabelled": runs[0]["unlabelled"],
        "seeds": seeds,
        "train_cpu_s": seconds,
        "denoiser_cpu_s": {
            masks: float(np.mean([run["denoiser_cpu_s"][masks] for run in runs])) for masks in ("few", "pool")
        },
        "results": results,
    }


def report(record: Mapping[str, Any]) -> str:
    """The Markdown."""
    runs = {len(seeds) for seeds in record["seeds"].values() if seeds}
    lines = [
        f"# Supervision by denoising: {record['label']}",
        "",
        f"Means over {'/'.join(map(str, sorted(runs)))} runs, each with other annotated subjects, and the "
        f"{record['cases']} validation cases; {record['unlabelled']} cases without annotation in a run. "
        "Pixels of the network's frame. Differences to supervised training, as it is: in how many runs "
        "better, p of the paired t-test over runs, then p of Wilcoxon's test over subjects, which does not "
        "know that another training would differ. A denoiser of few masks is trained anew for each run "
        f"({record['denoiser_cpu_s']['few']:.0f} s of CPU), that of all masks once for all runs "
        f"({record['denoiser_cpu_s']['pool']:.0f} s), so that p over runs of its arms does not know how "
        "another denoiser would have turned out. Settings were fixed beforehand; nothing was chosen on these "
        f"cases. `{record['command']}`; commits {', '.join(record['commits'])}.",
    ]
    for look in LOOKS:
        rows = [_row(each, record) for each in record["results"] if each["look"] == look and _shown(each)]
        head = ["arm", "Dice", "difference", "HD px", "difference", "CPU s"]
        lines += ["", f"## Test images: {look}", "", *table_lines(head, rows)]
    return "\n".join(lines) + "\n"


def _shown(result: Mapping[str, Any]) -> bool:
    return result["then"] == "none" or result["arm"] in REPAIRED


def _row(result: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    name = ARMS[result["arm"]].label + (f", {THEN[result['then']]}" if result["then"] != "none" else "")
    cells = [name]
    for metric, digits in (("dice", 3), ("hd_px", 2)):
        numbers = result[metric]
        cells.append(f"{numbers['mean']:.{digits}f}")
        if "difference" not in numbers:
            cells.append("–")
            continue
        share = f" ({100 * numbers['relative']:+.0f} %)" if metric == "hd_px" else ""
        cells.append(
            f"{numbers['difference']:+.{digits}f}{share}, {numbers['better']}/{len(numbers['runs'])}, "
            f"p {p_cell(numbers['p_runs'])}, subjects {numbers['p_cases']:.1g}"
        )
    return [*cells, f"{record['train_cpu_s'][result['arm']]:.0f}"]
