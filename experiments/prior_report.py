"""The report of the experiment on shape priors: means of runs, differences, p over runs and over cases."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from comparing import p_cell, p_over_runs, paired, spread_of, write
from kept import commits_of, read_runs
from prior_design import LARGEST, NONE, Setting

from anatozoo.errors import DataError
from anatozoo.metrics.tables import markdown_table

Run = Mapping[str, Any]
Table = dict[str, dict[int, dict[str, dict[str, float]]]]
"""Arm, seed, subject, metric -> number."""


def table_of(runs: Sequence[Run], metrics: Sequence[str]) -> Table:
    """The numbers of all runs, of each subject on average over its cases."""
    table: dict[str, dict[int, dict[str, list[list[float]]]]] = {}
    for run in runs:
        for row in run["rows"]:
            by_case = table.setdefault(row["arm"], {}).setdefault(run["seed"], {})
            by_case.setdefault(row["subject"], []).append([row[metric] for metric in metrics])
    return {
        arm: {
            seed: {
                subject: dict(zip(metrics, np.nanmean(cases, 0).tolist(), strict=True))
                for subject, cases in subjects.items()
            }
            for seed, subjects in seeds.items()
        }
        for arm, seeds in table.items()
    }


def compared(table: Table, arm: str, metric: str) -> dict[str, Any]:
    """An arm's mean, its spread over runs, and its difference from no prior on the runs that both have."""
    means = {seed: _mean(cases, metric) for seed, cases in table[arm].items()}
    values = list(means.values())
    found: dict[str, Any] = {
        "mean": float(np.mean(values)),
        "sd": spread_of(values),
        "runs": values,
    }
    both = sorted(set(means) & set(table[NONE])) if arm != NONE else []
    if both:
        differences = [means[seed] - _mean(table[NONE][seed], metric) for seed in both]
        found |= {"difference": float(np.mean(differences)), "p_runs": p_over_runs(differences)}
        cases = [case for case in table[arm][both[0]] if case in table[NONE][both[0]]]
        found["p_cases"] = paired(
            [np.nanmean([table[arm][s][c][metric] - table[NONE][s][c][metric] for s in both]) for c in cases]
        )["p"]
    return found


def _mean(cases: Mapping[str, Mapping[str, float]], metric: str) -> float:
    return float(np.nanmean([row[metric] for row in cases.values()]))


def _shown(number: Mapping[str, Any], metric: str) -> str:
    digits = 3 if metric == "dice" else 2
    text = f"{number['mean']:.{digits}f}"
    if number["sd"] is not None:
        text += f" ± {number['sd']:.{digits}f}"
    if "difference" in number:
        runs = p_cell(number["p_runs"])
        text += f" ({number['difference']:+.{digits}f}; p {runs}, {number['p_cases']:.1g})"
    return text


def report(options: argparse.Namespace, setting: Setting) -> None:
    """Print the report, and write it with ``--out``."""
    runs = read_runs(options.work, NONE)
    if runs[0]["settings"]["setting"] != options.setting:
        raise DataError(f"{options.work} holds runs of {runs[0]['settings']['setting']}.")
    table = table_of(runs, setting.metrics)
    arms = [arm for arm in (NONE, LARGEST, *setting.arms) if arm in table]
    arms = list(dict.fromkeys(arms))
    found = {arm: {metric: compared(table, arm, metric) for metric in setting.metrics} for arm in arms}
    labels = {
        arm: setting.arms[arm].label if arm in setting.arms else "no prior, largest part" for arm in arms
    }
    cost = {arm: [run["train_cpu_s"] for run in runs if run["arm"] == arm] for arm in setting.arms}
    command = f"python experiments/prior_evidence.py --setting {options.setting} --root DIR --work WORK"
    used = runs[0]["settings"]
    seen = "all" if used["subjects"] is None else used["subjects"]
    about = (
        f"{used['steps']} steps of {used['batch']} volumes, {seen} labelled subjects, validation split, "
        "averaged weights of the last steps; nothing was chosen on it. Mean over runs ± standard deviation, "
        "and in brackets the difference from no prior, p of the paired t-test over runs and of the Wilcoxon "
        "test over subjects, whose differences are averaged over runs first. All runs of an arm share one "
        "autoencoder, so that p over runs does not know how another one would have turned out. "
        f"`{command}`; commits {', '.join(commits_of(runs))}."
    )
    rows = [
        [
            labels[arm],
            str(len(table[arm])),
            *(_shown(found[arm][metric], metric) for metric in setting.metrics),
        ]
        + [f"{np.mean(cost[arm]):.0f}" if cost.get(arm) else "–"]
        for arm in arms
    ]
    lines = [f"# Shape priors: {options.setting}", "", about, ""]
    lines += markdown_table(["arm", "runs", *setting.metrics, "s of CPU"], rows)
    record = {"command": command, "about": about, "settings": used, "arms": found, "train_cpu_s": cost}
    if "truth" in runs[0]:
        record["truth"] = runs[0]["truth"]
        words = ", ".join(f"{k.replace('_', ' ')} {v:.2f}" for k, v in runs[0]["truth"].items())
        lines += ["", f"The label maps themselves have, a stack: {words}."]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out is not None:
        write(options.out, f"prior-{options.setting}_experiment", record, text)
