"""Do centrelines help where structures are thin? Roots of barley, with and without soft clDice.

    python experiments/roots_masks.py --root ROOTS --to FOLDER
    python experiments/roots_segmentation.py --root FOLDER --work WORK [--only dice:1 cldice:1]
    python experiments/roots_segmentation.py --work WORK --report --out docs/evidence

The U-Net of ``unet/roots.yaml``, with its objective (clDice) and without (Dice), in equally many steps with
the same batches and starts. Nothing is chosen: settings were fixed beforehand, and the averaged weights of
the last steps are measured on the validation photographs, in their own pixels. Masks are lines of 12 pixels
drawn from RSML. clDice is the hard one of skeletons (scikit-image); the length is that of the skeleton,
against the skeleton of the mask, so that roots which share a stretch count once there as well.
"""

import argparse
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from comparing import options_of, p_cell, p_over_runs, paired, table_lines, write
from fitting import WARMUP_STEPS, keep_quiet, shipped, trainer_of
from kept import add_run_options, commits_of, design_of, keep, parse_run_options, read_runs

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.metrics.functional import dice
from anatozoo.objectives import Centerline
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder

ARMS = {"dice": "Dice and cross-entropy", "cldice": "the same and soft clDice"}
RUNS, STEPS = (1, 2, 3), 400
METRICS = {"dice": "Dice", "cldice": "clDice", "length_error": "error of the length", "parts": "parts"}
NAME, CONFIG = "roots-segmentation_experiment", "unet/roots.yaml"


def skeleton_length(skeleton: np.ndarray) -> float:
    """Length of a skeleton in pixels: neighbours by sides count 1, by corners alone √2."""
    straight = (skeleton[1:] & skeleton[:-1]).sum() + (skeleton[:, 1:] & skeleton[:, :-1]).sum()
    corners = 0
    for a, b, c, d in (
        (skeleton[1:, 1:], skeleton[:-1, :-1], skeleton[1:, :-1], skeleton[:-1, 1:]),
        (skeleton[1:, :-1], skeleton[:-1, 1:], skeleton[1:, 1:], skeleton[:-1, :-1]),
    ):
        corners += (a & b & ~c & ~d).sum()
    return float(straight + np.sqrt(2) * corners)


def measured(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What is told of masks (H, W) bool."""
    from scipy.ndimage import label
    from skimage.morphology import skeletonize

    bones, wanted = skeletonize(found), skeletonize(truth)
    precision = float((bones & truth).sum() / max(bones.sum(), 1))
    sensitivity = float((wanted & found).sum() / max(wanted.sum(), 1))
    both = precision + sensitivity
    length, true = skeleton_length(bones), skeleton_length(wanted)
    return {
        "dice": dice(found, truth),
        "cldice": 2 * precision * sensitivity / both if both else 0.0,
        "length_error": abs(length - true) / true,
        "parts": float(label(found, np.ones((3, 3)))[1]),
    }


def do(arm: str, run: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train a network and measure it; gives its record."""
    settings = shipped(CONFIG)
    L.seed_everything(run, verbose=False)
    model, size = dict(settings["model"]), FrameSpec(options.size)
    optim = Optim(**{**model.pop("optim"), "warmup_steps": WARMUP_STEPS})
    module = UNetModule(**{**model, "frame": size}, optim=optim)
    data = UNetDataModule(
        root=str(options.root),
        layout="folder",
        organs=model["organs"],
        frame=size,
        batch_size=settings["data"]["batch_size"],
        augment=settings["data"]["augment"],
    )
    terms = [Centerline(**each["init_args"]) for each in settings["objectives"]] if arm == "cldice" else []
    trainer_of(options.steps, *terms, enable_checkpointing=False).fit(module, data)
    module.eval()
    write_checkpoint_folder(
        module, options.work / f"unet-roots-{arm}{run}", name="unet-roots", version="1.0.0"
    )
    rows = []
    for case in data.sets["val"].cases:
        image = case.read_image(2)
        truth, _ = case.read_labels(model["organs"], image.grid)
        found = module.predict(options.root / "images" / f"{case.subject}.png").mask
        rows.append({"case": case.id} | measured(np.asarray(found) > 0, truth > 0))
    return {"arm": arm, "seed": run, "train": len(data.sets["train"]), "rows": rows}


def record_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over runs and photographs, and tests."""
    values = {
        arm: {
            metric: np.array([[row[metric] for row in run["rows"]] for run in runs if run["arm"] == arm])
            for metric in METRICS
        }
        for arm in ARMS
        if any(run["arm"] == arm for run in runs)
    }
    tests = {}
    if len(values) == 2:
        for metric in METRICS:
            one, other = values["cldice"][metric], values["dice"][metric]
            count = min(len(one), len(other))
            cases = paired(one[:count].mean(0) - other[:count].mean(0))
            p = p_over_runs(one[:count].mean(1) - other[:count].mean(1))
            tests[metric] = {"difference": cases["difference"], "p_runs": p, "p_cases": cases["p"]}
    return {
        "settings": runs[0]["settings"],
        "train": runs[0]["train"],
        "val": len(runs[0]["rows"]),
        "means": {
            arm: {
                metric: {
                    "mean": float(found.mean()),
                    "median": float(np.median(found)),
                    "runs": found.mean(1).tolist(),
                }
                for metric, found in each.items()
            }
            for arm, each in values.items()
        },
        "tests": tests,
        "commits": commits_of(runs),
    }


def report(record: dict[str, Any]) -> str:
    """The tables."""
    lines = ["# Thin structures: roots of barley", "", f"`{record['command']}`", ""]
    lines += [f"{record['train']} photographs of training, {record['val']} of validation, not chosen on.", ""]
    head = ("trained with", "runs", "Dice", "clDice", "error of the length: mean", "median", "parts")
    cells = []
    for arm, means in record["means"].items():
        length = means["length_error"]
        cells.append(
            [
                ARMS[arm],
                str(len(means["dice"]["runs"])),
                f"{means['dice']['mean']:.3f}",
                f"{means['cldice']['mean']:.3f}",
                f"{length['mean']:.1%}",
                f"{length['median']:.1%}",
                f"{means['parts']['mean']:.1f}",
            ]
        )
    lines += table_lines(head, cells)
    if record["tests"]:
        lines += [
            "",
            "clDice minus Dice alone; p of the paired t-test over runs, of Wilcoxon's over photographs.",
            "",
        ]
        lines += table_lines(
            ("", "difference", "p over runs", "p over photographs"),
            [
                [
                    METRICS[metric],
                    f"{each['difference']:+.3f}",
                    p_cell(each["p_runs"]),
                    f"{each['p_cases']:.2g}",
                ]
                for metric, each in record["tests"].items()
            ],
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    add_run_options(parser, dict.fromkeys(ARMS, RUNS))
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each run (default: {STEPS})")
    parser.add_argument("--size", type=int, default=384, help="side of the frame (default: 384)")
    options = parse_run_options(parser)
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        settings = {"steps": options.steps, "size": options.size, "design": design_of(shipped(CONFIG))}
        for arm, run in options.only:
            keep(
                options.work / f"{arm}_{run}.json",
                f"{arm}, run {run}",
                settings,
                partial(do, arm, run, options),
            )
        return
    command = "python experiments/roots_segmentation.py --root FOLDER --work WORK; the same with --report"
    record = {"command": f"{command} --out docs/evidence", **record_of(read_runs(options.work, "dice"))}
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, NAME, record, text)


if __name__ == "__main__":
    main()
