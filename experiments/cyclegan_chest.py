"""Does CycleGAN help models of chests at other hospitals? JSRT and covid-cxr, the second pair.

    python experiments/cyclegan_chest.py --root DIR --work WORK [--only translated:1 translated:2]
    python experiments/cyclegan_chest.py --work WORK --report --out docs/evidence

DIR holds JSRT and covid-cxr as users download them. ``cyclegan_evidence.py`` has the first pair; here models
are asked that there are. `maskhybridgnet-jsrt` has seen JSRT alone. `hybridgnet-jsrt` and
`hybridgnet-chexmask` have also learnt lungs of the training images of covid-cxr, so that for them the look of
these hospitals is nothing new. Arms, all measured on the validation images of covid-cxr:

* source: the images as they are;
* histogram: their grey values matched to those of JSRT, image by image;
* translated: in the look of JSRT, by a CycleGAN (``--before``);
* tuned: as they are, to `maskhybridgnet-jsrt` after a few more steps on JSRT, the control of
* retrained: the same steps on JSRT in the look of covid-cxr, by the same CycleGAN.

The CycleGAN learns from the training splits of both, without masks: central squares, as the images are of
unequal shape. Images of covid-cxr are dealt to splits by patient, as ``anatozoo evaluate --data covid`` does,
so that those measured have been seen by no training; weights of the two HybridGNets were chosen by them.
Settings are those of ``cyclegan/lgg.yaml`` and ``maskhybridgnet/jsrt.yaml`` but for what `CHANGES`, `TUNING`
and the options say, all fixed beforehand.

Masks of covid-cxr go on behind the heart, and those that the models learnt end at it: none can reach 1 for
the left lung. The right lung says more; differences between arms are not touched.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from comparing import mean_and_spread, options_of, p_cell, p_over_runs, paired, summary_of, table_lines, write
from cyclegan_evidence import fit_cyclegan, matched_values, quantiles
from fitting import WARMUP_STEPS, keep_quiet, shipped, trainer_of
from kept import add_run_options, commits_of, design_of, keep, make_once, parse_run_options, read_runs
from torch.nn.functional import interpolate

import anatozoo
from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.registry import find_cases
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.images import Image
from anatozoo.io.intensity import normalize_intensity, to_unit_range
from anatozoo.io.writers import write_csv
from anatozoo.methods.maskhybridgnet.data import MaskHybridGNetDataModule
from anatozoo.methods.maskhybridgnet.module import MaskHybridGNetModule
from anatozoo.metrics.cases import Measures, case_row
from anatozoo.metrics.images import js_divergence
from anatozoo.organs import LUNGS
from anatozoo.tasks.chest_cases import compared
from anatozoo.tasks.translate import in_the_look
from anatozoo.tasks.trials import Conditions
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder

A, B = "JSRT", "covid-cxr"
LAYOUTS = {A: "jsrt", B: "covid"}
RUNS, STEPS = (1, 2, 3), 200
ARMS = {"source": (1,), "histogram": (1,), **dict.fromkeys(("translated", "tuned", "retrained"), RUNS)}
"""Runs of each: where nothing is learnt there is one."""
WORDS = {
    "source": "as they are",
    "histogram": "histograms matched to JSRT",
    "translated": "in the look of JSRT",
    "tuned": "as they are, model tuned on JSRT",
    "retrained": "as they are, model tuned on JSRT in the look of covid-cxr",
}
LEARNER = "maskhybridgnet-jsrt"
MODELS = (LEARNER, "hybridgnet-jsrt", "hybridgnet-chexmask")
SQUARE = 256
"""Side of the stored squares."""
CHANGES = {"model": {"domains": [B, A], "critic_layers": 3}, "data": {"flip_p": 0.0}}
"""What differs from ``cyclegan/lgg.yaml``: critics as deep as the paper's, and no mirrored chests."""
TUNING = {"raster_epoch": 0, "anneal_epochs": 0, "optim": {"lr": 3e-4, "warmup_steps": WARMUP_STEPS}}
"""What differs from ``maskhybridgnet/jsrt.yaml``: all terms from the start on, and a fifth of the rate."""
HOW = Conditions(Measures(rounding="truncate", plausibility=False))
METRICS = ("dice/lung_right", "dice/lung_left", "dice/lungs", "hd_px/lung_right", "hd_px/lungs")
FLAGGED, NAME = "flagged", "cyclegan-chest_experiment"
Array = np.ndarray


# --- data --------------------------------------------------------------------------------------------------


def cases_of(root: Path, domain: str, *splits: str) -> list[Case]:
    """Radiographs of these splits that are there."""
    listing = find_cases(root, LAYOUTS[domain], LUNGS, dims=2)
    return [case for case in listing.cases if case.split in splits and case.image is not None]


def write_squares(root: Path, to: Path) -> None:
    """Central squares of the radiographs, as a manifest with the column domain; a fit learns from train."""
    rows = []
    (to / "images").mkdir(parents=True)
    for domain in (A, B):
        for case in cases_of(root, domain, "train", "val"):
            grey = to_unit_range(case.read_flat().pixels)
            side = min(grey.shape)
            top, left = ((length - side) // 2 for length in grey.shape)
            square = cv2.resize(
                grey[top : top + side, left : left + side], (SQUARE, SQUARE), interpolation=cv2.INTER_AREA
            )
            name = f"images/{case.id}.png"
            cv2.imwrite(str(to / name), np.round(255 * square).astype(np.uint8))
            rows.append((name, case.subject, case.split, domain))
    write_csv(to / "manifest.csv", ("image", "subject", "split", "domain"), rows)


def small(grey: Array, size: int) -> Array:
    """An image whose longer side has `size` pixels."""
    height, width = (max(1, round(length * size / max(grey.shape))) for length in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


@cache
def known(root: Path, size: int) -> Array:
    """Grey values of all training images of A, in [0, 1]."""
    found = [small(to_unit_range(case.read_flat().pixels), size) for case in cases_of(root, A, "train")]
    return np.concatenate([image.ravel() for image in found])


# --- training ----------------------------------------------------------------------------------------------


def cyclegan_of(run: int, options: argparse.Namespace) -> Any:
    """The CycleGAN of a run, trained unless it is there."""
    squares, folder = options.work / "squares", options.work / f"cyclegan_{run}"

    def make() -> None:
        print(f"cyclegan {run}", flush=True)
        module = fit_cyclegan(run, squares, options.size, options.gan_steps, **CHANGES)
        write_checkpoint_folder(module, folder, name=f"cyclegan-chest-run{run}", version="0.0.0", half=False)

    make_once(squares, {"square": SQUARE}, lambda: write_squares(options.root, squares))
    design = design_of(A, B, SQUARE, *CHANGES.values(), shipped("cyclegan/lgg.yaml"))
    own = {"size": options.size, "gan_steps": options.gan_steps, "design": design}
    make_once(folder, own, make)
    return anatozoo.load(folder, trainable=False)


def tuned_of(kind: str, run: int, options: argparse.Namespace) -> Any:
    """The learner after more steps on JSRT, as it is or in the look of B; tuned unless it is there."""
    folder = options.work / f"{kind}_{run}"

    def make() -> None:
        print(f"{kind} {run}", flush=True)
        settings = shipped("maskhybridgnet/jsrt.yaml")
        model = {**settings["model"], **TUNING, "encoder_weights": None, "init_weights": LEARNER}
        model["optim"] = Optim(**{**settings["model"]["optim"], **TUNING["optim"]})
        model["frame"] = FrameSpec(**model["frame"])
        L.seed_everything(run, verbose=False)
        data = MaskHybridGNetDataModule(
            **{**settings["data"], "root": str(options.root), "organs": model["organs"]}, frame=model["frame"]
        )
        data.setup("fit")
        if kind == "retrained":
            back = cyclegan_of(run, options).network.back
            items = data.sets["train"]
            for index in range(len(items)):
                image = in_other_look(back, items[index]["image"], options.size)
                items._memory[index]["image"] = (255 * image).round().to(torch.uint8)
        module = MaskHybridGNetModule(**model)
        trainer_of(options.steps, enable_checkpointing=False).fit(module, data)
        write_checkpoint_folder(module.eval(), folder, name=f"{LEARNER}-{kind}{run}", version="0.0.0")

    make_once(folder, settings_of(options), make)
    return anatozoo.load(folder, trainable=False)


@torch.inference_mode()
def in_other_look(generator: Any, image: torch.Tensor, size: int) -> torch.Tensor:
    """An image (1, S, S) whose change is computed at `size` pixels, as models translate, and stretched."""
    seen = interpolate(image[None], (size, size), mode="area")
    change = interpolate(generator(seen) - seen, tuple(image.shape[1:]), mode="bilinear")[0]
    return torch.from_numpy(normalize_intensity((image + change)[0].clamp(0, 1).numpy()))[None]


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What runs share."""
    both = [shipped("cyclegan/lgg.yaml"), shipped("maskhybridgnet/jsrt.yaml")]
    settings = {name: getattr(options, name) for name in ("size", "gan_steps", "steps")}
    return settings | {"design": design_of(A, B, SQUARE, CHANGES, TUNING, MODELS, both)}


# --- measuring ---------------------------------------------------------------------------------------------


def changed(arm: str, run: int, images: Sequence[Image], options: argparse.Namespace) -> list[Image]:
    """What the models are given in an arm."""
    if arm == "translated":
        found = cyclegan_of(run, options).predict_batch(images, 8)
        return [in_the_look(image, each) for image, each in zip(images, found, strict=True)]
    if arm != "histogram":
        return list(images)
    wanted = quantiles(known(options.root, options.size))
    grey = (matched_values(to_unit_range(image.pixels), wanted).astype(np.float32) for image in images)
    return [
        replace(image, pixels=own, black_white=(0.0, 1.0)) for image, own in zip(images, grey, strict=True)
    ]


def look_of(given: Image, image: Image, lungs: Array) -> dict[str, float]:
    """How grey values were changed, in shares of their range, as a model gets them."""
    change = to_unit_range(given.pixels) - to_unit_range(image.pixels)
    return {
        "mean_change": float(np.abs(change).mean()),
        "in_lungs": float(change[lungs].mean()),
        "around": float(change[~lungs].mean()),
        "large_change": int("large_change" in given.flags),
    }


def columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Numbers of all images by name, to four digits."""
    return {name: [round(float(row[name]), 4) for row in rows] for name in rows[0]}


def answers(model: Any, given: Sequence[Image], drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Metrics of all images, whether a result is flagged, and how often each flag is raised."""
    rows, raised = [], Counter[str]()
    for truth, image, result in zip(drawn, given, model.predict_batch(given, 8), strict=True):
        flags = set(result.flags) - set(image.flags)
        raised.update(flags)
        measured = case_row(compared(truth, result, HOW), HOW.measures)
        rows.append({metric: measured[metric] for metric in METRICS} | {FLAGGED: int(bool(flags))})
    return columns(rows) | {"flags": dict(sorted(raised.items()))}


def do(arm: str, run: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train what an arm needs, and ask the models; gives its record."""
    cases = cases_of(options.root, B, "val")
    images = [case.read_flat() for case in cases]
    drawn = [case.read_drawn(list(LUNGS)) for case in cases]
    given = changed(arm, run, images, options)
    record: dict[str, Any] = {
        "arm": arm,
        "run": run,
        "images": [case.id for case in cases],
        "patients": [case.subject for case in cases],
    }
    if arm in ("tuned", "retrained"):
        models = {LEARNER: tuned_of(arm, run, options)}
    else:
        models = {name: anatozoo.load(name, trainable=False) for name in MODELS}
        seen = np.concatenate([small(to_unit_range(each.pixels), options.size).ravel() for each in given])
        lungs = (
            truth.label_map(list(LUNGS), image.size)[0] > 0
            for truth, image in zip(drawn, images, strict=True)
        )
        looks = [look_of(*each) for each in zip(given, images, lungs, strict=True)]
        record |= {"js": js_divergence(seen, known(options.root, options.size)), "looks": columns(looks)}
    return record | {"models": {name: answers(model, given, drawn) for name, model in models.items()}}


# --- report ------------------------------------------------------------------------------------------------


Runs = Sequence[Mapping[str, Any]]


def of_images(runs: Runs, arm: str, model: str, metric: str) -> Array:
    """A metric of all images, (runs, images)."""
    own = [run["models"][model] for run in runs if run["arm"] == arm and model in run["models"]]
    return np.array([found[metric] for found in own])


def compared_arms(runs: Runs, model: str, arms: tuple[str, str], metric: str) -> dict[str, Any]:
    """The first arm minus the second: mean, p over runs (t) and over patients (Wilcoxon)."""
    one, other = (of_images(runs, arm, model, metric) for arm in arms)
    difference = one - other
    over = paired(difference.mean(0), runs[0]["patients"])
    return {
        "difference": over["difference"],
        "ci": [over["ci_low"], over["ci_high"]],
        "p_runs": p_over_runs(difference.mean(1)),
        "p_patients": over["p"],
    }


def record_of(runs: Runs, command: str) -> dict[str, Any]:
    """Means and deviations over runs, and tests."""
    models: dict[str, Any] = {}
    for model in MODELS:
        arms = [arm for arm in ARMS if len(of_images(runs, arm, model, FLAGGED))]
        means = {
            arm: {
                metric: summary_of(of_images(runs, arm, model, metric).mean(1))
                for metric in (*METRICS, FLAGGED)
            }
            for arm in arms
        }
        pairs = [(arm, "source") for arm in arms if arm != "source"]
        pairs += [("retrained", "tuned")] if {"retrained", "tuned"} <= set(arms) else []
        tests = {
            " - ".join(pair): {metric: compared_arms(runs, model, pair, metric) for metric in METRICS}
            for pair in pairs
        }
        models[model] = {"means": means, "tests": tests}
    looks: dict[str, Any] = {}
    for arm in ARMS:
        if own := [run for run in runs if run["arm"] == arm and "looks" in run]:
            looks[arm] = {"js": summary_of([run["js"] for run in own])} | {
                name: summary_of([np.mean(run["looks"][name]) for run in own]) for name in own[0]["looks"]
            }
    return {
        "command": command,
        "commits": commits_of(runs),
        "settings": runs[0]["settings"],
        "images": len(runs[0]["images"]),
        "patients": len(set(runs[0]["patients"])),
        "cpu_min": round(sum(run["cpu_s"] for run in runs) / 60, 1),
        "models": models,
        "looks": looks,
    }


def report(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    settings, looks = record["settings"], record["looks"]
    tuned = "tuned" in record["models"][LEARNER]["means"]
    lines = [
        f"# Chests of {B} with models of {A}, as they are and in the look of {A}",
        "",
        f"{record['images']} radiographs of {record['patients']} patients of {B} that no training has seen; "
        "means, ± standard deviation over runs. Lungs of their masks go on behind the heart, those of the "
        "models end at it: 1 cannot be reached, least of all for the left lung. Distances in pixels of each "
        "image. Flagged: share of results of which the model says something. CycleGAN of "
        f"{settings['size']} x {settings['size']} pixels and {settings['gan_steps']} steps of 2"
        + (f"; models tuned for {settings['steps']} steps of 8. " if tuned else ". ")
        + f"`{record['command']}`",
    ]
    heads = ["images", "runs", "Dice, right lung", "left lung", "both"]
    heads += ["Hausdorff distance, right lung", "both", "flagged"]
    for model, found in record["models"].items():
        rows = [
            [WORDS[arm], str(len(own[FLAGGED]["values"]))]
            + [mean_and_spread(own[metric], 1 if "hd" in metric else 3) for metric in (*METRICS, FLAGGED)]
            for arm, own in found["means"].items()
        ]
        lines += ["", f"## {model}", "", *table_lines(heads, rows), ""]
        tests = [
            [WORDS[pair.split(" - ")[0]], WORDS[pair.split(" - ")[1]]]
            + [f"{t['difference']:+.3f} ({t['ci'][0]:+.3f} to {t['ci'][1]:+.3f})"]
            + [p_cell(t["p_runs"]), f"{t['p_patients']:.2g}"]
            for pair, own in found["tests"].items()
            for t in [own["dice/lungs"]]
        ]
        heads_of_tests = ["images", "against", "Dice of both lungs (95 %)", "p over runs", "p over patients"]
        lines += table_lines(heads_of_tests, tests)
    shown = [
        [WORDS[arm]]
        + [mean_and_spread(own[name], 3) for name in ("js", "mean_change", "in_lungs", "around")]
        + [mean_and_spread(own["large_change"], 2)]
        for arm, own in looks.items()
    ]
    lines += [
        "",
        "## What is changed",
        "",
        f"JS: divergence, in bits, of grey values from those of {A}'s training images. Mean change of a grey "
        "value, and with its sign in the lungs of the masks and around them, in shares of the range; share "
        "of images with the flag `large_change`.",
        "",
        *table_lines(["images", "JS", "change", "in the lungs", "around", "large change"], shown),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    parser.add_argument("--size", type=int, default=128, help="side of the CycleGAN (default: 128)")
    parser.add_argument("--gan-steps", type=int, default=1200, help="of each CycleGAN (default: 1200)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of tuned models (default: {STEPS})")
    add_run_options(parser, ARMS)
    options = parse_run_options(parser)
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        for arm, run in options.only:
            path, job = options.work / f"{arm}_{run}.json", partial(do, arm, run, options)
            keep(path, f"{arm}, run {run}", settings_of(options), job)
        return
    command = "python experiments/cyclegan_chest.py --root DIR --work WORK"
    record = record_of(read_runs(options.work, pattern="*_[0-9].json"), command)
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, NAME, record, text)


if __name__ == "__main__":
    main()
