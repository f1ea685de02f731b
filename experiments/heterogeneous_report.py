"""The report of the experiment on heterogeneous labels: means over its runs, tables and figure."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from comparing import summary_of
from heterogeneous_codes import FOLDS
from heterogeneous_design import ARMS, BORDER, CLIP_LIMIT, DOMAINS, GAMMA, ORGANS

from anatozoo.metrics.tables import markdown_table

LATENT = ("logistic", "neighbours", "silhouette", "mmd2", "mmd_p")


def summaries(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each organ, hospital and arm: mean and deviation over the runs, and p against HybridGNet."""
    keys = sorted({(run["organ"], run["domain"], run["arm"]) for run in runs}, key=_order)
    result = []
    for organ, domain, arm in keys:
        mine = _numbers(runs, organ, domain, arm)
        reference = _numbers(runs, organ, domain, "hybridgnet") if arm != "hybridgnet" else {}
        entry: dict[str, Any] = {"organ": organ, "missing in": domain, "arm": arm, "seeds": mine["seeds"]}
        for name, values in mine.items():
            if name == "seeds":
                continue
            entry[name] = summary_of(values)
            if (p := _welch(values, reference.get(name, []))) is not None:
                entry[name]["p"] = p
        result.append(entry)
    return result


def _order(key: tuple[str, str, str]) -> tuple[int, str, int]:
    return ("heart", "lungs").index(key[0]), key[1], list(ARMS).index(key[2])


def _numbers(runs: Sequence[Mapping[str, Any]], organ: str, domain: str, arm: str) -> dict[str, list[float]]:
    """Number -> its value in each run of an arm."""
    mine = [r for r in runs if (r["organ"], r["domain"], r["arm"]) == (organ, domain, arm)]
    found: dict[str, list[float]] = {"seeds": [run["seed"] for run in mine]}
    for look, each in itertools.product(DOMAINS, ORGANS):
        found[f"{each} in {look}"] = [
            float(np.mean([row[each] for row in run["rows"] if row["look"] == look])) for run in mine
        ]
    for where, name in itertools.product(("unseen", "trained"), LATENT):
        found[f"{where} {name}"] = [run[where][name] for run in mine]
    found["train_cpu_s"] = [run["train_cpu_s"] for run in mine]
    return found


def _welch(values: Sequence[float], reference: Sequence[float]) -> float | None:
    """P of Welch's t-test over runs; None with fewer than two runs, or where runs do not differ at all."""
    from scipy.stats import ttest_ind

    if min(len(values), len(reference)) < 2 or np.ptp(values) + np.ptp(reference) == 0:
        return None
    return float(ttest_ind(values, reference, equal_var=False).pvalue)


def _cell(number: Mapping[str, Any], digits: int = 3, *, p: bool = False) -> str:
    text = f"{number['mean']:.{digits}f}"
    if number["sd"] is not None:
        text += f" ± {number['sd']:.{digits}f}"
    return text + (f" (p {number['p']:.1g})" if p and "p" in number else "")


def report(record: Mapping[str, Any], picture: str) -> str:
    """The Markdown."""
    lines = ["# Labels that differ from hospital to hospital", "", *record["about"], ""]
    lines += [f"`{command}`  " for command in record["commands"]]
    lines += ["", f"![Dice of the organ that is missing, and codes by hospital]({picture})", ""]
    for (organ, domain), group in itertools.groupby(
        record["arms"], key=lambda entry: (entry["organ"], entry["missing in"])
    ):
        entries = list(group)
        columns = [f"{each} in {look}" for each in ORGANS for look in DOMAINS]
        head = [f"**{column}**" if column == f"{organ} in {domain}" else column for column in columns]
        dice = [
            [ARMS[e["arm"]].label, str(len(e["seeds"]))]
            + [_cell(e[column], p=column == f"{organ} in {domain}") for column in columns]
            for e in entries
        ]
        names = [f"{where} {name}" for where in ("unseen", "trained") for name in LATENT]
        codes = [[ARMS[e["arm"]].label] + [_cell(e[name]) for name in names] for e in entries]
        lines += [
            f"## No {organ} drawn in {domain}",
            "",
            "Dice, mean ± standard deviation over the runs; p against HybridGNet, Welch's t-test over runs.",
            "",
            *markdown_table(["network", "runs", *head], dice),
            "",
            "How far codes keep the hospitals apart: accuracy of logistic regression and of the five nearest "
            f"neighbours in {FOLDS} folds (chance 0.5), silhouette, squared MMD and its p. Unseen: "
            "validation images in both looks. Trained: training images, each in its own look.",
            "",
            *markdown_table(["network", *names], codes),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def about(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was done, in words."""
    settings = runs[0]["settings"]
    images = len({row["id"] for row in runs[0]["rows"]})
    return [
        "Two hospitals are simulated with the training images of JSRT, half of them each. B looks different: "
        f"gamma {GAMMA}, CLAHE with the clip limit {CLIP_LIMIT:g}, a fixed curve of grey values, marks burnt "
        f"in, and {BORDER:.0%} black at each edge. One organ is taken from the labels of one hospital, as in "
        "the experiment of Gaggion et al., ISBI 2023, whose other hospitals are not public. Networks are "
        f"trained on both with equal probability and measured on the {images} validation images in both "
        "looks, at the size of the image, the heart cutting the lungs on both sides.",
        "",
        f"Input {settings['size']} × {settings['size']}, {settings['steps']} steps of {settings['batch']} "
        f"images (1.5 times as many for HybridGNet, whose steps are shorter), {settings['precision']}, AdamW "
        "at 1e-3 with a cosine schedule, the augmentation of the publication, an average of weights over "
        "the last hundred steps. HybridGNet has the publication's loss, or refinement and loss of the zoo's "
        "weights (refined, without anchors). Its encoder with ImageNet weights is that of the U-Nets too; "
        "DynUNet starts from random weights. Settings were fixed beforehand, and nothing was chosen on the "
        "validation images.",
        "",
        *_of_commits(runs),
    ]


def _names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [" ".join(str(run[key]) for key in ("organ", "domain", "arm", "seed")) for run in runs]


def _of_commits(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sources that made the runs, a line each."""
    of: dict[str | None, list[str]] = {}
    for name, run in zip(_names(runs), runs, strict=True):
        of.setdefault(run.get("commit"), []).append(name)
    return [f"Runs of commit {commit or 'not recorded'}: {', '.join(names)}." for commit, names in of.items()]


def draw(runs: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Above, the Dice of the missing organ in both looks; below, codes of validation images on two axes."""
    from matplotlib.figure import Figure

    organ, domain = found[0]["organ"], found[0]["missing in"]
    entries = [e for e in found if (e["organ"], e["missing in"]) == (organ, domain)]
    colours = {"A": "#0072b2", "B": "#d55e00"}
    figure = Figure(figsize=(2.3 * len(entries), 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    ax = above.subplots()
    for place, entry in enumerate(entries):
        numbers = _numbers(runs, organ, domain, entry["arm"])
        for shift, look in zip((-0.2, 0.2), DOMAINS, strict=True):
            values = numbers[f"{organ} in {look}"]
            ax.bar(place + shift, np.mean(values), 0.36, color=colours[look], alpha=0.75)
            ax.plot([place + shift] * len(values), values, "k.", ms=4)
    ax.set_xticks(
        range(len(entries)), [ARMS[e["arm"]].label.replace(", ", ",\n") for e in entries], fontsize=8
    )
    ax.set_title(f"Dice of the {organ}, which nobody drew in {domain}", loc="left", fontsize=10)
    ax.set_ylim(0, 1)
    ax.spines[["top", "right"]].set_visible(False)
    for look in DOMAINS:
        ax.bar(0, 0, color=colours[look], alpha=0.75, label=f"images that look like {look}")
    above.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    for ax, entry in zip(np.atleast_1d(below.subplots(1, len(entries))), entries, strict=True):
        run = next(r for r in runs if (r["organ"], r["domain"], r["arm"]) == (organ, domain, entry["arm"]))
        codes = np.asarray(run["codes"])
        x = (codes - codes.mean(0)) / np.maximum(codes.std(0), 1e-9)
        places = x @ np.linalg.svd(x, full_matrices=False)[2][:2].T
        for look, part in zip(DOMAINS, np.split(places, 2), strict=True):
            ax.plot(part[:, 0], part[:, 1], ".", color=colours[look])
        told = entry["unseen logistic"]["mean"]
        ax.set_title(f"told apart: {told:.2f}", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def record_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that the report says, with the commands that did the runs."""
    settings, found = runs[0]["settings"], summaries(runs)
    places = list(dict.fromkeys((e["organ"], e["missing in"]) for e in found))
    script = "python experiments/heterogeneous_labels.py --root DIR --work WORK"
    how = " ".join(f"--{name} {value}" for name, value in settings.items())
    arms = dict.fromkeys(run["arm"] for run in runs)
    only = "" if set(arms) == set(ARMS) else f" --only {' '.join(arms)}"
    commands = [f"{script} --organ {organ} --remove-from {domain}{only} {how}" for organ, domain in places]
    return {
        "commands": [*commands, f"{script} --report --out docs/evidence"],
        "commits": {name: run.get("commit") for name, run in zip(_names(runs), runs, strict=True)},
        "about": about(runs),
        "arms": found,
    }
