"""Labels that differ from hospital to hospital: does a network forget an organ where it was never drawn?

    python experiments/heterogeneous_labels.py --root DIR --work WORK --organ heart --remove-from B
    python experiments/heterogeneous_labels.py --root DIR --work WORK --report --out docs/evidence

After Gaggion et al., "Multi-center anatomical segmentation with heterogeneous labels via landmark-based
models", ISBI 2023, where the hospitals differ in the organs that they drew. Their other hospitals cannot be
had, so two are made of one: the training images of JSRT are dealt to A and B by a hash of their names. B
looks different (darker, with locally equalised contrast, a curve of grey values, a mark burnt in and a black
border), and one organ is taken from the labels of A or of B. Every network is trained on both, and measured
on the validation images in both looks, against all labels. Nothing is chosen on these: settings were fixed
beforehand, and the weights of the last step are measured.

The arms: HybridGNet with the loss of its publication, and with the refinement and the loss on contours of the
zoo's weights; and, as U-Nets, one that takes what is not drawn for background, one that counts
background and the organ as right, UNet-HT with a yes or no for each organ, and DynUNet in the manner of
nnU-Net, with background or with nnU-Net's label "ignore".

The code of an image, the mean of HybridGNet's latents or the averages of the channels of a U-Net's coarsest
map, tells how far a network keeps the two hospitals apart: by a classifier of hospitals, silhouettes and MMD.

`--root` holds JSRT and the landmark data set. A run is kept in a file of `--work`, and done once. `--only`
and `--seed` choose runs, so that they can be done apart; `--report` puts together whatever runs there are, of
all organs and hospitals.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from comparing import write
from fitting import WARMUP_STEPS, keep_quiet, options_of_fits, shipped, trainer_of
from heterogeneous_codes import apart, codes_of
from heterogeneous_design import ARMS, DOMAINS, ORGANS, Run, as_seen, deal, find_patients
from heterogeneous_report import draw, record_of, report
from kept import add_run_options, keep, read_runs

from anatozoo.frames.spec import FrameSpec
from anatozoo.io.chest import ChestCase
from anatozoo.metrics.cases import Measures
from anatozoo.tasks.trials import Conditions, measured
from anatozoo.training.optim import Optim
from anatozoo.zoo.registry import find_method

SEEDS = (1, 2, 3)
SPACING_MM = 0.35
STEM = "heterogeneous-labels"


def train(run: Run, patients: Mapping[str, Sequence[ChestCase]], options: argparse.Namespace) -> Any:
    """Train a network on both hospitals; gives the module and its data module."""
    L.seed_everything(run.seed, verbose=False)
    arm, frame = ARMS[run.arm], FrameSpec(options.size)
    optim = Optim("adamw", 1e-3, 1e-4, encoder_lr_scale=0.3, schedule="cosine", warmup_steps=WARMUP_STEPS)
    if arm.settings.get("encoder") == "dynunet":
        optim = replace(optim, encoder_lr_scale=1.0)  # nothing was learnt before
    entry = find_method(arm.method)
    module = entry.module_class()(frame=frame, optim=optim, **arm.settings)
    paper = shipped("unet/paper.yaml")
    data = entry.data_class()(
        root=str(options.root),
        layout="jsrt",
        organs=arm.settings["organs"],
        frame=frame,
        batch_size=options.batch,
        balance="domain",
        augment=paper["data"]["augment"],
    )
    cases = [
        as_seen(chest, domain, run.organ if domain == run.domain else None)
        for domain, dealt in deal(patients["train"]).items()
        for chest in dealt
    ]
    # Made here rather than found in files; the second is never asked for.
    data.sets = {split: data.dataset(cases, split) for split in ("train", "val")}
    trainer = trainer_of(
        round(arm.longer * options.steps), precision=options.precision, enable_checkpointing=False
    )
    trainer.fit(module, data)
    return module.eval(), data


def do(run: Run, patients: Mapping[str, Sequence[ChestCase]], options: argparse.Namespace) -> dict[str, Any]:
    """Train and measure a network; gives its record."""
    start = time.process_time()
    module, data = train(run, patients, options)
    trained = time.process_time() - start
    how = Conditions(Measures(plausibility=False), (SPACING_MM,), exclusive=True)
    rows = []
    for domain in DOMAINS:
        tests = [as_seen(chest, domain) for chest in patients["val"]]
        for row in measured(module, module.trials(tests, how), how.measures):
            rows.append({"id": row["id"], "look": domain} | {o: row[f"dice/{o}"] for o in ORGANS})
    looks = [as_seen(chest, domain) for domain in DOMAINS for chest in patients["val"]]
    codes = codes_of(module, data.dataset(looks, "val"))
    which = np.repeat((0, 1), len(patients["val"]))
    own = codes_of(module, data.sets["train"])
    of_own = np.asarray([case.domain == "B" for case in data.sets["train"].cases]).astype(int)
    record = {
        **run._asdict(),
        "parameters": sum(p.numel() for p in module.network.parameters()),
        "train_cpu_s": round(trained, 1),
        "rows": rows,
        "unseen": apart(codes, which, np.tile(np.arange(len(patients["val"])), 2)),
        "trained": apart(own, of_own),
        "codes": np.round(codes, 5).tolist(),
    }
    there = np.mean([row[run.organ] for row in rows if row["look"] == run.domain])
    told = record["unseen"]["logistic"]
    print(f"  {run.organ} in {run.domain}: Dice {there:.3f}; hospitals told apart {told:.2f}", flush=True)
    return record


def _arguments() -> argparse.Namespace:
    parser = options_of_fits(__doc__)
    parser.add_argument("--organ", choices=("lungs", "heart"), default="heart", help="that is not drawn")
    parser.add_argument("--remove-from", choices=DOMAINS, default="B", help="where it is not (default: B)")
    add_run_options(parser, dict.fromkeys(ARMS, SEEDS))
    parser.add_argument(
        "--steps",
        type=int,
        default=400,
        help="of each U-Net; HybridGNet does 1.5 times as many (default: 400)",
    )
    parser.add_argument("--precision", default="bf16-mixed", help="of the fits (default: bf16-mixed)")
    return parser.parse_args()


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        patients = find_patients(options.root)
        settings = {name: getattr(options, name) for name in ("size", "steps", "batch", "precision")}
        for arm, seed in options.only:
            run = Run(arm, options.organ, options.remove_from, seed)
            title = f"{ARMS[run.arm].label}, no {run.organ} in {run.domain}, seed {run.seed}"
            keep(options.work / run.file, title, settings, partial(do, run, patients, options), "monai")
        return
    runs = read_runs(options.work)
    record = record_of(runs)
    text = report(record, f"../images/{STEM}.png")
    print(text)
    if options.out is not None:
        write(options.out, f"{STEM}_experiment", record, text)
        draw(runs, record["arms"], options.images / f"{STEM}.png")


if __name__ == "__main__":
    main()
