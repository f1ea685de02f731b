"""Does CycleGAN bring a segmenter to another institution? FLAIR slices of DU and HT.

    python experiments/lgg_slices.py --root LGG --to FOLDER
    python experiments/cyclegan_evidence.py --root FOLDER --work WORK [--only translated:1 target:1]
    python experiments/cyclegan_evidence.py --root FOLDER --work WORK --levels
    python experiments/cyclegan_evidence.py --root FOLDER --work WORK --report --out docs/evidence

After Palladino et al., SIPAIM 2020, on other data: lower-grade gliomas in slices of 64 x 64. Masks of
institution A (DU) are known, those of B (HT) are not. Arms, all measured on patients of B:

* source: a U-Net S of ``unet/lgg.yaml``, trained on A, on slices of B as they are;
* histogram: S on slices of B whose grey values were matched to those of A, patient by patient;
* translated: S on slices of B that a CycleGAN has given the look of A;
* retrained: a U-Net trained on slices of A that the same CycleGAN has given the look of B, with A's masks;
* target: a U-Net trained on B, the ceiling.

Only the training split is trained on. The patients of B in the validation split have been seen by nothing;
slices of those of the training split have been seen by the CycleGAN without masks, and their ceiling is
cross-validated, in two folds. Nothing was chosen on either: all settings were fixed beforehand, those of the
CycleGAN in ``cyclegan/lgg.yaml``. U-Nets of one run have the same start.

Grey values in the brain (above 0.05) are compared by the Jensen-Shannon divergence of histograms with 64
bins. A fixed detector, the published `unet-lgg`, looks for tumours in the slices of B before and after the
translation: what it finds afterwards where there is none may have been made up. With ``--levels`` the
divergence is also measured above other grey values, by the CycleGANs that are kept.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from comparing import mean_and_spread, options_of, p_cell, p_over_runs, paired, summary_of, table_lines, write
from fitting import WARMUP_STEPS, Steps, by_hash, keep_quiet, shipped, trainer_of
from kept import add_run_options, commits_of, design_of, keep, make_once, parse_run_options, read_runs

import anatozoo
from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.square import to_network
from anatozoo.io.images import Image
from anatozoo.io.intensity import normalize_intensity, to_unit_range
from anatozoo.methods.cyclegan.data import CycleGANDataModule
from anatozoo.methods.cyclegan.module import CycleGANModule
from anatozoo.methods.unet.data import LabelDataset, UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.metrics.functional import dice
from anatozoo.metrics.images import js_divergence
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.files import write_text

A, B = "DU", "HT"
ARMS = ("source", "histogram", "translated", "retrained", "target")
WORDS = {
    "source": "S on B",
    "histogram": "S on B, histograms matched to A",
    "translated": "S on B in the look of A",
    "retrained": "trained on A in the look of B",
    "target": "trained on B (ceiling)",
}
RUNS, FOLDS, STEPS = (1, 2, 3), 2, 250
BRAIN, LEVELS, SMALLEST = 0.05, 256, 80
"""Darkest grey value of the brain, quantiles that are matched, and pixels of the smallest finding."""
LIMITS = (0.05, 0.1, 0.2)
"""Darkest grey values that count, of `levels`."""
DETECTOR = "unet-lgg"
NAME, LEVELS_FILE = "cyclegan-lgg_experiment", "levels.json"
Array = np.ndarray


# --- data --------------------------------------------------------------------------------------------------


def unet_data(options: argparse.Namespace, chosen: Callable[[Case], bool]) -> UNetDataModule:
    """The training slices for which `chosen` is true, ready for a fit."""
    settings = shipped("unet/lgg.yaml")
    data = UNetDataModule(
        root=str(options.root),
        layout="folder",
        organs=settings["model"]["organs"],
        frame=FrameSpec(options.size),
        batch_size=options.batch,
        augment=settings["data"]["augment"],
    )
    data.choose = lambda cases, split: [case for case in cases if split != "train" or chosen(case)]  # type: ignore[method-assign]
    data.setup("fit")
    return data


@cache
def judged(root: str, size: int) -> tuple[list[Case], Array, Array, Array]:
    """Slices of B of both splits.

    Returns:
        The cases, whole images (N, H, W) in [0, 1], masks (N, H, W) bool, and masks (N, S, S) in the frame.
    """
    cases = [case for case in find_cases(root, "folder", ["tumour"], dims=2).cases if case.domain == B]
    items = LabelDataset(cases, ["tumour"], FrameSpec(size))
    images = np.stack([to_unit_range(case.read_flat().pixels) for case in cases])
    whole = np.stack([case.read_labels(["tumour"])[0] > 0 for case in cases])
    return cases, images, whole, np.stack([items[i]["labels"].numpy() > 0 for i in range(len(items))])


def framed(images: Array, size: int) -> Array:
    """Whole images as a network gets them that reads them, (N, S, S)."""
    return np.stack([to_network(Image(image, black_white=(0.0, 1.0)), size)[0] for image in images])


@cache
def known(root: str, size: int) -> Array:
    """Training slices of A, (N, S, S) in [0, 1]."""
    cases = [c for c in find_cases(root, "folder", ["tumour"], dims=2).cases if c.domain == A]
    items = LabelDataset([c for c in cases if c.split == "train"], ["tumour"], FrameSpec(size))
    return np.stack([items[index]["image"][0].numpy() for index in range(len(items))])


def fold_of(cases: Sequence[Case]) -> dict[str, int]:
    """The fold of each training patient of B."""
    own = {case.subject: case for case in cases if case.split == "train"}
    return {case.subject: place % FOLDS for place, case in enumerate(by_hash(list(own.values())))}


# --- training ----------------------------------------------------------------------------------------------


def fit_unet(run: int, data: UNetDataModule, options: argparse.Namespace) -> Any:
    """Train a U-Net on the slices of a data module."""
    L.seed_everything(run, verbose=False)
    model = dict(shipped("unet/lgg.yaml")["model"])
    optim = Optim(**{**model.pop("optim"), "warmup_steps": WARMUP_STEPS})
    module = UNetModule(**{**model, "frame": FrameSpec(options.size)}, optim=optim)
    trainer_of(options.steps, enable_checkpointing=False).fit(module, data)
    return module.eval()


def fit_cyclegan(
    run: int, root: Path, size: int, steps: int, model: Mapping[str, Any] = {}, data: Mapping[str, Any] = {}
) -> Any:
    """Train a CycleGAN on the training images of two domains, without masks.

    Args:
        run: seed.
        root: folder with a manifest that has the column ``domain``.
        size: of the square frame.
        steps: how many.
        model: what differs from ``cyclegan/lgg.yaml`` in the model.
        data: what differs in the data.
    """
    L.seed_everything(run, verbose=False)
    settings = shipped("cyclegan/lgg.yaml")
    own = {**settings["model"], **model, "frame": FrameSpec(size)}
    module = CycleGANModule(**own)
    images = CycleGANDataModule(
        **{**settings["data"], **data, "root": str(root), "domains": own["domains"], "frame": own["frame"]}
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=[Steps()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, images)
    return module.eval()


def model_of(kind: str, run: int, options: argparse.Namespace) -> Any:
    """A network of a run, trained unless it is there: source, cyclegan, retrained, target or a fold of it."""
    folder = options.work / f"{kind}_{run}"

    def make() -> None:
        print(f"{kind} {run}", flush=True)
        if kind == "cyclegan":
            name = f"cyclegan-lgg-run{run}"
            module = fit_cyclegan(run, options.root, options.size, options.gan_steps)
        else:
            name, module = f"unet-lgg-{kind}{run}", fit_unet(run, data_of(kind, run, options), options)
        write_checkpoint_folder(module, folder, name=name, version="0.0.0", half=False)

    make_once(folder, settings_of(options), make)
    return anatozoo.load(folder, trainable=False)


def data_of(kind: str, run: int, options: argparse.Namespace) -> UNetDataModule:
    """What a U-Net learns from."""
    if kind.startswith("target"):
        fold = fold_of(judged(str(options.root), options.size)[0])
        left_out = kind.removeprefix("target")
        return unet_data(options, lambda c: c.domain == B and str(fold[c.subject]) != left_out)
    data = unet_data(options, lambda case: case.domain == A)
    if kind == "retrained":
        items, network = data.sets["train"], model_of("cyclegan", run, options).network
        given = np.stack([items[index]["image"][0].numpy() for index in range(len(items))])
        for index, image in enumerate(translated(network.back, given)):
            items._memory[index]["image"] = torch.from_numpy(np.round(255 * image).astype(np.uint8))[None]
    return data


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What runs share."""
    settings = {name: getattr(options, name) for name in ("size", "steps", "gan_steps", "batch")}
    both = [shipped("unet/lgg.yaml"), shipped("cyclegan/lgg.yaml")]
    return settings | {"design": design_of(A, B, FOLDS, BRAIN, LEVELS, both)}


# --- measuring ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def in_batches(network: Any, images: Array, size: int = 32) -> Array:
    """What a network makes of images (N, S, S)."""
    parts = [torch.from_numpy(images[start : start + size])[:, None] for start in range(0, len(images), size)]
    return np.concatenate([network(part)[:, 0].numpy() for part in parts])


def translated(generator: Any, images: Array) -> Array:
    """Images in the look of another domain, stretched as a segmenter stretches what it reads."""
    found = in_batches(generator, images.astype(np.float32)).clip(0, 1)
    return np.stack([normalize_intensity(image) for image in found])


def quantiles(values: Array) -> Array:
    """The grey values that `matched_values` is to give."""
    return np.quantile(values, np.linspace(0, 1, LEVELS))


def matched_values(values: Array, wanted: Array) -> Array:
    """Grey values that are distributed as `quantiles` wants them, in the same order."""
    return np.interp(values, quantiles(values), wanted)


def matched(images: Array, patients: Array, wanted: Array) -> Array:
    """Images whose grey values in the brain are distributed as wanted, patient by patient."""
    target = quantiles(wanted[wanted > BRAIN])
    found = images.copy()
    for patient in set(patients.tolist()):
        own = (patients == patient)[:, None, None] & (images > BRAIN)
        found[own] = matched_values(images[own], target)
    return found


def findings(images: Array) -> Array:
    """Masks (N, H, W) bool of the fixed detector."""
    detector = anatozoo.load(DETECTOR, trainable=False)
    return np.stack([result.mask > 0 for result in detector.predict_batch(images, 16)])


def areas(found: Array, truth: Array) -> dict[str, float]:
    """What the detector marks in all slices and in those without tumour, and misses in others, percent."""
    marked, shows = found.sum((1, 2)) >= SMALLEST, truth.any((1, 2))
    return {
        "area_percent": float(100 * found.mean()),
        "true_area_percent": float(100 * truth.mean()),
        "found_without_percent": float(100 * marked[~shows].mean()),
        "missed_percent": float(100 * (~marked[shows]).mean()),
        "without": int((~shows).sum()),
        "with": int(shows.sum()),
    }


def looks(changed: Array, options: argparse.Namespace) -> tuple[Array, dict[str, Any]]:
    """Slices of B as a network gets them, how near their grey values are to A, and what is found in them."""
    _, images, masks, _ = judged(str(options.root), options.size)
    reference = known(str(options.root), options.size)
    seen = framed(changed, options.size)
    return seen, {
        "js": js_divergence(seen[seen > BRAIN], reference[reference > BRAIN]),
        "mean_change": float(np.abs(changed - images)[images > BRAIN].mean()),
        "detector": areas(findings(changed), masks),
    }


LOOKS: dict[str, tuple[Array, dict[str, Any]]] = {}
"""Those of arms in which nothing is learnt, which are the same in all runs."""


def do(arm: str, run: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train what an arm needs and measure it; gives its record."""
    cases, images, _, truth = judged(str(options.root), options.size)
    reference = known(str(options.root), options.size)
    patients = np.array([case.subject for case in cases])
    splits = {case.subject: case.split for case in cases}
    seen, record = framed(images, options.size), {}
    if arm == "translated":
        results = model_of("cyclegan", run, options).predict_batch(images, 16)
        seen, record = looks(np.stack([result.translated for result in results]), options)
    elif arm in ("source", "histogram"):
        if arm not in LOOKS:
            LOOKS[arm] = looks(images if arm == "source" else matched(images, patients, reference), options)
        seen, record = LOOKS[arm]
    elif arm == "retrained":
        made = translated(model_of("cyclegan", run, options).network.back, reference)
        record = {"js": js_divergence(made[made > BRAIN], seen[seen > BRAIN])}
    if arm == "target":
        logits, fold = in_batches(model_of("target", run, options), seen), fold_of(cases)
        for number in range(FOLDS):
            own = np.array([fold.get(patient) == number for patient in patients.tolist()])
            logits[own] = in_batches(model_of(f"target{number}", run, options), seen[own])
    else:
        logits = in_batches(model_of("retrained" if arm == "retrained" else "source", run, options), seen)
    rows = [
        {"patient": patient, "split": splits[patient]}
        | {"dice": dice(logits[patients == patient] > 0, truth[patients == patient])}
        for patient in sorted(splits)
    ]
    return {"arm": arm, "run": run, "rows": rows} | record


def levels(options: argparse.Namespace) -> None:
    """Write the divergence from A above several grey values, of slices of B as they are and changed."""
    cases, images, _, _ = judged(str(options.root), options.size)
    reference = known(str(options.root), options.size)
    patients = np.array([case.subject for case in cases])
    seen: dict[str, list[Array]] = {"source": [framed(images, options.size)], "translated": []}
    seen["histogram"] = [framed(matched(images, patients, reference), options.size)]
    for run in RUNS:
        if (options.work / f"cyclegan_{run}" / "kept.json").is_file():
            results = model_of("cyclegan", run, options).predict_batch(images, 16)
            changed = np.stack([result.translated for result in results])
            seen["translated"].append(framed(changed, options.size))
    found = {
        arm: {
            str(limit): [js_divergence(x[x > limit], reference[reference > limit]) for x in own]
            for limit in LIMITS
        }
        for arm, own in seen.items()
    }
    write_text(options.work / LEVELS_FILE, json.dumps(found) + "\n")


# --- report ------------------------------------------------------------------------------------------------


def of_patients(runs: Sequence[Mapping[str, Any]], arm: str, splits: Sequence[str]) -> dict[int, Array]:
    """Dice of patients by run."""
    return {
        run["run"]: np.array([row["dice"] for row in run["rows"] if row["split"] in splits])
        for run in runs
        if run["arm"] == arm
    }


def compared(
    runs: Sequence[Mapping[str, Any]], arms: tuple[str, str], splits: Sequence[str]
) -> dict[str, Any]:
    """The first arm minus the second: mean, p over runs (paired t) and over patients (Wilcoxon)."""
    one, other = (of_patients(runs, arm, splits) for arm in arms)
    shared = sorted(set(one) & set(other))
    differences = np.array([one[run] - other[run] for run in shared])
    cases = paired(differences.mean(0))
    return {
        "runs": len(shared),
        "difference": cases["difference"],
        "p_runs": p_over_runs(differences.mean(1)),
        "p_cases": cases["p"],
    }


GROUPS = {"validation": ("val",), "all": ("train", "val")}


def record_of(runs: Sequence[Mapping[str, Any]], command: str, by_level: Mapping[str, Any]) -> dict[str, Any]:
    """Means and deviations over runs, and tests."""
    arms = [arm for arm in ARMS if any(run["arm"] == arm for run in runs)]
    means: dict[str, Any] = {}
    for arm in arms:
        mine = [run for run in runs if run["arm"] == arm]
        found = {
            name: summary_of([float(values.mean()) for values in of_patients(runs, arm, splits).values()])
            for name, splits in GROUPS.items()
        }
        found |= {
            key: summary_of([run[key] for run in mine]) for key in ("js", "mean_change") if key in mine[0]
        }
        if "detector" in mine[0]:
            found["detector"] = {
                key: summary_of([run["detector"][key] for run in mine]) for key in mine[0]["detector"]
            }
        means[arm] = found
    tests = {
        f"{arm} - source": {name: compared(runs, (arm, "source"), splits) for name, splits in GROUPS.items()}
        for arm in arms
        if arm != "source"
    }
    rows = runs[0]["rows"]
    return {
        "command": command,
        "commits": commits_of(runs),
        "settings": runs[0]["settings"],
        "patients": {name: sum(row["split"] in s for row in rows) for name, s in GROUPS.items()},
        "cpu_min": round(sum(run["cpu_s"] for run in runs) / 60, 1),
        "means": means,
        "tests": tests,
        "levels": {
            arm: {limit: summary_of(values) for limit, values in own.items() if values}
            for arm, own in by_level.items()
        },
    }


def _cell(value: Mapping[str, Any] | None, digits: int = 3) -> str:
    return "–" if value is None else mean_and_spread(value, digits)


def report(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    means, settings, counts = record["means"], record["settings"], record["patients"]
    rows = [
        [WORDS[arm], str(len(v["all"]["values"])), *(_cell(v[name]) for name in GROUPS), _cell(v.get("js"))]
        for arm, v in means.items()
    ]
    tests = [
        [WORDS[name.split(" - ")[0]], group, str(t["runs"]), f"{t['difference']:+.3f}"]
        + [p_cell(t["p_runs"]), f"{t['p_cases']:.2g}"]
        for name, groups in record["tests"].items()
        for group, t in groups.items()
    ]
    shown = ("area_percent", "found_without_percent", "missed_percent")
    seen = [
        [WORDS[arm], _cell(v["mean_change"], 4), *(_cell(v["detector"][key], 2) for key in shown)]
        for arm, v in means.items()
        if "detector" in v
    ]
    first = next(v["detector"] for v in means.values() if "detector" in v)
    lines = [
        f"# CycleGAN between two institutions: masks of {A} (A), slices of {B} (B)",
        "",
        f"Dice of the tumour over all slices of a patient, mean over {counts['validation']} patients of B "
        f"that nothing has seen (validation) and over all {counts['all']}; mean ± standard deviation over "
        f"runs. {settings['size']} x {settings['size']} pixels; U-Nets of {settings['steps']} steps of "
        f"{settings['batch']} slices, CycleGAN of {settings['gan_steps']} steps of 2. JS: divergence, in "
        "bits, of the grey values of slices of B as the network is given them from those of A (trained on A "
        "in the look of B: of these from B). "
        f"`{record['command']}`",
        "",
        *table_lines(["arm", "runs", "Dice, validation", "Dice, all", "JS"], rows),
        "",
        "## Differences from S on B",
        "",
        *table_lines(["arm", "patients", "runs", "difference", "p over runs", "p over patients"], tests),
        "",
        "## What a fixed detector finds in the slices of B",
        "",
        f"Mean change of a grey value in the brain, and of `{DETECTOR}`: share of all pixels that it marks "
        f"(true share {first['true_area_percent']['mean']:.2f} %), how often it marks {SMALLEST} pixels or "
        f"more in the {first['without']['mean']:.0f} slices without tumour (possibly made up), and how often "
        f"it misses the tumour of the other {first['with']['mean']:.0f} (possibly erased), in percent.",
        "",
        *table_lines(["slices", "mean change", "area, %", "found without tumour", "tumour missed"], seen),
    ]
    if record["levels"]:
        by_level = [
            [WORDS[arm], *(_cell(own.get(str(limit)), 4) for limit in LIMITS)]
            for arm, own in record["levels"].items()
        ]
        lines += [
            "",
            "## Where the grey values differ",
            "",
            "JS of grey values above a limit, in bits.",
            "",
            *table_lines(["slices", *(f"above {limit}" for limit in LIMITS)], by_level),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    parser.add_argument("--size", type=int, default=64, help="side of the input (default: 64)")
    parser.add_argument("--batch", type=int, default=8, help="slices per step of U-Nets (default: 8)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each U-Net (default: {STEPS})")
    parser.add_argument("--gan-steps", type=int, default=1000, help="of each CycleGAN (default: 1000)")
    add_run_options(parser, dict.fromkeys(ARMS, RUNS))
    parser.add_argument("--levels", action="store_true", help="measure JS above several grey values")
    options = parse_run_options(parser)
    torch.set_num_threads(options.threads)
    if options.levels:
        levels(options)
        return
    if not options.report:
        keep_quiet()
        for arm, run in options.only:
            path, job = options.work / f"{arm}_{run}.json", partial(do, arm, run, options)
            keep(path, f"{arm}, run {run}", settings_of(options), job)
        return
    command = "python experiments/cyclegan_evidence.py --root FOLDER --work WORK --report --out docs/evidence"
    kept = options.work / LEVELS_FILE
    by_level = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    record = record_of(read_runs(options.work, pattern="*_[0-9].json"), command, by_level)
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, NAME, record, text)


if __name__ == "__main__":
    main()
