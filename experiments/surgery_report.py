"""The report of the experiment on gradient surgery: means, tests and the share in agreement."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from comparing import p_over_runs, paired, spread_of
from kept import read_runs
from surgery_settings import METHODS, SETTINGS

from anatozoo.metrics.tables import markdown_table

REFERENCE, WINDOW = "deep_all", 10
COLOURS = {"deep_all": "#000000", "agr_sum": "#0072b2", "agr_rand": "#d55e00", "pcgrad": "#009e73"}
HEADS = {"pacs": "PACS, accuracy", "lgg": "LGG, Dice of the tumour"}
Runs = Sequence[Mapping[str, Any]]


def find_runs(work: Path) -> list[dict[str, Any]]:
    """The runs of a folder, of both settings.

    Raises:
        DataError: there are none, or those of a setting differ in their settings.
    """
    patterns = [f"run_{name}_*.json" for name in SETTINGS]
    there = [pattern for pattern in patterns if any(work.glob(pattern))] or patterns
    return [run for pattern in there for run in read_runs(work, pattern=pattern)]


def by_pair(runs: Runs, method: str, key: str = "score") -> dict[tuple[str, int], Any]:
    """(Held-out domain, trial) -> what the run of a method says."""
    return {(run["held_out"], run["trial"]): run[key] for run in runs if run["method"] == method}


def summary(runs: Runs, method: str) -> dict[str, Any]:
    """One method in one setting, and how it differs from Deep-All where both have a run."""
    mine, plain = by_pair(runs, method), by_pair(runs, REFERENCE)
    domains = sorted({domain for domain, _ in mine})
    entry: dict[str, Any] = {
        "runs": len(mine),
        "trials": len({trial for _, trial in mine}),
        "score": float(np.mean([np.mean(_of(mine, domain)) for domain in domains])),
        "domains": {
            d: {"mean": float(np.mean(_of(mine, d))), "sd": spread_of(_of(mine, d))} for d in domains
        },
        "at_home": float(np.mean(list(by_pair(runs, method, "at_home").values()))),
        "train_cpu_s": float(np.mean(list(by_pair(runs, method, "train_cpu_s").values()))),
        "share": np.mean(list(by_pair(runs, method, "share").values()), 0).round(4).tolist(),
        "layers": _stages(list(by_pair(runs, method, "layers").values())),
    }
    both = sorted(set(mine) & set(plain))
    if method != REFERENCE and both:
        entry["against"] = paired([mine[pair] - plain[pair] for pair in both], [domain for domain, _ in both])
        entry["against"]["p_trials"] = _p_of_trials(mine, plain, both)
        scores, others = by_pair(runs, method, "scores"), by_pair(runs, REFERENCE, "scores")
        if all(scores[pair] for pair in both):
            cases = sorted({(pair[0], case) for pair in both for case in scores[pair]})
            trials = {domain: [trial for d, trial in both if d == domain] for domain, _ in both}
            gains = [
                np.mean([scores[d, t][case] - others[d, t][case] for t in trials[d]]) for d, case in cases
            ]
            entry["against"]["cases"] = paired(gains)
    return entry


def _shared(runs: Runs) -> Runs:
    """The runs of the pairs of domain and trial that all methods here have, which alone can be compared."""
    pairs = [set(by_pair(runs, method)) for method in {run["method"] for run in runs}]
    both = set.intersection(*pairs) if pairs else set()
    return [run for run in runs if (run["held_out"], run["trial"]) in both]


def _of(mine: Mapping[tuple[str, int], float], domain: str) -> list[float]:
    return [value for (where, _), value in mine.items() if where == domain]


def _p_of_trials(
    mine: Mapping[tuple[str, int], float],
    plain: Mapping[tuple[str, int], float],
    both: Sequence[tuple[str, int]],
) -> float | None:
    """P of the paired t-test over the trials' means over domains; trials that lack a domain do not count."""
    domains = {domain for domain, _ in both}
    whole = [trial for trial in sorted({t for _, t in both}) if all((d, trial) in both for d in domains)]
    return p_over_runs([np.mean([mine[d, trial] - plain[d, trial] for d in domains]) for trial in whole])


def _stages(layers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean share of the layers of each part of the network, in its order."""
    found: dict[str, list[float]] = {}
    for name in layers[0]:
        stage = re.match(r"network\.(.*?blocks\.\d+|[^.]+(?:\.body\.[^.]+)?)", name)
        found.setdefault(stage[1] if stage else name, []).extend(each[name] for each in layers)
    return {stage: float(np.mean(values)) for stage, values in found.items()}


def record_of(runs: Runs) -> dict[str, Any]:
    """Everything that the report says, with the commands that did the runs."""
    script, commands, settings = "python experiments/surgery_evidence.py", [], {}
    for name in SETTINGS:
        mine = _shared([run for run in runs if run["setting"] == name])
        if not mine:
            continue
        values = mine[0]["settings"]
        how = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in values.items())
        only = " ".join(sorted({f"{run['method']}:{run['trial']}" for run in mine}))
        commands.append(f"{script} --setting {name} --root DIR --work WORK {how} --only {only}")
        settings[name] = {
            "settings": values,
            "cases": {run["held_out"]: run["cases"] for run in mine},
            "commits": sorted({str(run.get("commit")) for run in mine}),
            "methods": {m: summary(mine, m) for m in METHODS if by_pair(mine, m)},
        }
    commands.append(f"{script} --root DIR --work WORK --report --out docs/evidence")
    return {"commands": commands, "settings": settings}


def report(record: Mapping[str, Any], picture: str) -> str:
    """The Markdown."""
    lines = [
        "# Gradient surgery: domains that were never seen",
        "",
        "Networks learn from all domains but one, with equal shares of each in every batch, and are measured "
        "on all images of the one that is held out, of both its splits. The methods share seeds, batches and "
        "starting weights in each trial. EfficientNet-Lite0 with ImageNet weights, alone or as the encoder "
        "of a U-Net; the statistics of batch normalisation are frozen. Deep-All is the mean of the domains' "
        "gradients, here that of one loss over the batch. AdamW with a cosine schedule, no augmentation, "
        "last weights. Settings were fixed beforehand, and nothing was chosen on these images. At home: "
        "validation images of the domains that were seen. The withheld part of the data is not counted.",
        "",
        *(f"`{command}`  " for command in record["commands"]),
        "",
        f"![Share of the gradient in agreement over the steps]({picture})",
    ]  # fmt: skip
    for name, found in record["settings"].items():
        lines += ["", f"## {HEADS[name]}", "", _how(found), "", *_scores_table(found), ""]
        lines += [
            "Mean ± standard deviation over the trials. Difference from Deep-All over pairs of domain and "
            "trial with the 95 % interval; p of the paired t-test over the trials' means and of Wilcoxon's "
            "signed-rank test over these pairs, which takes the domains of a trial as independent"
            + (", and of Wilcoxon's over patients." if name == "lgg" else "."),
            "",
            "Share of the components of the gradient whose sign is that of all domains, first and last "
            f"{WINDOW} steps, then on average in parts of the network:",
            "",
            *_shares_table(found),
        ]
    return "\n".join(lines) + "\n"


def _how(found: Mapping[str, Any]) -> str:
    s, cases = found["settings"], ", ".join(f"{domain} {count}" for domain, count in found["cases"].items())
    return (
        f"Input {s['size']} × {s['size']}, {s['steps']} steps of {s['per_domain']} images of each domain, "
        f"learning rate {s['lr']:g}. Measured: {cases}. Commits {', '.join(found['commits'])}."
    )


def _scores_table(found: Mapping[str, Any]) -> list[str]:
    domains = list(found["cases"])
    rows = []
    for method, entry in found["methods"].items():
        row = [METHODS[method][1], str(entry["trials"])]
        for domain in domains:
            number = entry["domains"].get(domain)
            spread = "" if number is None or number["sd"] is None else f" ± {number['sd']:.3f}"
            row.append("–" if number is None else f"{number['mean']:.3f}{spread}")
        row += [f"{entry['score']:.3f}", f"{entry['at_home']:.3f}"]
        test = entry.get("against")
        if test is None:
            row += ["–", "–"]
        else:
            row.append(f"{test['difference']:+.3f} ({test['ci_low']:+.3f} to {test['ci_high']:+.3f})")
            ps = [test["p_trials"], test["p"], *([test["cases"]["p"]] if "cases" in test else [])]
            row.append(", ".join("–" if p is None else f"{p:.2g}" for p in ps))
        rows.append([*row, f"{entry['train_cpu_s']:.0f}"])
    head = ["method", "trials", *domains, "mean", "at home", "difference", "p", "s of CPU"]
    return markdown_table(head, rows)


def _shares_table(found: Mapping[str, Any]) -> list[str]:
    stages = list(next(iter(found["methods"].values()))["layers"])
    rows = []
    for method, entry in found["methods"].items():
        ends = [np.mean(entry["share"][:WINDOW]), np.mean(entry["share"][-WINDOW:])]
        rows.append([METHODS[method][1], *(f"{v:.3f}" for v in (*ends, *entry["layers"].values()))])
    return markdown_table(["method", "first", "last", *stages], rows)


def draw(runs: Runs, path: Path) -> None:
    """The share in agreement over the steps, a panel for each setting, a line for each method."""
    from matplotlib.figure import Figure

    names = [name for name in SETTINGS if any(run["setting"] == name for run in runs)]
    figure = Figure(figsize=(4.5 * len(names), 3.2), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for method, (_, label) in METHODS.items():
            curves = [r["share"] for r in runs if (r["setting"], r["method"]) == (name, method)]
            if curves:
                axes.plot(
                    1 + np.arange(len(curves[0])), np.mean(curves, 0), color=COLOURS[method], label=label
                )
        axes.axhline(0.25, color="0.6", linewidth=1)  # three signs by chance
        axes.set_title(HEADS[name].split(",")[0], loc="left", fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylabel("share in agreement")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
