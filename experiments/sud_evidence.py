"""Supervision by denoising: what do unlabelled images give, with a memory, with a denoiser, and with both?

    python experiments/sud_evidence.py --root DIR --work WORK --setting jsrt
    python experiments/sud_evidence.py --work WORK --setting jsrt --report --out docs/evidence

After Young, Dalca, Ferrante et al., arXiv 2202.02952, with the objective `Denoising`. A few annotated
subjects of the training split, others in each run, teach a small U-Net; the rest of the split are images
alone. All arms take equally many steps with equally many annotated images, in the same order and with the
same augmentation; settings were fixed beforehand, and the averaged weights of the last step are measured on
the validation split: nothing was chosen.

Arms: supervised; temporal alone (a memory and no denoiser); spatial alone (a denoiser and no memory); self-
training (neither, with hard labels); SUD; and, on JSRT alone, supervised on images half of which have the
damage of the test. Denoisers know the masks of the annotated images (few) or, in arms of JSRT, of the whole
training split without their images (all masks), which is more than supervised training knows. They learn to
undo smooth noise of logits, missing and cut organs, frayed borders and the like, and no shapes or patches.
Test images are as they are and with bright ellipsoids and their stripes (metal), which no denoiser and no
network has seen but that one arm.

Every network is measured as it is, and repaired at test time, as `anatozoo predict --then` does it, by either
denoiser, beside the largest part of each organ with filled holes. Everything is measured in the network's
frame, distances in its pixels.

Settings: jsrt, acdc3, acdc7, la, hippocampus. A run is a file of `--work`, done once; several processes may
share the folder. `--only` chooses runs, such as ``sud`` or ``sud:1``.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from comparing import averaged, largest_parts, options_of, write
from fitting import keep_quiet, trainer_of
from kept import add_run_options, design_of, keep, make_once, parse_run_options, read_runs
from sud_design import ARMS, DAMAGED, DEGRADE, LOOKS, OPTIM, SETTINGS, Setting, damaging, find_split, seen
from sud_report import REFERENCE, record_of, report
from torch import Tensor

import anatozoo
from anatozoo.data.case import Case
from anatozoo.errors import ConfigError
from anatozoo.objectives.denoiser import Denoiser
from anatozoo.tasks.trials import labels_beside
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.registry import find_method


def data_of(setting: Setting, root: Path, method: str, batch: int, **settings: Any) -> Any:
    """A data module of the setting; its `sets` are given, rather than found in files."""
    return find_method(method).data_class()(
        root=str(root),
        layout=setting.layout,
        organs=setting.organs,
        frame=setting.frame,
        batch_size=batch,
        **settings,
    )


def denoiser(
    masks: str, cases: Sequence[Case], seed: int, setting: Setting, options: argparse.Namespace
) -> tuple[str, float]:
    """The folder of a denoiser, trained unless it is there, and the seconds of CPU that it took."""
    folder = options.work / f"postdae-{masks}-{seed}"

    def make() -> None:
        L.seed_everything(seed, verbose=False)
        settings: dict[str, Any] = {"organs": setting.organs, "frame": setting.frame, "optim": OPTIM}
        module = find_method("postdae").module_class()(**settings, **setting.denoiser)
        data = data_of(setting, options.root, "postdae", setting.denoiser_batch, degrade=DEGRADE)
        masks_alone = data.dataset(cases, "train")
        # Few masks are fewer than a batch: each is drawn several times, damaged anew.
        data.repeat = -(-setting.denoiser_batch // len(masks_alone))
        data.sets = {"train": masks_alone, "val": masks_alone}
        trainer_of(options.denoiser_steps, enable_checkpointing=False).fit(module, data)
        write_checkpoint_folder(module.eval(), folder, name=folder.name, version="1.0.0", half=False)

    depends = {"steps": options.denoiser_steps, "design": design_of(setting, DEGRADE, OPTIM)}
    return str(folder), make_once(folder, depends, make)


def train(
    arm: str,
    split: Mapping[str, Sequence[Case]],
    seed: int,
    setting: Setting,
    denoisers: Mapping[str, str],
    options: argparse.Namespace,
) -> Any:
    """Train a network; gives its module and its data module."""
    L.seed_everything(seed, verbose=False)
    how = ARMS[arm]
    settings: dict[str, Any] = {"organs": setting.organs, "frame": setting.frame, "optim": OPTIM}
    module = find_method(setting.method).module_class()(**settings, **setting.model)
    more = {} if how.denoising is None else {"unlabelled": setting.batch}
    data = data_of(
        setting, options.root, setting.method, setting.batch, augment=dict(setting.augment), **more
    )
    if how.damaged:
        data.prepare = damaging(data.prepare)
    data.sets = {name: data.dataset(split[name], name) for name in ("train", "val", "unlabelled")}
    # An epoch is one of the unlabelled images in all arms, so that all see the same annotated images.
    data.repeat = -(-len(split["unlabelled"]) // len(split["train"]))
    fixed: dict[str, Any] = {"precision": setting.precision, "enable_checkpointing": False}
    trainer = trainer_of(options.steps, *how.objective(denoisers), **fixed)
    trainer.fit(module, data)
    return module.eval(), data


@torch.inference_mode()
def measure(module: Any, data: Any, repairs: Mapping[str, Denoiser]) -> list[dict[str, Any]]:
    """A row for each validation case, look and repair."""
    rows, items, organs = [], data.sets["val"], list(module.organs)
    for number, case in enumerate(items.cases):
        item = items[number]
        truth = item["labels"].numpy().astype(np.uint8)
        for look in LOOKS:
            image: Tensor = seen(item["image"], case.id, look)
            shares = module(image[None]).float().softmax(1)
            bare = shares.argmax(1)[0].numpy().astype(np.uint8)
            found = {"none": bare, "parts": largest_parts(bare, len(organs))}
            found |= {
                name: repair(shares).argmax(1)[0].numpy().astype(np.uint8) for name, repair in repairs.items()
            }
            for then, labels in found.items():
                numbers = averaged(labels_beside(labels, truth, organs, None), organs, ("dice", "hd_px"))
                who = {"case": case.id, "subject": case.subject, "look": look, "then": then}
                rows.append(who | numbers)
    return rows


def do(arm: str, seed: int, setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """Train and measure a network; gives its record."""
    split = find_split(options.root, setting, seed)
    few, few_s = denoiser("few", split["train"], seed, setting, options)
    pool, pool_s = denoiser("pool", split["pool"], 0, setting, options)
    start = time.process_time()
    module, data = train(arm, split, seed, setting, {"few": few, "pool": pool}, options)
    trained = time.process_time() - start
    frame, organs = module.frame, list(module.organs)
    repairs = {
        name: Denoiser(anatozoo.load(source, trainable=False), organs=organs, frame=frame)
        for name, source in (("few", few), ("pool", pool))
    }
    return {
        "arm": arm,
        "seed": seed,
        "labelled": sorted({case.subject for case in split["train"]}),
        "unlabelled": len(split["unlabelled"]),
        "train_cpu_s": round(trained, 1),
        "denoiser_cpu_s": {"few": few_s, "pool": pool_s},
        "rows": measure(module, data, repairs),
    }


def _arguments() -> argparse.Namespace:
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    parser.add_argument("--setting", choices=SETTINGS, default="jsrt", help="data set (default: jsrt)")
    add_run_options(parser, dict.fromkeys(ARMS, range(1, 1 + SETTINGS["jsrt"].runs)))
    parser.add_argument("--steps", type=int, help="of each network (default: the setting's)")
    parser.add_argument("--denoiser-steps", type=int, help="of each denoiser (default: the setting's)")
    return parse_run_options(parser)


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    options = _arguments()
    setting = SETTINGS[options.setting]
    options.steps = options.steps or setting.steps
    options.denoiser_steps = options.denoiser_steps or setting.denoiser_steps
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        settings = {name: getattr(options, name) for name in ("setting", "steps", "denoiser_steps")}
        settings["design"] = design_of(setting, ARMS, DEGRADE, DAMAGED, OPTIM)
        asked = [(arm, seed) for arm, seed in options.only if arm in setting.arms and seed <= setting.runs]
        if not asked:
            raise ConfigError(f"{options.setting} has {setting.runs} runs of {', '.join(setting.arms)}.")
        for arm, seed in asked:
            title = f"{setting.label}: {ARMS[arm].label}, seed {seed}"
            run = partial(do, arm, seed, setting, options)
            keep(options.work / f"{arm}_{seed}.json", title, settings, run, "monai")
        return
    command = (
        f"python experiments/sud_evidence.py --root DIR --work WORK --setting {options.setting}; the same "
        "with --report --out docs/evidence"
    )
    record = record_of(read_runs(options.work, REFERENCE[0]), setting.label, command)
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, f"sud-{options.setting}_experiment", record, text)


if __name__ == "__main__":
    main()
