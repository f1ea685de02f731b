"""Gradient surgery: does a network work better where it has never been, if it learns what domains agree on?

    python experiments/surgery_evidence.py --setting pacs --root PACS --work WORK [--only deep_all:1 pcgrad]
    python experiments/surgery_evidence.py --setting lgg --root LGG --work WORK
    python experiments/surgery_evidence.py --work WORK --report --out docs/evidence

After Mansilla et al., "Domain Generalization via Gradient Surgery", ICCV 2021: networks learn from all
domains but one, with equal shares of each in every batch, and are measured on the one that is held out.
Deep-All (the plain gradient), Agr-Sum, Agr-Rand and PCGrad share seeds, batches and starting weights in each
trial.

`pacs`: seven classes of images in four manners, by EfficientNet-Lite0 with ImageNet weights instead of
AlexNet. `lgg`: gliomas in FLAIR slices of four institutions, by a U-Net with that encoder. The statistics of
batch normalisation are frozen, because they would depend on how a method divides its batches.

A fit sees the training split of three domains. The fourth is measured as a whole: both its splits, since all
of it is unseen; the validation split of the three says how well the network does at home. Nothing is chosen
on any of these: settings were fixed beforehand, and the weights of the last step are measured.

`--root` holds the images and `splits.json`. A run is kept in a file of `--work`, and done once; several
processes may share the folder. `--report` puts together whatever runs there are, of both settings.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from comparing import options_of, write
from fitting import Steps, keep_quiet
from kept import add_run_options, keep, parse_run_options
from lightning.pytorch.callbacks import Callback
from surgery_report import draw, find_runs, record_of, report
from surgery_settings import METHODS, SETTINGS, Batches, Items, domains_of
from torch.utils.data import DataLoader

from anatozoo.data.base import EachSampler
from anatozoo.objectives import Agreement
from anatozoo.training.freezing import FrozenStatistics

STEM = "surgery"


class Run(NamedTuple):
    """One network: an arm, the domain that it does not see, and the trial, which is its seed."""

    setting: str
    method: str
    held_out: str
    trial: int

    @property
    def file(self) -> str:
        """Name of its file."""
        return "_".join(("run", *map(str, self))) + ".json"


class Shares(Callback):
    """Keeps the share of the gradient in agreement at each step, and the mean of each layer."""

    def __init__(self, agreement: Agreement) -> None:
        self.agreement, self.curve = agreement, list[float]()
        self.layers: dict[str, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Take the shares of the step."""
        assert self.agreement.share is not None
        self.curve.append(round(float(self.agreement.share), 5))
        for name, share in self.agreement.shares.items():
            self.layers[name] = self.layers.get(name, 0.0) + float(share)

    def means(self) -> dict[str, float]:
        """Layer -> its mean share."""
        return {name: round(total / len(self.curve), 5) for name, total in self.layers.items()}


def train(run: Run, items: Items, options: argparse.Namespace) -> tuple[L.LightningModule, Shares]:
    """Train a network on all domains but one."""
    L.seed_everything(run.trial, verbose=False)
    setting = SETTINGS[run.setting]
    agreement = Agreement(METHODS[run.method][0])  # type: ignore[arg-type]
    module, shares = setting.module(agreement, options.size, options.lr), Shares(agreement)
    seen = domains_of(setting, run.held_out)
    given = setting.training(items.chosen(items.train & np.isin(items.domain, seen)))
    loader = DataLoader(
        Batches(given),
        batch_size=options.per_domain * len(seen),
        sampler=EachSampler([seen.index(domain) for domain in given.domain.tolist()]),
        drop_last=True,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=options.steps,
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=[agreement, FrozenStatistics(), shares, Steps()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return module.eval(), shares


def do(run: Run, items: Items, options: argparse.Namespace) -> dict[str, Any]:
    """Train and measure a network; gives its record."""
    start = time.process_time()
    module, shares = train(run, items, options)
    trained, setting = time.process_time() - start, SETTINGS[run.setting]
    unseen = items.domain == setting.domains.index(run.held_out)
    scores = setting.scores(module, items.chosen(unseen))
    at_home = setting.scores(module, items.chosen(~unseen & ~items.train))
    record = {
        **run._asdict(),
        "train_cpu_s": round(trained, 1),
        "score": float(np.mean(list(scores.values()))),
        "cases": len(scores),
        "at_home": float(np.mean(list(at_home.values()))),
        # Of photographs the mean says all; patients are compared one by one.
        "scores": scores if run.setting == "lgg" else {},
        "share": shares.curve,
        "layers": shares.means(),
    }
    print(
        f"  {record['score']:.3f} of {len(scores)} unseen, {record['at_home']:.3f} at home, share in "
        f"agreement {np.mean(shares.curve):.3f}",
        flush=True,
    )
    return record


def runs_of(options: argparse.Namespace) -> list[Run]:
    """The runs that are asked for, trials first."""
    trials = SETTINGS[options.setting].trials
    return [
        Run(options.setting, method, held_out, trial)
        for trial in range(1, 1 + trials)
        for held_out in options.held_out
        for method, number in options.only
        if number == trial
    ]


def _arguments() -> argparse.Namespace:
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    parser.add_argument("--setting", choices=SETTINGS, default="pacs", help="(default: pacs)")
    trials = range(1, 1 + max(setting.trials for setting in SETTINGS.values()))
    add_run_options(parser, dict.fromkeys(METHODS, trials))
    parser.add_argument("--held-out", nargs="+", help="domains (default: each once)")
    parser.add_argument("--steps", type=int, default=150, help="of each run (default: 150)")
    parser.add_argument("--size", type=int, default=96, help="side of the input (default: 96)")
    parser.add_argument("--per-domain", type=int, help="images of a batch (default: 16 of pacs, 8 of lgg)")
    parser.add_argument("--lr", type=float, help="learning rate (default: 3e-4 of pacs, 1e-3 of lgg)")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder for the picture")
    options = parse_run_options(parser)
    setting = SETTINGS[options.setting]
    options.held_out = options.held_out or list(setting.domains)
    if unknown := set(options.held_out) - set(setting.domains):
        parser.error(f"--held-out {' '.join(sorted(unknown))}: choose from {', '.join(setting.domains)}")
    options.per_domain, options.lr = options.per_domain or setting.per_domain, options.lr or setting.lr
    return options


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        options.work.mkdir(parents=True, exist_ok=True)
        items = SETTINGS[options.setting].items(options.root, options.size, options.work)
        settings = {name: getattr(options, name) for name in ("size", "steps", "per_domain", "lr")}
        for run in runs_of(options):
            title = f"{run.setting}: {METHODS[run.method][1]} without {run.held_out}, trial {run.trial}"
            keep(options.work / run.file, title, settings, partial(do, run, items, options), "timm")
        return
    runs = find_runs(options.work)
    record = record_of(runs)
    text = report(record, f"../images/{STEM}-agreement.png")
    print(text)
    if options.out is not None:
        write(options.out, f"{STEM}_experiment", record, text)
        draw(runs, options.images / f"{STEM}-agreement.png")


if __name__ == "__main__":
    main()
