"""Calibrated probabilities of the left atrium: base losses, entropy terms, mL1-ACE, temperature, an ensemble.

    python experiments/meep_evidence.py --root DIR --work WORK [--only ce:1 meep ...]
    python experiments/meep_evidence.py --work WORK --report --out docs/evidence

`--root` holds the left atria of the 2018 challenge as ``images/``, ``labels/`` (1 is the atrium) and
``splits.json``, in the voxels of their files. A small DynUNet sees crops of 24 x 32 x 40 voxels of 3.5 times
the side. Every arm has the same steps, crops and weights to begin with, for each seed; the average of the
weights of the last steps is measured, and nothing is chosen on what is measured. Of the training list, in the
order of a hash of their names, 8 cases are kept for the temperature, 12 are measured beside the validation
list, and 16 are trained on as they are. That is few, and long for so few, on purpose: fits of 300 steps on 51
varied cases leave the probabilities too unsure, so that no term for more entropy can help.

Measured are the probabilities of the whole volume, in windows, at the resolution of the network: Dice and
Hausdorff distance in its voxels, and the numbers of `anatozoo.metrics.calibration.calibration_numbers`.
``temperature`` divides the logits of each CE network by the number that fits the 8 cases; ``ensemble`` is the
mean of the probabilities of all five CE networks, so that there is one of it.

A run is kept in a file of `--work`, and done once; several processes may share the folder.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from comparing import averaged, options_of, write
from fitting import WARMUP_STEPS, by_hash, keep_quiet, trainer_of
from kept import add_run_options, design_of, keep, parse_run_options, read_runs
from meep_report import record_of, report

from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.splits import refuse_dealt
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.metrics.calibration import calibration_numbers
from anatozoo.objectives import Calibration, Entropy
from anatozoo.tasks.temperature import Probabilities, TemperatureFit
from anatozoo.tasks.trials import labels_beside
from anatozoo.training.objective import Objective
from anatozoo.training.optim import Optim

ORGANS = ["left_atrium"]
CROP, SPACING, MARGIN, WIDTHS = [24, 32, 40], [3.5, 3.5, 3.5], 8, [8, 16, 32, 64]
TRAINED, FOR_TEMPERATURE, MORE = 16, 8, 12
AUGMENT = dict.fromkeys(("rotation_deg", "scale", "gamma", "contrast", "noise", "bias"), 0.0)
CE, DICE = {"ce_weight": 1.0, "dice_weight": 0.0}, {"ce_weight": 0.0, "dice_weight": 1.0}
Array = np.ndarray


class Arm(NamedTuple):
    """What is trained.

    Attributes:
        base: settings of the base loss.
        objective: class and settings of the objective beside it, none for None.
        seeds: its runs.
    """

    base: Mapping[str, float]
    objective: tuple[type[Objective], Mapping[str, Any]] | None = None
    seeds: tuple[int, ...] = (1, 2, 3)


ARMS = {
    "ce": Arm(CE, seeds=(1, 2, 3, 4, 5)),
    "focal": Arm(CE | {"focal_gamma": 2.0}),
    "dice": Arm(DICE),
    "dice-meep": Arm(DICE, (Entropy, {"form": "meep", "weight": 0.3})),
    "me": Arm(CE, (Entropy, {"form": "me", "weight": 0.3})),
    "meep": Arm(CE, (Entropy, {"form": "meep", "weight": 0.3})),
    "meep-kl": Arm(CE, (Entropy, {"form": "kl", "weight": 0.3})),
    "ml1-ace": Arm(CE, (Calibration, {"weight": 1.0})),
}


class Parts(NamedTuple):
    """The cases: trained on, kept for the temperature, measured."""

    train: list[Case]
    temperature: list[Case]
    measured: list[Case]


def parts_of(root: Path) -> Parts:
    """Deal the cases.

    Raises:
        DataError: there are too few, or no list names their splits.
    """
    cases = find_cases(root, "folder", ORGANS, dims=3, label_values=[1])
    train, val = (cases.complete(ORGANS, split) for split in ("train", "val"))
    refuse_dealt([*train, *val])
    held = FOR_TEMPERATURE + MORE
    if len(train) < held + TRAINED or not val:
        raise DataError(f"{root} has {len(train)} training cases; {held + TRAINED} are needed.")
    ordered = by_hash(train)
    return Parts(
        ordered[held : held + TRAINED],
        ordered[:FOR_TEMPERATURE],
        [*by_hash(val), *ordered[FOR_TEMPERATURE:held]],
    )


def data_of(parts: Parts, options: argparse.Namespace) -> AcnnDataModule:
    """The training data, which stay in memory for all runs of a command."""
    data = AcnnDataModule(
        root=str(options.root),
        layout="folder",
        organs=ORGANS,
        frame=FrameSpec(CROP, "spacing", SPACING),
        label_values=[1],
        margin=MARGIN,
        foreground=0.5,
        batch_size=options.batch,
        augment=AUGMENT,
    )
    data.sets = {split: data.dataset(parts.train, "train") for split in ("train", "val")}
    return data


def train(arm: Arm, seed: int, data: AcnnDataModule, options: argparse.Namespace) -> Any:
    """Train a network."""
    L.seed_everything(seed, verbose=False)
    optim = Optim("adam", 1e-3, 1e-5, schedule="cosine", warmup_steps=WARMUP_STEPS)
    network: dict[str, Any] = {"frame": data.frame, "architecture": "dynunet", "widths": WIDTHS}
    module = AcnnModule(organs=ORGANS, optim=optim, **network, **arm.base)
    beside = [] if arm.objective is None else [arm.objective[0](**arm.objective[1])]
    trainer = trainer_of(options.steps, *beside, precision=options.precision, enable_checkpointing=False)
    trainer.fit(module, data)
    return module.eval()


def seen(model: Any, case: Case) -> tuple[Probabilities, Array]:
    """What a model says of a whole volume, and the truth on the volume's grid."""
    image, labels = case.read(ORGANS, 3)
    if labels is None:
        raise DataError(f"case {case.id} has no label map.")
    return model.probabilities(image, whole=True), labels


def row_of(p: Array, truth: Array, beyond: Array) -> dict[str, float]:
    """The numbers of one case from its probabilities (2, D, H, W), in the voxels of the network."""
    found = np.where(beyond, 0, p.argmax(0)).astype(np.uint8)
    case = labels_beside(found, np.where(beyond, 0, truth).astype(np.uint8), ORGANS, None)
    return averaged(case, ORGANS, ("dice", "hd_px")) | calibration_numbers(p, truth, ignore=beyond)


def measure(
    model: Any, parts: Parts, tempered: bool
) -> tuple[dict[str, list[dict[str, Any]]], float | None, dict[str, Array]]:
    """Rows of each case by kind of probability, the temperature, and margins of the logits with the truth.

    Args:
        model: the network.
        parts: the cases.
        tempered: also fit a temperature, and measure with it.
    """
    temperature, margins = None, {}
    if tempered:
        fit = TemperatureFit()
        for case in parts.temperature:
            fit.add(case.id, *seen(model, case))
        temperature = fit.fit().temperature
    rows: dict[str, list[dict[str, Any]]] = {"own": []} | ({"tempered": []} if tempered else {})
    for case in parts.measured:
        found, labels = seen(model, case)
        truth, beyond = found.truth(labels)
        who = {"id": case.id, "list": case.split}
        for kind in rows:
            p = found.at(1.0 if kind == "own" else temperature)
            rows[kind].append(who | row_of(p, truth, beyond))
        margins[f"{case.id} margin"] = (found.scores[1] - found.scores[0]).numpy().astype(np.float16)
        margins[f"{case.id} truth"] = np.where(beyond, 255, truth).astype(np.uint8)
    return rows, temperature, margins


def ensemble_rows(files: Sequence[Path], whose: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the mean probability of several networks, of which `measure` kept the margins."""
    members = [np.load(file) for file in files]
    rows = []
    for row in whose:
        margins = [member[f"{row['id']} margin"].astype(np.float32) for member in members]
        atrium = np.mean([1 / (1 + np.exp(-margin)) for margin in margins], 0)
        stored = members[0][f"{row['id']} truth"]
        p = np.stack([1 - atrium, atrium])
        rows.append(
            {"id": row["id"], "list": row["list"]}
            | row_of(p, np.where(stored == 255, 0, stored).astype(int), stored == 255)
        )
    return rows


def do(
    name: str, seed: int, parts: Parts, data: AcnnDataModule, options: argparse.Namespace
) -> dict[str, Any]:
    """Train and measure a network; gives its record."""
    start = time.process_time()
    model = train(ARMS[name], seed, data, options)
    trained = time.process_time() - start
    rows, temperature, margins = measure(model, parts, name == "ce")
    if name == "ce":
        part = options.work / f"{name}_{seed}.part.npz"
        np.savez_compressed(part, **margins)
        part.replace(options.work / f"{name}_{seed}.npz")
    means = {key: np.mean([row[key] for row in rows["own"]]) for key in ("dice", "ece_plus", "nll")}
    print("  " + ", ".join(f"{key} {value:.4f}" for key, value in means.items()), flush=True)
    return {
        "arm": name,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "cases": {part: len(cases) for part, cases in parts._asdict().items()},
        "train_cpu_s": round(trained, 1),
        "temperature": temperature,
        "rows": rows,
    }


def _arguments() -> argparse.Namespace:
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    add_run_options(parser, {name: arm.seeds for name, arm in ARMS.items()})
    parser.add_argument("--steps", type=int, default=500, help="of each network (default: 500)")
    parser.add_argument("--batch", type=int, default=2, help="crops per step (default: 2)")
    parser.add_argument("--precision", default="32-true", help="of the fits (default: 32-true)")
    return parse_run_options(parser)


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        parts = parts_of(options.root)
        data = data_of(parts, options)
        settings = {key: getattr(options, key) for key in ("steps", "batch", "precision")}
        dealt = (TRAINED, FOR_TEMPERATURE, MORE)
        settings["design"] = design_of(ARMS, CROP, SPACING, MARGIN, WIDTHS, AUGMENT, dealt)
        for name, seed in options.only:
            path = options.work / f"{name}_{seed}.json"
            run = partial(do, name, seed, parts, data, options)
            keep(path, f"{name}, seed {seed}", settings, run, "monai")
        return
    runs = read_runs(options.work, "ce")
    members = [options.work / f"ce_{seed}.npz" for seed in ARMS["ce"].seeds]
    together = []
    if all(member.is_file() and member.with_suffix(".json").is_file() for member in members):
        first = next(run for run in runs if run["arm"] == "ce")
        together = ensemble_rows(members, first["rows"]["own"])
    record = record_of(runs, together)
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, "meep_experiment", record, text)


if __name__ == "__main__":
    main()
