"""Does a shape prior help? Hearts with few labels, and hippocampi from thick slices with motion.

    python experiments/prior_evidence.py --setting acdc --root DIR --work WORK
    python experiments/prior_evidence.py --setting hippocampus --root DIR --work WORK
    python experiments/prior_evidence.py --setting acdc --root DIR --work WORK --report --out docs/evidence

``acdc``: a few patients of ACDC are labelled, drawn anew for every run. ACNN's network is trained on them at
half the resolution without a prior, with ACNN's loss as the zoo ships it, with the residual of a denoising
autoencoder as the distance (see `anatozoo.objectives.shape_layers`), and with the same on the images of the
other patients as well, which then have no label. Each network segments the validation stacks in
its frame; what is implausible is counted as in `acnn_evidence.py`. ``largest part`` keeps of each structure
without a prior the largest part and fills its holes.

``hippocampus``, the task of ACNN's paper on data that can be had: slices of 5 mm with motion between them in,
labels of 1 mm without motion out, by the network's own upsampling across slices. The test volumes are those
of the validation split, thickened and moved, each always in the same way.

Autoencoders learn from the label maps of the whole training split and are shared by the runs of an arm, which
differ in their seed (order of the data, first weights and, on ACDC, the labelled patients). Nothing is
chosen on the validation split: settings were fixed beforehand, and the averaged weights of the last steps are
measured.

A run is kept in a file of ``--work`` and done once; ``--only none:1 residual:2`` chooses runs. Several
processes may share the folder. An autoencoder is trained by the first run that needs it.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from comparing import options_of
from fitting import WARMUP_STEPS, keep_quiet, trainer_of
from kept import add_run_options, design_of, keep, make_once, parse_run_options
from prior_design import SETTINGS, Setting, dealt, measure, prior_data, truth_row
from prior_report import report

from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.splits import refuse_dealt
from anatozoo.objectives import ShapePrior
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.registry import find_method


def fit(
    method: str,
    setting: Setting,
    options: argparse.Namespace,
    model: dict[str, Any],
    data: dict[str, Any],
    sets: dict[str, Sequence[Case]],
    steps: int,
    objectives: Sequence[ShapePrior] = (),
) -> Any:
    """Train a network of the zoo on cases; gives the module."""
    entry = find_method(method)
    optim = Optim("adam", 1e-3, 1e-5, schedule="cosine", warmup_steps=WARMUP_STEPS)
    module = entry.module_class()(
        organs=setting.organs, frame=setting.frame, dice_weight=1.0, optim=optim, **model
    )
    source = entry.data_class()(
        root=str(options.root), layout=setting.layout, organs=setting.organs, frame=setting.frame, **data
    )
    # Made here rather than found in files; the second is never asked for.
    source.sets = {split: source.dataset(cases, split) for split, cases in sets.items()}
    source.sets["val"] = source.sets["train"]
    settings: dict[str, Any] = {"enable_checkpointing": False}
    trainer_of(steps, *objectives, **settings).fit(module, source)
    return module.eval()


def prior_of(name: str, setting: Setting, cases: Sequence[Case], options: argparse.Namespace) -> float:
    """Train an autoencoder of the label maps, unless it is there; the seconds of CPU that it took."""
    folder = options.work / f"prior-{name}"

    def make() -> None:
        L.seed_everything(0, verbose=False)
        steps, model = options.prior_steps, dict(setting.priors[name])
        data = prior_data(setting) | {"batch_size": 4}
        module = fit("acnnprior", setting, options, model, data, {"train": cases}, steps)
        write_checkpoint_folder(module, folder, name=f"acnn-prior-{name}", version="1.0.0")

    depends = {"steps": options.prior_steps, "design": design_of(setting.priors[name], prior_data(setting))}
    return make_once(folder, depends, make)


def do(
    arm: str, seed: int, setting: Setting, splits: dict[str, list[Case]], options: argparse.Namespace
) -> dict[str, Any]:
    """Train a network and measure it; gives its record."""
    chosen, spent = setting.arms[arm], 0.0
    if chosen.prior in setting.priors:
        spent = prior_of(chosen.prior, setting, splits["train"], options)
    L.seed_everything(seed, verbose=False)
    begin = time.process_time()
    own, bare = dealt(splits["train"], seed, options.subjects)
    sets: dict[str, Sequence[Case]] = {"train": own}
    # An epoch is one of the other images in all arms, so that all see the labelled ones in the same order.
    data = {**setting.data, "batch_size": options.batch, "repeat": max(1, -(-len(bare) // len(own)))}
    if chosen.unlabelled:
        sets["unlabelled"], data["unlabelled"] = bare, options.batch
    objectives = chosen.objectives(options.work, options.steps)
    module = fit("acnn", setting, options, dict(setting.model), data, sets, options.steps, objectives)
    record = {
        "arm": arm,
        "seed": seed,
        "train_cpu_s": round(time.process_time() - begin, 1),
        "prior_cpu_s": spent,
        "rows": list(measure(setting, arm, module, splits["val"])),
    }
    if options.setting == "acdc":
        record["truth"] = truth_row(setting, splits["val"])
    return record


def splits_of(setting: Setting, options: argparse.Namespace) -> dict[str, list[Case]]:
    """Cases of the train and val splits.

    Raises:
        DataError: a split has none, or no list says which they are.
    """
    found = find_cases(options.root, setting.layout, tuple(setting.organs), dims=3)
    splits = {split: found.complete(setting.organs, split) for split in ("train", "val")}
    if not all(splits.values()):
        raise DataError(f"{options.root}: the train and val splits need cases.")
    refuse_dealt([case for cases in splits.values() for case in cases])
    splits["val"] = splits["val"][: options.cases]
    return splits


def _arguments() -> argparse.Namespace:
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    parser.add_argument("--batch", type=int, default=2, help="volumes per step (default: 2)")
    parser.add_argument("--setting", choices=SETTINGS, required=True)
    every = {arm: range(1, each.runs + 1) for each in SETTINGS.values() for arm in each.arms}
    add_run_options(parser, every)
    parser.add_argument("--steps", type=int, help="of each network")
    parser.add_argument("--prior-steps", type=int, help="of each autoencoder")
    parser.add_argument("--subjects", type=int, help="that are labelled")
    parser.add_argument("--cases", type=int, help="of the validation split that are measured (default: all)")
    options = parse_run_options(parser)
    for name in ("steps", "prior_steps", "subjects"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(SETTINGS[options.setting], name))
    return options


def main() -> None:
    """Parse the options, then do what is missing, or write the report."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    setting = SETTINGS[options.setting]
    if options.report:
        report(options, setting)
        return
    keep_quiet()
    splits = splits_of(setting, options)
    names = ("setting", "steps", "prior_steps", "subjects", "batch", "cases")
    settings = {name: getattr(options, name) for name in names} | {"design": design_of(setting)}
    asked = [(arm, seed) for arm, seed in options.only if arm in setting.arms and seed <= setting.runs]
    if not asked:
        raise ConfigError(
            f"{options.setting} has the arms {', '.join(setting.arms)}, {setting.runs} runs each."
        )
    for arm, seed in asked:
        run = partial(do, arm, seed, setting, splits, options)
        keep(options.work / f"{arm}_{seed}.json", f"{arm}, seed {seed}", settings, run, "monai")


if __name__ == "__main__":
    main()
