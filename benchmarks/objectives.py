"""What each objective adds to a training step: its time against that of a step without any.

    python benchmarks/objectives.py [--network unet dynunet3d] [--only Entropy ...] [--rounds 3] [--out FILE]

A step is that of a fit: forward, the method's loss, the objective's terms, backward and the optimiser, on one
batch of random numbers that is ready. Times are of the processor, the shortest step of some fits that take
turns, so that other work matters little. Weights are random: time does not depend on them. `Orthogonal` has
four earlier members, `Denoising` a denoiser. The command ends with 1 where an objective costs more than its
goal.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch.utils.data import DataLoader

import anatozoo.objectives
from anatozoo.cli.train import NOT_FOR_USERS
from anatozoo.data.base import CaseDataset
from anatozoo.data.case import Case
from anatozoo.data.module import UNLABELLED
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.metrics.tables import provenance
from anatozoo.zoo.checkpoint import method_of, write_checkpoint_folder
from anatozoo.zoo.registry import find_method

ORGANS, DOMAINS, EARLIER = ["lungs", "heart"], 2, 4


class Cost(NamedTuple):
    """An objective of the table.

    Attributes:
        goal: most times that a step without objectives may be exceeded; None sets none.
        settings: of its constructor, from the folders of what it may need, by name.
    """

    goal: float | None
    settings: Callable[[Mapping[str, str]], dict[str, Any]] = lambda folders: {}


COSTS = {
    "Entropy": Cost(1.05),
    "Calibration": Cost(None),
    "Centerline": Cost(None),
    "ShapePrior": Cost(1.35, lambda folders: {"source": folders["shapes"], "weight": 0.01}),
    "Orthogonal": Cost(1.1, lambda folders: {"members": [folders[f"earlier{n}"] for n in range(EARLIER)]}),
    "Denoising": Cost(2.2, lambda folders: {"source": folders["denoiser"]}),
    "Agreement": Cost(DOMAINS + 0.3),
}
"""One line for each objective of the package."""


def unet(size: int) -> dict[str, Any]:
    """A U-Net of radiographs of `size` x `size` pixels, and its models of shapes, all with random weights."""
    settings: dict[str, Any] = {"organs": ORGANS, "frame": FrameSpec(size)}
    network = UNetModule(**settings)
    return {
        "member": network,
        "shapes": AeNetModule(**settings),
        "denoiser": PostDAEModule(**settings, widths=[16, 32, 48, 64], code=64, skips=[2, 4, 8, 16]),
    }


def dynunet3d(size: int) -> dict[str, Any]:
    """DynUNet for volumes with an eighth of `size` a side, and its models of shapes."""
    settings: dict[str, Any] = {"organs": ORGANS, "frame": FrameSpec([size // 8] * 3, "stretch")}
    return {
        "member": AcnnModule(**settings, architecture="dynunet", widths=[16, 32, 64, 96]),
        "shapes": AcnnPriorModule(**settings),
        "denoiser": PostDAEModule(**settings, widths=[8, 16, 32], code=64, skips=[2, 4, 8]),
    }


NETWORKS = {"unet": unet, "dynunet3d": dynunet3d}


def batch_of(module: Any, count: int) -> dict[str, Any]:
    """A batch of random numbers with all that objectives ask for."""
    draw = torch.Generator().manual_seed(1)
    numbers = torch.arange(count)
    image = torch.rand((count, 1, *module.shape), generator=draw)
    labels = torch.randint(0, 1 + len(ORGANS), (count, *module.shape), generator=draw)
    known = torch.ones(count, len(ORGANS), dtype=torch.bool)
    bare = {"image": image.flip(0), "labels": 0 * labels, "known": ~known, "index": numbers}
    batch = {"image": image, "labels": labels, "known": known, "index": numbers, "domain": numbers % DOMAINS}
    return batch | {UNLABELLED: bare}


class Cases(CaseDataset):
    """As many cases as a batch has, of which nothing is read."""


class Same(L.LightningDataModule):
    """The same batch again and again."""

    def __init__(self, batch: dict[str, Any], steps: int) -> None:
        super().__init__()
        self.batch, self.steps, self.unlabelled = batch, steps, len(batch["image"])
        self.sets = {UNLABELLED: Cases([Case(str(n), str(n), "train", "d") for n in range(self.unlabelled)])}

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The batch of each step."""
        return DataLoader([self.batch] * self.steps, batch_size=None)  # type: ignore[arg-type]


class Clock(L.Callback):
    """Keeps the shortest time of the processor that a step took, from its batch to its end."""

    best = float("inf")

    def on_train_batch_start(self, *_: Any) -> None:
        """Start."""
        self.start = time.process_time()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop."""
        self.best = min(self.best, time.process_time() - self.start)


def keep_quiet() -> None:
    """Leave out what Lightning tells those who write trainings."""
    for pattern in NOT_FOR_USERS:
        warnings.filterwarnings("ignore", pattern)
    warnings.filterwarnings("ignore", "You defined a `validation_step`")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def stored(model: Any, folder: Path) -> Path:
    """A model as a checkpoint."""
    name = f"{find_method(method_of(model)).prefixes[0]}-bench"
    return write_checkpoint_folder(model, folder, name=name, version="1.0.0")


def seconds_of(module: Any, batch: dict[str, Any], objectives: list[Any], steps: int) -> float:
    """The shortest time of a step of a fit, with these objectives."""
    clock = Clock()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        callbacks=[*objectives, clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Same(batch, steps))
    return clock.best


def measure(network: str, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Print a line for each objective; gives the seconds without, the ratios, and those that miss goals."""
    torch.manual_seed(0)
    models = NETWORKS[network](options.size)
    module = models.pop("member")
    models |= {f"earlier{n}": NETWORKS[network](options.size)["member"] for n in range(EARLIER)}
    batch, best = batch_of(module, options.batch), dict[str, float]()
    with tempfile.TemporaryDirectory() as work:
        folders = {
            name: str(stored(model, Path(work) / name.replace(" ", "-"))) for name, model in models.items()
        }
        # In turns, so that other work on the machine matters little.
        for name in ["none", *names] * options.rounds:
            objectives = []
            if name in COSTS:
                objectives = [getattr(anatozoo.objectives, name)(**COSTS[name].settings(folders))]
            given = batch if name == "Denoising" else {k: v for k, v in batch.items() if k != UNLABELLED}
            seconds = seconds_of(module, given, objectives, options.steps)
            best[name] = min(best.get(name, seconds), seconds)
    print(f"{network}: {best['none']:.3f} s of CPU for a step without objectives, batch {options.batch}")
    ratios, late = dict[str, float](), list[str]()
    for name in names:
        ratio, goal = best[name] / best["none"], COSTS[name].goal
        missed = goal is not None and ratio > goal
        ratios[name] = round(ratio, 3)
        late += [name] if missed else []
        words = "no goal" if goal is None else f"goal {goal:g}{', MISSED' if missed else ''}"
        print(f"  {name:<12} x {ratio:.3f}   {words}", flush=True)
    return {"seconds_without": round(best["none"], 4), "ratios": ratios, "missed": late}


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--only", nargs="+", choices=COSTS, default=list(COSTS), help="objectives")
    parser.add_argument("--size", type=int, default=256, help="side of a radiograph (default: 256)")
    parser.add_argument("--batch", type=int, default=4, help="images of a step (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="fits of each (default: 3)")
    parser.add_argument("--steps", type=int, default=4, help="of a fit (default: 4)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_quiet()
    found = {network: measure(network, options.only, options) for network in options.network}
    if options.out is not None:
        same = {name: getattr(options, name) for name in ("size", "batch", "rounds", "steps", "threads")}
        record = {"settings": same, **provenance(("torch", "lightning")), "networks": found}
        options.out.write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(1 if any(each["missed"] for each in found.values()) else 0)


if __name__ == "__main__":
    main()
