"""Do orthogonal filters make better ensembles? Random, self- and inter-orthogonal members on FLAIR slices.

    python experiments/lgg_slices.py --root LGG --to FOLDER
    python experiments/orthogonal_evidence.py --root FOLDER --work WORK [--only inter:1 inter:2]
    python experiments/orthogonal_evidence.py --root FOLDER --work WORK --report --out docs/evidence

After Larrazabal et al., "Orthogonal Ensemble Networks for Biomedical Image Segmentation", MICCAI 2021, on
another data set: abnormal FLAIR signal of lower-grade gliomas in slices of 128 x 128, most of which show
none. An arm is the U-Net of ``unet/lgg.yaml`` with the Dice loss alone (random), with 0.1 of
self-orthogonality (self), or with 0.1 of inter-orthogonality besides (inter), where each member keeps away
from those before it. A run trains five members one after another; members of one number have the same start
and the same batches in all arms, and the first one of inter, with nobody to keep away from, is that of self.
Nothing is chosen on the validation patients: settings were fixed beforehand, and the averaged weights of the
last steps are measured.

Ensembles of 1 and 3 are the mean over all choices of so many of the five members. Dice, Brier and the Brier
score of the pixels of tumour alone (stratified) are of all pixels of a patient, in the frame of the network,
then means over patients. A member is kept in a folder of `--work` and trained once; a run's numbers are a
file.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from comparing import mean_and_spread, options_of, p_cell, p_over_runs, paired, summary_of, table_lines, write
from fitting import WARMUP_STEPS, keep_quiet, shipped, trainer_of
from kept import add_run_options, commits_of, design_of, keep, make_once, parse_run_options, read_runs

import anatozoo
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.metrics.calibration import brier
from anatozoo.metrics.ensembles import disagreement, variance_on_errors, vote_variance
from anatozoo.metrics.functional import dice
from anatozoo.nn.filters import filter_layers, mean_cosine
from anatozoo.objectives import Orthogonal
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder

ARMS = {"random": (0.0, 0.0), "self": (0.1, 0.0), "inter": (0.1, 0.1)}
"""Weights of self- and inter-orthogonality."""
RUNS, MEMBERS, SIZES, STEPS = (1, 2, 3), 5, (1, 3, 5), 400
METRICS = ("dice", "brier", "brier_foreground")
DIVERSITY = ("cosine", "disagreement", "variance_on_errors")
PAIRS = (("self", "random"), ("inter", "self"), ("inter", "random"))
NAME, CONFIG = "orthogonal-ensembles_experiment", "unet/lgg.yaml"
Array = np.ndarray


# --- training ----------------------------------------------------------------------------------------------


def data_of(options: argparse.Namespace) -> UNetDataModule:
    """The slices, ready for a fit."""
    settings = shipped(CONFIG)
    data = UNetDataModule(
        root=str(options.root),
        layout="folder",
        organs=settings["model"]["organs"],
        frame=FrameSpec(options.size),
        batch_size=options.batch,
        augment=settings["data"]["augment"],
    )
    data.setup("fit")
    return data


def fit(
    arm: str, run: int, earlier: Sequence[Path], data: UNetDataModule, options: argparse.Namespace
) -> Any:
    """Train the member that follows the earlier ones."""
    L.seed_everything(100 * run + len(earlier), verbose=False)
    model = dict(shipped(CONFIG)["model"])
    optim = Optim(**{**model.pop("optim"), "warmup_steps": WARMUP_STEPS})
    module = UNetModule(**{**model, "frame": FrameSpec(options.size)}, optim=optim)
    weights = ARMS[arm]
    members = [str(folder) for folder in earlier] if weights[1] else []
    objectives = [Orthogonal(*weights, members=members)] if any(weights) else []
    trainer = trainer_of(options.steps, *objectives, precision=options.precision, enable_checkpointing=False)
    trainer.fit(module, data)
    return module.eval()


def members_of(
    arm: str, run: int, data: UNetDataModule, options: argparse.Namespace
) -> tuple[list[Path], float]:
    """The folders of a run's members, trained unless they are there, and the seconds of CPU of them all.

    The first one of inter has nobody to keep away from: it is that of self.
    """
    folders: list[Path] = []
    seconds = 0.0
    for number in range(MEMBERS):
        own = "self" if (arm, number) == ("inter", 0) else arm
        folder = options.work / f"{own}_{run}" / f"member{number}"

        def make(own: str = own, folder: Path = folder) -> None:
            module = fit(own, run, folders, data, options)
            name = f"unet-lgg-{own}{run}.{folder.name[-1]}"
            write_checkpoint_folder(module, folder, name=name, version="0.0.0", half=False)

        seconds += make_once(folder, settings_of(options), make)
        print(f"{arm} {run}, member {number}", flush=True)
        folders.append(folder)
    return folders, seconds


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What members and runs share."""
    settings = {name: getattr(options, name) for name in ("size", "steps", "batch", "precision")}
    return settings | {"design": design_of(ARMS, MEMBERS, shipped(CONFIG))}


# --- measuring ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def probabilities(model: Any, items: Any, batch: int) -> Array:
    """Probability of tumour (N, S, S) of all items."""
    found = []
    for start in range(0, len(items), batch):
        images = [items[index]["image"] for index in range(start, min(start + batch, len(items)))]
        found.append(model(torch.stack(images)).sigmoid()[:, 0].numpy())
    return np.concatenate(found)


def measure(votes: Array, truth: Array, patients: Array) -> list[dict[str, Any]]:
    """One row for each patient and size of the ensemble.

    Args:
        votes: (members, N, S, S) probabilities of tumour.
        truth: (N, S, S) bool.
        patients: (N,) names.
    """
    rows = []
    for patient in sorted(set(patients.tolist())):
        own = patients == patient
        p, y = votes[:, own], truth[own]
        for size in SIZES:
            chosen = [p[list(some)].mean(0) for some in itertools.combinations(range(len(p)), size)]
            values = [(dice(q > 0.5, y), brier(q, y), brier(q, y, ignore=~y)) for q in chosen]
            means = np.mean(values, axis=0).tolist()
            rows.append({"patient": patient, "size": size} | dict(zip(METRICS, means, strict=True)))
    return rows


def diversity(votes: Array, truth: Array, patients: Array) -> dict[str, float]:
    """How far the members differ: of their masks over patients, and of probabilities on wrong pixels."""
    own = [patients == patient for patient in sorted(set(patients.tolist()))]
    apart = [disagreement(votes[:, some] > 0.5) for some in own]
    variance = vote_variance(votes[:, None])
    wrong = variance_on_errors(variance, votes.mean(0) > 0.5, truth)
    return {"disagreement": float(np.mean(apart)), "variance_on_errors": wrong}


def do(arm: str, run: int, data: UNetDataModule, options: argparse.Namespace) -> dict[str, Any]:
    """Train the members of a run and measure them; gives its record."""
    folders, seconds = members_of(arm, run, data, options)
    models = [anatozoo.load(folder, trainable=False) for folder in folders]
    items = data.sets["val"]
    votes = np.stack([probabilities(model, items, options.batch) for model in models])
    truth = np.stack([items[index]["labels"].numpy() > 0 for index in range(len(items))])
    patients = np.array([case.subject for case in items.cases])
    layers, states = filter_layers(models[0]), [model.state_dict() for model in models]
    cosines = [mean_cosine(a, b, layers) for a, b in itertools.combinations(states, 2)]
    return {
        "arm": arm,
        "run": run,
        "train": len(data.sets["train"]),
        "members_cpu_s": round(seconds, 1),
        "layers": len(layers),
        "rows": measure(votes, truth, patients),
        "diversity": {"cosine": float(np.mean(cosines))} | diversity(votes, truth, patients),
    }


# --- report ------------------------------------------------------------------------------------------------


def of_patients(runs: Sequence[Mapping[str, Any]], arm: str, size: int, metric: str) -> Array:
    """Values (runs, patients) of an arm."""
    mine = [run for run in runs if run["arm"] == arm]
    return np.array([[row[metric] for row in run["rows"] if row["size"] == size] for run in mine])


def compared(
    runs: Sequence[Mapping[str, Any]], pair: tuple[str, str], size: int, metric: str
) -> dict[str, Any]:
    """The first arm minus the second: mean, p over runs (paired t) and over patients (Wilcoxon)."""
    by_run = [{run["run"]: run for run in runs if run["arm"] == arm} for arm in pair]
    shared = sorted(set(by_run[0]) & set(by_run[1]))
    one, other = (
        of_patients([each[n] for n in shared], arm, size, metric)
        for each, arm in zip(by_run, pair, strict=True)
    )
    p = p_over_runs(one.mean(1) - other.mean(1))
    cases = paired(one.mean(0) - other.mean(0))
    return {"runs": len(shared), "difference": cases["difference"], "p_runs": p, "p_cases": cases["p"]}


def record_of(runs: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """Means and deviations over runs, and tests."""
    arms = [arm for arm in ARMS if any(run["arm"] == arm for run in runs)]
    means: dict[str, Any] = {}
    for arm in arms:
        numbers = [run["diversity"] for run in runs if run["arm"] == arm]
        means[arm] = {name: summary_of([each[name] for each in numbers]) for name in DIVERSITY} | {
            f"{metric}/{size}": summary_of(of_patients(runs, arm, size, metric).mean(1))
            for metric in METRICS
            for size in SIZES
        }
    tests = {
        f"{a} - {b}": {f"{m}/{s}": compared(runs, (a, b), s, m) for m in METRICS for s in SIZES}
        for a, b in PAIRS
        if a in arms and b in arms
    }
    patients = len({row["patient"] for row in runs[0]["rows"]})
    return {
        "command": command,
        "commits": commits_of(runs),
        "settings": runs[0]["settings"],
        "slices_of_training": runs[0]["train"],
        "patients": patients,
        "members": MEMBERS,
        "cpu_min": round(sum(run["members_cpu_s"] for run in runs) / 60, 1),
        "means": means,
        "tests": tests,
    }


def report(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    means, settings = record["means"], record["settings"]
    words = {"dice": "Dice", "brier": "Brier", "brier_foreground": "stratified Brier"}
    heads = [f"{words[metric]}, {size}" for metric in METRICS for size in SIZES]
    columns = [f"{metric}/{size}" for metric in METRICS for size in SIZES]
    rows = [[arm, *(mean_and_spread(v[name], 4) for name in columns)] for arm, v in means.items()]
    apart = [[arm, *(mean_and_spread(v[name], 4) for name in DIVERSITY)] for arm, v in means.items()]
    best = ", ".join(f"{arm} {v[f'brier_foreground/{SIZES[-1]}']['mean']:.4f}" for arm, v in means.items())
    lines = [
        "# Orthogonal ensembles on FLAIR slices, validation patients",
        "",
        f"{record['slices_of_training']} slices of training, {record['patients']} patients of validation, "
        f"{settings['size']} x {settings['size']} pixels, {settings['steps']} steps of "
        f"{settings['batch']} for each of {record['members']} members; mean ± standard deviation over runs; "
        "columns say how many members vote. "
        f"`{record['command']}`",
        "",
        f"Stratified Brier score of {SIZES[-1]} members (lower is better): {best}.",
        "",
        *table_lines(["arm", *heads], rows),
        "",
        "## How far the members differ",
        "",
        *table_lines(
            ["arm", "mean abs. cosine of filters", "disagreement", "variance on wrong pixels"], apart
        ),
    ]
    for name, tests in record["tests"].items():
        shown = [
            [key.replace("brier_foreground", "stratified Brier"), str(t["runs"]), f"{t['difference']:+.4f}"]
            + [p_cell(t["p_runs"]), f"{t['p_cases']:.2g}"]
            for key, t in tests.items()
        ]
        head = ["number / members", "runs", "difference", "p over runs", "p over patients"]
        lines += ["", f"## {name.replace(' - ', ' minus ')}", "", *table_lines(head, shown)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    parser.add_argument("--size", type=int, default=128, help="side of the input (default: 128)")
    parser.add_argument("--batch", type=int, default=8, help="slices per step (default: 8)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each member (default: {STEPS})")
    parser.add_argument("--precision", default="32-true", help="of the fits (default: 32-true)")
    add_run_options(parser, dict.fromkeys(ARMS, RUNS))
    options = parse_run_options(parser)
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        data = data_of(options)
        for arm, run in options.only:
            path, job = options.work / f"{arm}_{run}.json", partial(do, arm, run, data, options)
            keep(path, f"{arm}, run {run}", settings_of(options), job)
        return
    command = (
        "python experiments/orthogonal_evidence.py --root FOLDER --work WORK --report --out docs/evidence"
    )
    record = record_of(read_runs(options.work), command)
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, NAME, record, text)


if __name__ == "__main__":
    main()
