"""What each objective adds to a training step: its time against that of a step without any.

    python benchmarks/objectives.py [--network unet dynunet3d] [--only Entropy ...] [--rounds 7] [--threads 1]

A step is forward, the method's loss, the objective's terms, backward and Adam on one batch of random numbers
that is ready. Times are of the processor, the shortest of some rounds that take turns, so that other work
matters little. Weights are random: time does not depend on them. The command ends with 1 where an objective
costs more than its goal.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

import anatozoo.objectives
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.training.step import Step
from anatozoo.zoo.checkpoint import write_checkpoint_folder

ORGANS, DOMAINS = ["lungs", "heart"], 2


class Cost(NamedTuple):
    """An objective of the table.

    Attributes:
        goal: most times that a step without objectives may be exceeded; None sets none.
        settings: of its constructor, from the folder of a shape model.
    """

    goal: float | None
    settings: Callable[[Path], dict[str, Any]] = lambda shapes: {}


COSTS = {
    "Entropy": Cost(1.05),
    "Calibration": Cost(None),
    "ShapePrior": Cost(1.35, lambda shapes: {"source": str(shapes), "weight": 0.01}),
    "Orthogonal": Cost(1.1),
    "Denoising": Cost(2.2),
    "Agreement": Cost(DOMAINS + 0.3),
}
"""One line for each objective of the package; those that it does not have are skipped and said."""


def unet(size: int) -> tuple[Any, Any]:
    """A U-Net of radiographs of `size` x `size` pixels, and its shape model, both with random weights."""
    frame = FrameSpec(size)
    return UNetModule(organs=ORGANS, frame=frame), AeNetModule(organs=ORGANS, frame=frame)


def dynunet3d(size: int) -> tuple[Any, Any]:
    """DynUNet for volumes with a quarter of `size` a side, and its shape model."""
    frame = FrameSpec([size // 4] * 3, "stretch")
    network = AcnnModule(organs=ORGANS, frame=frame, architecture="dynunet", widths=[16, 32, 64, 96])
    return network, AcnnPriorModule(organs=ORGANS, frame=frame)


NETWORKS = {"unet": (unet, "aenet-bench"), "dynunet3d": (dynunet3d, "acnn-prior-bench")}


def batch_of(module: Any, count: int) -> dict[str, Any]:
    """A batch of random numbers with all that objectives ask for."""
    draw = torch.Generator().manual_seed(1)
    numbers = torch.arange(count)
    return {
        "image": torch.rand((count, 1, *module.shape), generator=draw),
        "labels": torch.randint(0, 1 + len(ORGANS), (count, *module.shape), generator=draw),
        "known": torch.ones(count, len(ORGANS), dtype=torch.bool),
        "index": numbers,
        "domain": numbers % DOMAINS,
        "labelled": torch.ones(count, dtype=torch.bool),
    }


def step_of(module: Any, batch: dict[str, Any], objective: Any | None) -> Callable[[], None]:
    """A training step, as `anatozoo.training.module.ZooModule` does it, without a trainer."""
    if objective is not None:
        trainer: Any = SimpleNamespace(callbacks=[objective], datamodule=None)
        objective.setup(trainer, module, "fit")
        objective.on_fit_start(trainer, module)
    optimizer = torch.optim.Adam(module.parameters(), 1e-6)

    def run() -> None:
        optimizer.zero_grad()
        step = Step(module, batch, module.answer(batch), 1)
        terms = module.own_terms(step)
        if objective is not None:
            terms |= {name: value.mean() for name, value in objective.terms(step).items()}
        if objective is None or not objective.backward(step, terms):
            torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    return run


def seconds_of(run: Callable[[], None]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(network: str, names: list[str], options: argparse.Namespace) -> bool:
    """Print a line for each objective; whether all are within their goals."""
    make, shape_name = NETWORKS[network]
    torch.manual_seed(0)
    module, shapes = make(options.size)
    module.train()
    batch = batch_of(module, options.batch)
    with tempfile.TemporaryDirectory() as folder:
        stored = write_checkpoint_folder(shapes, Path(folder) / shape_name, name=shape_name, version="1.0.0")
        made = {name: getattr(anatozoo.objectives, name)(**COSTS[name].settings(stored)) for name in names}
        runs = {"none": step_of(module, batch, None)}
        runs |= {name: step_of(module, batch, objective) for name, objective in made.items()}
        for run in runs.values():
            run()
        best = dict.fromkeys(runs, float("inf"))
        for name, run in list(runs.items()) * options.rounds:
            best[name] = min(best[name], seconds_of(run))
    print(f"{network}: {best['none']:.3f} s of CPU for a step without objectives, batch {options.batch}")
    kept = True
    for name in names:
        ratio, goal = best[name] / best["none"], COSTS[name].goal
        missed = goal is not None and ratio > goal
        kept &= not missed
        words = "no goal" if goal is None else f"goal {goal:g}{', MISSED' if missed else ''}"
        print(f"  {name:<12} x {ratio:.3f}   {words}", flush=True)
    return kept


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--only", nargs="+", choices=COSTS, default=list(COSTS), help="objectives")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    there = [name for name in options.only if hasattr(anatozoo.objectives, name)]
    if absent := [name for name in options.only if name not in there]:
        print(f"not in this version: {', '.join(absent)}", file=sys.stderr)
    sys.exit(0 if all([measure(network, there, options) for network in options.network]) else 1)


if __name__ == "__main__":
    main()
