"""The report of the experiment on calibrated probabilities: means over its runs, tests, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from comparing import p_over_runs, paired, spread_of

from anatozoo.errors import DataError
from anatozoo.metrics.tables import markdown_table

COLUMNS = ("dice", "hd_px", "ece_plus", "brier_plus", "ece", "brier", "nll")
LABELS = {
    "ce": "CE",
    "focal": "focal, γ = 2",
    "dice": "soft Dice",
    "dice-meep": "soft Dice + MEEP",
    "me": "CE + ME",
    "meep": "CE + MEEP",
    "meep-kl": "CE + MEEP, KL form",
    "ml1-ace": "CE + mL1-ACE",
    "temperature": "CE, temperature",
    "ensemble": "CE, 5 networks",
}
REFERENCES = {"dice-meep": "dice"}
"""What an arm is compared with, where it is not CE."""
HEADS = ("Dice", "HD, voxels", "ECE⁺", "Brier⁺", "ECE", "Brier", "NLL")
Rows = Sequence[Mapping[str, Any]]


def by_arm(runs: Sequence[Mapping[str, Any]], together: Rows) -> dict[str, dict[int, Rows]]:
    """Arm -> seed -> rows, the temperature's and the ensemble's among them.

    Raises:
        DataError: the runs are of different cases.
    """
    if any(run["cases"] != runs[0]["cases"] for run in runs):
        raise DataError("the runs are of different cases; give each data set a folder.")
    found: dict[str, dict[int, Rows]] = {}
    for run in runs:
        found.setdefault(run["arm"], {})[run["seed"]] = run["rows"]["own"]
        if "tempered" in run["rows"]:
            found.setdefault("temperature", {})[run["seed"]] = run["rows"]["tempered"]
    if together:
        found["ensemble"] = {0: together}
    return {arm: dict(sorted(found[arm].items())) for arm in LABELS if arm in found}


def entry_of(arm: str, mine: Mapping[int, Rows], reference: Mapping[int, Rows], which: str) -> dict[str, Any]:
    """An arm's numbers: mean and deviation over the runs, and what distinguishes it from its reference.

    Args:
        arm: its name.
        mine: seed -> rows.
        reference: the same of CE, or of what `REFERENCES` says; empty where it is not among the runs.
        which: cases of this list alone, or ``"all"``.
    """
    entry: dict[str, Any] = {"arm": arm, "cases of": which, "runs": len(mine)}
    common = [seed for seed in mine if seed in reference]
    # An ensemble is of no seed: it is compared with all runs of CE.
    pairs = [{s: each[s] for s in common} for each in (mine, reference)] if common else [mine, reference]
    for column in COLUMNS:
        values = table_of(mine, column, which).mean(1)
        found: dict[str, Any] = {"mean": float(values.mean()), "values": values.tolist()}
        found["sd"] = spread_of(values)
        if arm != "ce" and reference:
            own, theirs = (table_of(each, column, which) for each in pairs)
            found["of cases"] = paired(own.mean(0) - theirs.mean(0))
            if len(common) > 1:
                found["of runs"] = {"n": len(common), "p": p_over_runs(own.mean(1) - theirs.mean(1))}
        entry[column] = found
    return entry


def table_of(rows: Mapping[int, Rows], column: str, which: str) -> np.ndarray:
    """(runs, cases) of a column."""
    return np.array([[r[column] for r in each if which in ("all", r["list"])] for each in rows.values()])


def record_of(runs: Sequence[Mapping[str, Any]], together: Rows) -> dict[str, Any]:
    """Everything that the report says, with the commands that did the runs.

    Args:
        runs: the records of the runs.
        together: rows of the ensemble, none where a member is missing.
    """
    arms, settings = by_arm(runs, together), runs[0]["settings"]
    how = " ".join(f"--{name} {value}" for name, value in settings.items() if name != "design")
    script = "python experiments/meep_evidence.py"
    temperatures = {run["seed"]: run["temperature"] for run in runs if run["temperature"]}
    return {
        "commands": [
            f"{script} --root DIR --work WORK {how}",
            f"{script} --work WORK --report --out docs/evidence",
        ],
        "commits": {f"{run['arm']} {run['seed']}": run.get("commit") for run in runs},
        "settings": settings,
        "cases": runs[0]["cases"],
        "parameters": runs[0]["parameters"],
        "train_cpu_s": float(np.mean([run["train_cpu_s"] for run in runs])),
        "temperatures": temperatures,
        "arms": [
            entry_of(arm, rows, arms.get(REFERENCES.get(arm, "ce"), {}), which)
            for which in ("all", "val")
            for arm, rows in arms.items()
        ],
    }


def report(record: Mapping[str, Any]) -> str:
    """The Markdown."""
    cases, settings = record["cases"], record["settings"]
    fitted = ", ".join(f"{value:.2f}" for value in record["temperatures"].values())
    lines = [
        "# Calibrated probabilities of the left atrium",
        "",
        f"DynUNet with {record['parameters']} weights, crops of 24 × 32 × 40 voxels of 3.5 times the side of "
        f"those of the files, {settings['steps']} steps of {settings['batch']} crops, {cases['train']} "
        f"training cases, about {record['train_cpu_s'] / 60:.1f} minutes of one core a run. "
        f"{cases['measured']} cases are measured, whole, at the resolution of the network: those of the "
        "validation list, and some of the training list that trained nothing. Nothing was chosen on them. "
        "Mean ± standard deviation over the runs, of means over the cases. ECE with 10 bins of the largest "
        "probability; ⁺: voxels of the atrium alone; Brier is summed over both classes.",
        "",
        f"The temperature was fitted to {cases['temperature']} other cases: {fitted}. The ensemble is one, "
        "so that it has no deviation, and no p over runs.",
        "",
        *(f"`{command}`  " for command in record["commands"]),
    ]
    titles = {"all": "All measured cases", "val": "The validation list alone"}
    for which, title in titles.items():
        entries = [entry for entry in record["arms"] if entry["cases of"] == which]
        count = next((e["dice"]["of cases"]["n"] for e in entries if "of cases" in e["dice"]), 0)
        few = ": few, so that intervals are wide and a p above .05 says little" if count < 20 else ""
        lines += ["", f"## {title}", ""] + [f"{count} cases{few}.", ""] * bool(count)
        table = [[LABELS[e["arm"]], str(e["runs"]), *(_cell(c, e[c]) for c in COLUMNS)] for e in entries]
        lines += markdown_table(["loss", "runs", *HEADS], table)
        lines += [
            "",
            "Difference from CE, of soft Dice + MEEP from soft Dice, with the 95 % interval over cases; p "
            "over cases (Wilcoxon, runs averaged) / p over runs (paired t-test, same seed).",
            "",
        ]
        tests = [
            [LABELS[e["arm"]], *(_test(c, e[c]) for c in COLUMNS)] for e in entries if "of cases" in e["dice"]
        ]
        lines += markdown_table(["loss", *HEADS], tests)
    return "\n".join(lines) + "\n"


def _digits(column: str) -> int:
    return 1 if column == "hd_px" else 4


def _cell(column: str, number: Mapping[str, Any]) -> str:
    text = f"{number['mean']:.{_digits(column)}f}"
    return text if number["sd"] is None else f"{text} ± {number['sd']:.{_digits(column)}f}"


def _test(column: str, number: Mapping[str, Any]) -> str:
    d, cases, runs = _digits(column), number["of cases"], number.get("of runs", {}).get("p")
    interval = f"{cases['ci_low']:+.{d}f} … {cases['ci_high']:+.{d}f}"
    over_runs = "–" if runs is None else f"{runs:.1g}"
    return f"{cases['difference']:+.{d}f} ({interval}; {cases['p']:.1g} / {over_runs})"
