"""Trained on the young, tested on the old, and the reverse: HybridGNet and U-Net on JSRT.

    python experiments/age_shift.py --root DIR --runs RUNS [--steps 350] [--size 256] [--threads 1] \
        --out docs/evidence

`--root` holds JSRT and the landmark data set, whose ``clinical.csv`` says how old the patients are. Only
images of the train and val splits are used: the test split is for the last measurement of finished models.
The two are taken together, for nothing is chosen on either here: settings are fixed beforehand, every fit
takes the same number of steps, and the weights at its end are measured.

Patients under 50 and over 65 are each dealt to training and testing, men and women in proportion, so that
both trainings have equally many images: two thirds of the smaller group. Each method is trained on either
group. What age does is then read from images that no model has seen, and of which both models of a method
have been asked: their values by the model trained on the other age minus those by the model trained on their
own. That some patients are harder for every model does not enter.

Both methods have the settings of their shipped ``jsrt.yaml``, without clavicles, at a smaller size (the
networks take any multiple of 32), and an average of weights over the last hundred steps.

A fit and its measurements are kept in a folder of `--runs` each. The same command goes on where it stopped,
within a fit too. `--only` does some of the four, so that they can be run apart.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from comparing import write
from fitting import WARMUP_STEPS, by_hash, keep_quiet, options_of_fits, shipped, trainer_of
from lightning.pytorch.callbacks import ModelCheckpoint

from anatozoo.data.layouts.chest import case_of
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.metrics.cases import Measures
from anatozoo.metrics.compare import compare_rows
from anatozoo.metrics.paired import Comparison
from anatozoo.metrics.statistics import bootstrap_interval, paired_test
from anatozoo.metrics.tables import markdown_table, provenance
from anatozoo.tasks.trials import Conditions, measured
from anatozoo.zoo.files import write_text
from anatozoo.zoo.registry import find_method

YOUNG, OLD = "under 50", "over 65"
GROUPS = (YOUNG, OLD)
METHODS = {"hybridgnet": "HybridGNet", "unet": "U-Net"}
ORGANS = "lungs_heart"
SPACING_MM = 0.35
METRICS = ("dice/lungs", "dice/heart", "hd_mm/lungs", "hd_mm/heart")
TRAINED_SHARE = 2 / 3
SAVE_EPOCHS = 6
STEM = "age-shift"


# --- patients ----------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """Patients of one age: those that its models are trained on, and those that no model sees."""

    train: list[ChestCase]
    held_out: list[ChestCase]

    @property
    def everybody(self) -> list[ChestCase]:
        """All of them, in order of their names."""
        return sorted([*self.train, *self.held_out], key=lambda case: case.id)


class Run(NamedTuple):
    """One of the four models."""

    method: str
    trained_on: str

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.method}_{self.trained_on.replace(' ', '-')}"


RUNS = tuple(Run(method, group) for group in GROUPS for method in METHODS)


def group_of(case: ChestCase) -> str | None:
    """Under 50, over 65, or None for those between and those of unknown age."""
    age = case.metadata.get("age")
    if not age:
        return None
    return YOUNG if age < 50 else OLD if age > 65 else None


def find_patients(root: Path) -> list[ChestCase]:
    """JSRT's images of the train and val splits that have contours; those of the test split are not touched.

    Raises:
        DataError: there is none.
    """
    cases = [
        case
        for case in index_chest(root, "jsrt")
        if case.split in ("train", "val") and case.image is not None and "heart" in case.landmarks
    ]
    if not cases:
        raise DataError(f"{root} has no image of JSRT's train and val splits with landmarks.")
    return cases


def deal(cases: Sequence[ChestCase]) -> dict[str, Group]:
    """Training and test patients of each age; equally many in both trainings, sexes in proportion.

    The order is that of a hash of the names, so that it does not depend on anything that the names may mean.

    Raises:
        DataError: there are fewer than three patients of an age.
    """
    members = {group: [case for case in cases if group_of(case) == group] for group in GROUPS}
    smallest = min(map(len, members.values()))
    if smallest < 3:
        counts = ", ".join(f"{len(found)} {group}" for group, found in members.items())
        raise DataError(f"there are only {counts}; does --root hold clinical.csv, which says their age?")
    count = round(TRAINED_SHARE * smallest)
    return {
        group: Group(ordered[:count], ordered[count:])
        for group, found in members.items()
        if (ordered := _in_proportion(found))
    }


def _in_proportion(cases: Sequence[ChestCase]) -> list[ChestCase]:
    """The cases in an order of which every beginning has about the same share of women."""
    ordered = by_hash(cases)
    places: dict[str, float] = {}
    for sex in {str(case.metadata.get("sex")) for case in cases}:
        names = [case.id for case in ordered if str(case.metadata.get("sex")) == sex]
        places |= {name: (place + 0.5) / len(names) for place, name in enumerate(names)}
    return sorted(ordered, key=lambda case: places[case.id])


# --- models ------------------------------------------------------------------------------------------------


def make_module(method: str, size: int) -> Any:
    """A fresh network with the shipped settings of its method, for lungs and heart at a side of `size`."""
    model = shipped(f"{method}/jsrt.yaml")["model"]
    frame, optim = model["frame"] | {"size": size}, model["optim"] | {"warmup_steps": WARMUP_STEPS}
    settings = model | {"organs": ORGANS, "frame": frame, "optim": optim}
    if "anchors" in settings:
        settings["anchors"] = {k: v for k, v in settings["anchors"].items() if not k.startswith("clavicle")}
    return find_method(method).module_class()(**settings)


def train(run: Run, cases: Sequence[ChestCase], folder: Path, options: argparse.Namespace) -> Any:
    """Train a model, or go on with its training, or load it if it is trained.

    Args:
        run: which.
        cases: its training images.
        folder: where its weights are kept.
        options: of the command line.
    """
    L.seed_everything(options.seed, verbose=False)
    module, weights = make_module(run.method, options.size), folder / "weights.pt"
    if not weights.is_file():
        data = find_method(run.method).data_class()(
            root=str(options.root),
            layout="jsrt",
            organs=ORGANS,
            frame=FrameSpec(options.size),
            batch_size=options.batch,
        )
        # Chosen by age rather than by split; the second is never asked for.
        chosen = [case_of(case) for case in cases]
        data.sets = {split: data.dataset(chosen, split) for split in ("train", "val")}
        # At the end of an epoch a fit goes on exactly as it would have.
        keep = ModelCheckpoint(
            folder, save_last=True, save_top_k=0, every_n_epochs=SAVE_EPOCHS, save_on_train_epoch_end=True
        )
        trainer = trainer_of(options.steps, keep)
        last = folder / "last.ckpt"
        trainer.fit(module, data, ckpt_path=str(last) if last.is_file() else None)
        torch.save(module.state_dict(), weights)
        last.unlink(missing_ok=True)
    module.load_state_dict(torch.load(weights, weights_only=True))
    return module.eval()


def measure(module: Any, tests: Mapping[str, Sequence[ChestCase]], unseen: set[str]) -> pd.DataFrame:
    """One row per test image: Dice and Hausdorff distance, organs drawn without overlap as in a label map.

    Args:
        module: the model.
        tests: age group -> its images.
        unseen: names of the images that no model was trained on.
    """
    how = Conditions(Measures(plausibility=False), (SPACING_MM,), exclusive=True)
    rows = []
    for group, cases in tests.items():
        for row in measured(module, module.trials([case_of(case) for case in cases], how), how.measures):
            known = {"id": row["id"], "tested_on": group, "unseen": row["id"] in unseen}
            rows.append(known | {name: row[name] for name in METRICS})
    return pd.DataFrame(rows)


def rows_of(run: Run, groups: Mapping[str, Group], options: argparse.Namespace) -> pd.DataFrame:
    """Train and measure a model, or read what was measured.

    Raises:
        ConfigError: the folder holds a model with other settings.
    """
    folder = options.runs / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    here = {name: getattr(options, name) for name in ("size", "steps", "batch", "seed")}
    here["images"] = [case.id for case in groups[run.trained_on].train]
    settings, table = folder / "settings.json", folder / "rows.csv"
    if settings.is_file() and json.loads(settings.read_text()) != here:
        raise ConfigError(f"{folder} holds a model with other settings; choose another folder for --runs.")
    write_text(settings, json.dumps(here) + "\n")
    if not table.is_file():
        print(f"{METHODS[run.method]} on patients {run.trained_on}: {len(here['images'])} images", flush=True)
        start = time.perf_counter()
        module = train(run, groups[run.trained_on].train, folder, options)
        tests = {
            group: members.held_out if group == run.trained_on else members.everybody
            for group, members in groups.items()
        }
        unseen = {case.id for members in groups.values() for case in members.held_out}
        measure(module, tests, unseen).to_csv(table, index=False)
        print(f"  done after {time.perf_counter() - start:.0f} s", flush=True)
    return pd.read_csv(table)


# --- what the rows say -------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A model's rows of the test images of one age."""

    run: Run
    tested_on: str
    rows: pd.DataFrame

    @property
    def same_age(self) -> bool:
        """Whether the model was trained on patients of this age."""
        return self.run.trained_on == self.tested_on


def parts(tables: Mapping[Run, pd.DataFrame], *, unseen: bool) -> Iterator[Part]:
    """Rows by model and age of the test images.

    Args:
        tables: rows of each model.
        unseen: of the images that no model has seen; False: of all images of the other age.
    """
    for tested_on in GROUPS:
        for run, table in sorted(
            tables.items(), key=lambda item: (item[0].method, item[0].trained_on != tested_on)
        ):
            rows = table[table["tested_on"] == tested_on]
            if unseen:
                yield Part(run, tested_on, rows[rows["unseen"]])
            elif run.trained_on != tested_on:
                yield Part(run, tested_on, rows)


def means(found: Iterator[Part]) -> list[dict[str, Any]]:
    """Mean and 95 % bootstrap interval of each metric, for each part."""
    result = []
    for part in found:
        values = part.rows[list(METRICS)].to_numpy(np.float64)
        low, high = bootstrap_interval(values)
        result.append(
            {
                "method": part.run.method,
                "trained on": part.run.trained_on,
                "tested on": part.tested_on,
                "n": len(values),
                "metrics": {
                    name: {
                        "mean": float(values[:, i].mean()),
                        "ci_low": float(low[i]),
                        "ci_high": float(high[i]),
                    }
                    for i, name in enumerate(METRICS)
                },
            }
        )
    return result


def shifts(tables: Mapping[Run, pd.DataFrame]) -> list[tuple[str, str, Comparison]]:
    """Method, age of the test images, and the model of the other age against that of their own."""
    result = []
    for method in METHODS:
        for group in GROUPS:
            two = {
                part.same_age: part.rows
                for part in parts(tables, unseen=True)
                if part.run.method == method and part.tested_on == group
            }
            names = ("trained on their age", "trained on the other age")
            result.append((method, group, compare_rows(two[True], two[False], names, METRICS)))
    return result


def method_differences(found: Sequence[tuple[str, str, Comparison]]) -> list[dict[str, Any]]:
    """Whether the shift costs U-Net more than HybridGNet: the same images, difference of the differences."""
    of = {(method, group): comparison for method, group, comparison in found}
    result = []
    for group in GROUPS:
        for name in METRICS:
            graph, pixels = (of[method, group].metrics[name] for method in METHODS)
            test = paired_test((pixels.b - pixels.a) - (graph.b - graph.a))
            result.append(
                {"tested on": group, "metric": name, "n": test.n, "difference": test.difference}
                | {"ci_low": test.ci_low, "ci_high": test.ci_high, "p": test.p}
            )
    return result


# --- tables and picture ------------------------------------------------------------------------------------


def _digits(metric: str) -> int:
    return 4 if metric.startswith("dice") else 2


def _words(metric: str) -> str:
    kind, organ = metric.split("/")
    return f"{'Dice' if kind == 'dice' else 'HD (mm)'} {organ}"


def _signed(value: float, metric: str) -> str:
    return f"{value:+.{_digits(metric)}f}".replace("-", "−")


def means_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table of means with their intervals."""
    rows = []
    for entry in found:
        cells = []
        for name in METRICS:
            m, digits = entry["metrics"][name], _digits(name)
            cells.append(f"{m['mean']:.{digits}f} ({m['ci_low']:.{digits}f} to {m['ci_high']:.{digits}f})")
        rows.append(
            [f"{entry['tested on']} (n {entry['n']})", METHODS[entry["method"]], entry["trained on"], *cells]
        )
    return markdown_table(["tested on", "method", "trained on", *map(_words, METRICS)], rows)


def shift_lines(found: Sequence[tuple[str, str, Comparison]]) -> list[str]:
    """Lines of a table of what training on the other age changes."""
    rows = []
    for method, group, comparison in found:
        cells = []
        for name in METRICS:
            t = comparison.metrics[name]
            ends = f"{_signed(t.test.ci_low, name)} to {_signed(t.test.ci_high, name)}"
            cells.append(f"{_signed(t.test.difference, name)} ({ends}; p {t.p_holm:.2g})")
        rows.append([f"{group} (n {comparison.images})", METHODS[method], *cells])
    return markdown_table(["tested on", "method", *map(_words, METRICS)], rows)


def method_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table of how much more the shift costs U-Net."""
    rows = []
    for group in GROUPS:
        entries = [entry for entry in found if entry["tested on"] == group]
        cells = [
            f"{_signed(e['difference'], e['metric'])} ({_signed(e['ci_low'], e['metric'])} to "
            f"{_signed(e['ci_high'], e['metric'])}; p {e['p']:.2g})"
            for e in entries
        ]
        rows.append([f"{group} (n {entries[0]['n']})", *cells])
    return markdown_table(["tested on", *map(_words, METRICS)], rows)


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Means with their intervals by age of the test images: filled where trained on it, hollow where not."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    colours = dict(zip(METHODS, ("#0072b2", "#d55e00"), strict=True))
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for ax, metric in zip(axes.ravel(), METRICS, strict=True):
        for entry in found:
            method, same = entry["method"], entry["trained on"] == entry["tested on"]
            x = GROUPS.index(entry["tested on"]) + (-0.16, 0.16)[method == "unet"] + (0.05, -0.05)[same]
            m = entry["metrics"][metric]
            ends = [[m["mean"] - m["ci_low"]], [m["ci_high"] - m["mean"]]]
            face = colours[method] if same else "white"
            style = {"color": colours[method], "mfc": face, "marker": "o", "ms": 7, "capsize": 3}
            ax.errorbar([x], [m["mean"]], ends, **style)
        ax.set_title(_words(metric), loc="left", fontsize=10)
        ax.grid(axis="y", color="0.9")
        ax.set_xticks(range(len(GROUPS)), [f"tested on {group}" for group in GROUPS])
        ax.set_xlim(-0.5, 1.5)
        ax.spines[["top", "right"]].set_visible(False)
    marks = [Line2D([], [], color=colours[m], marker="o", ls="", label=name) for m, name in METHODS.items()]
    for face, label in (("0.3", "trained on this age"), ("white", "trained on the other age")):
        marks.append(Line2D([], [], color="0.3", mfc=face, marker="o", ls="", label=label))
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def about(groups: Mapping[str, Group], options: argparse.Namespace) -> list[str]:
    """Where the numbers come from, in words."""
    lines = []
    for group, members in groups.items():
        counts = []
        for part, cases in (("trained on", members.train), ("unseen", members.held_out)):
            women = sum(case.metadata.get("sex") == "F" for case in cases)
            ages = [case.metadata["age"] for case in cases]
            counts.append(
                f"{len(cases)} {part} ({women} women, ages {min(ages):g} to {max(ages):g}, mean "
                f"{np.mean(ages):.0f})"
            )
        lines.append(f"- {group}: {'; '.join(counts)}")
    return [
        "Images of JSRT's train and val splits, none of its test split. The two are taken together, for "
        "nothing was chosen on either: settings were fixed beforehand and the weights of the last step "
        "measured. Patients of 50 to 65 and of unknown age are left out.",
        "",
        *lines,
        "",
        f"Input {options.size} × {options.size}, {options.steps} steps of {options.batch} images, seed "
        f"{options.seed}; encoder from ImageNet, no other weights. Measured at 1024 × 1024 with "
        f"{SPACING_MM} mm per pixel against the contours of the landmark data set, the heart cutting the "
        "lungs on both sides. "
        "Intervals are 95 % bootstrap intervals over patients.",
    ]


def report(record: Mapping[str, Any], found: Sequence[tuple[str, str, Comparison]], images: str) -> str:
    """The Markdown."""
    lines = [
        "# Age shift on JSRT",
        "",
        *record["about"],
        "",
        f"`{record['command']}`",
        "",
        f"![Dice and Hausdorff distance by age]({images})",
        "",
        "## Images that no model has seen",
        "",
        *means_lines(record["unseen"]),
        "",
        "## What training on the other age changes",
        "",
        "On the same images, trained on the other age minus trained on theirs; p of the paired Wilcoxon "
        f"signed-rank test, corrected by Holm's method for the {len(METRICS)} metrics of a row.",
        "",
        *shift_lines(found),
        "",
        "How much more that costs U-Net than HybridGNet, difference of the differences on the same images; p "
        "not corrected. Of Dice below 0, and of distances above, HybridGNet loses less.",
        "",
        *method_lines(record["methods"]),
        "",
        "## All images of the other age",
        "",
        *means_lines(record["all of the other age"]),
        "",
        "One fit of each model: another seed may change what is smaller than the difference of two fits. The "
        "groups are small, and an interval that includes 0 does not show that there is no shift.",
    ]
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = options_of_fits(__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the fits, to go on with")
    parser.add_argument("--steps", type=int, default=350, help="of each fit (default: 350)")
    parser.add_argument("--seed", type=int, default=1, help="of every fit (default: 1)")
    parser.add_argument(
        "--only", nargs="+", choices=[run.folder for run in RUNS], help="do these, and write no report"
    )
    return parser.parse_args()


def main() -> None:
    """Parse the options, train and measure what is missing, write tables and picture."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    keep_quiet()
    groups = deal(find_patients(options.root))
    tables = {
        run: rows_of(run, groups, options) for run in RUNS if not options.only or run.folder in options.only
    }
    if options.only:
        return
    found = shifts(tables)
    command = (
        f"python experiments/age_shift.py --root DIR --runs RUNS --steps {options.steps} "
        f"--size {options.size} --batch {options.batch} --seed {options.seed} --out docs/evidence"
    )
    record = {
        "command": command,
        **provenance(("torch", "numpy")),
        "about": about(groups, options),
        "unseen": means(parts(tables, unseen=True)),
        "all of the other age": means(parts(tables, unseen=False)),
        "shift": [{"method": m, "tested on": g, **comparison.to_dict()} for m, g, comparison in found],
        "methods": method_differences(found),
    }
    text = report(record, found, f"../images/{STEM}.png")
    print(text)
    if options.out is not None:
        write(options.out, f"{STEM}_experiment", record, text)
        draw(record["unseen"], options.images / f"{STEM}.png")


if __name__ == "__main__":
    main()
