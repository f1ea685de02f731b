"""What the scripts of this folder that train share: options, and a fit of fixed length on the processor."""

import argparse
import hashlib
import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import yaml
from comparing import options_of
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging

from anatozoo.cli.settings import shipped_config
from anatozoo.cli.train import NOT_FOR_USERS
from anatozoo.data.case import Case
from anatozoo.io.chest import ChestCase

Named = TypeVar("Named", ChestCase, Case)
EMA_DECAY, WARMUP_STEPS, SAY_STEPS = 0.99, 30, 25


def by_hash(cases: Sequence[Named]) -> list[Named]:
    """The cases in the order of a hash of their names, which depends on nothing that the names may mean."""
    return sorted(cases, key=lambda case: hashlib.sha256(case.id.encode()).hexdigest())


def shipped(name: str) -> dict[str, Any]:
    """A configuration of the package, such as ``unet/lgg.yaml``."""
    found: dict[str, Any] = yaml.safe_load(Path(shipped_config(name)).read_text(encoding="utf-8"))
    return found


def keep_quiet() -> None:
    """Leave out what Lightning and its like tell those who write trainings."""
    for pattern in (*NOT_FOR_USERS, "You defined a `validation_step`"):
        warnings.filterwarnings("ignore", pattern)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def options_of_fits(description: str | None, *, reports: bool = False) -> argparse.ArgumentParser:
    """A parser of the options that the scripts of trainings have; `reports` as for `options_of`."""
    parser = options_of(description, threads=1, on_split=False, reports=reports)
    parser.add_argument("--size", type=int, default=256, help="side of the input (default: 256)")
    parser.add_argument("--batch", type=int, default=8, help="images per step (default: 8)")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder for the picture")
    return parser


class Steps(Callback):
    """Say now and then how far a fit is."""

    def __init__(self) -> None:
        self.start = time.process_time()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *rest: Any
    ) -> None:
        """Print every 25 steps."""
        if trainer.global_step % SAY_STEPS == 0:
            seconds = time.process_time() - self.start
            print(
                f"  step {trainer.global_step}, loss {float(outputs['loss']):.4g}, {seconds:.0f} s of CPU",
                flush=True,
            )


def trainer_of(steps: int, *callbacks: Callback, **settings: Any) -> L.Trainer:
    """A trainer of so many steps that validates nothing and averages the weights of the last hundred.

    Args:
        steps: how many.
        callbacks: further ones.
        settings: further arguments of the trainer.
    """
    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        callbacks=[EMAWeightAveraging(decay=EMA_DECAY), *callbacks, Steps()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
