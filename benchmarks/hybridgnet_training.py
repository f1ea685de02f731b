"""Training steps of HybridGNet against the authors' way of computing it, and the share of loading.

    python benchmarks/hybridgnet_training.py [--size 512] [--batch 4] [--threads 2] [--rounds 3] [--out FILE]

A step is forward, the paper's loss, backward and the optimiser, at batch 4 as in the paper. Each way has
processes of its own, which take turns: a fit keeps the memory that steps free, the reference does not.
Loading is measured in a bf16 fit of generated radiographs of 1024 x 1024 pixels, with the default number of
workers: the share of the time in which steps wait for the loader, in the first epoch, in which files are
decoded, and in those after it; and the share of augmentation, which is computed on the batch.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import lightning as L
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hybridgnet_reference import Reference

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.training.memory import keep_memory
from tests.support.chest_data import write_chest_data

GOAL, LOADING_GOAL = 4.0, 0.1
WAYS = ("reference", "fp32", "bf16")
EPOCHS, IMAGES = 3, 20


def stepper(way: str, size: int, batch: int) -> Callable[[], float]:
    """A function that trains by one step in one of the `WAYS`, and gives the loss."""
    torch.manual_seed(0)
    module = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(size))
    data = {
        "image": torch.rand(batch, 1, size, size),
        "landmarks": torch.rand(batch, 120, 2),
        "landmark_weight": torch.ones(batch, 120),
    }
    if way == "reference":
        network: torch.nn.Module = Reference(module.network, skips=(6, 5))
        optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    else:
        keep_memory()
        network = module.network.to(memory_format=torch.channels_last)
        data["image"] = data["image"].contiguous(memory_format=torch.channels_last)
        found = module.configure_optimizers()
        optimizer = found[0][0] if isinstance(found, tuple) else found

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "bf16"):
            output = network(data["image"])
        loss = torch.stack(list(module.losses(output, data).values())).sum()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def seconds_of(way: str, size: int, batch: int, threads: int) -> float:
    """Median of eight steps after two, in this process."""
    torch.set_num_threads(threads)
    step, taken = stepper(way, size, batch), []
    for number in range(10):
        start = time.perf_counter()
        step()
        if number > 1:
            taken.append(time.perf_counter() - start)
    return median(taken)


class Waiting(L.Callback):
    """Measures how long steps wait for their batches, epoch by epoch."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.augmented: list[float] = []
        self.worked: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        """Begin an epoch."""
        for each in (self.waited, self.augmented, self.worked):
            each.append(0.0)
        self._since = time.perf_counter()

    def augmenting(self, prepare: Callable[..., object]) -> Callable[..., object]:
        """The same function, whose time is not one of waiting."""

        def timed(*given: object) -> object:
            start = time.perf_counter()
            found = prepare(*given)
            taken = time.perf_counter() - start
            self.augmented[-1] += taken
            self._since += taken
            return found

        return timed

    def on_train_batch_start(self, *_: object) -> None:
        """A batch is there, on its device and augmented."""
        self.waited[-1] += (now := time.perf_counter()) - self._since
        self._since = now

    def on_train_batch_end(self, *_: object) -> None:
        """A step is done."""
        self.worked[-1] += (now := time.perf_counter()) - self._since
        self._since = now


def loading(size: int, batch: int, threads: int) -> dict[str, float]:
    """Shares of the time of epochs in which steps wait: the first, and those after it."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        write_chest_data(Path(folder), {"train": IMAGES, "val": 2, "test": 1}, side=1024)
        L.seed_everything(0, verbose=False)
        data = HybridGNetDataModule(
            folder, organs="lungs_heart", frame=FrameSpec(size), layout="jsrt", batch_size=batch
        )
        module, waiting = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(size)), Waiting()
        trainer = L.Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            precision="bf16-mixed",
            callbacks=[waiting],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        data.on_after_batch_transfer = waiting.augmenting(data.on_after_batch_transfer)  # type: ignore[method-assign]
        trainer.fit(module, data)
    whole = [sum(each) for each in zip(waiting.waited, waiting.augmented, waiting.worked, strict=True)]
    share = [a / b for a, b in zip(waiting.waited, whole, strict=True)]
    augmentation = median(a / b for a, b in zip(waiting.augmented, whole, strict=True))
    return {
        "workers": data.num_workers,
        "first_epoch": share[0],
        "later_epochs": median(share[1:]),
        "augmentation": augmentation,
    }


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    parser.add_argument("--way", choices=[*WAYS, "loading"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.size, options.batch, options.threads)
    if options.way:
        found = loading(*sizes) if options.way == "loading" else seconds_of(options.way, *sizes)
        print(json.dumps(found))
        return 0

    def child(way: str) -> str:
        words = [f"--{name}={getattr(options, name)}" for name in ("size", "batch", "threads")]
        run = [sys.executable, __file__, f"--way={way}", *words]
        return subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]

    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, each in taken.items():
            each.append(float(child(way)))
    steps = {way: median(each) for way, each in taken.items()}
    ratios = {way: round(steps["reference"] / each, 2) for way, each in steps.items()}
    shares = {name: round(share, 4) for name, share in json.loads(child("loading")).items()}
    for way in WAYS:
        print(
            f"{way:10} {steps[way]:6.3f} s a step, {ratios[way]:.2f} x as fast as the reference", flush=True
        )
    print(f"waiting for data: {shares}")
    met = ratios["bf16"] >= GOAL, shares["later_epochs"] <= LOADING_GOAL
    print(
        f"bf16 at least {GOAL:g} x: {'met' if met[0] else 'MISSED'}; loading: {'met' if met[1] else 'MISSED'}"
    )
    if options.out is not None:
        record = {
            "command": "python benchmarks/hybridgnet_training.py "
            + " ".join(
                f"--{name} {getattr(options, name)}" for name in ("size", "batch", "threads", "rounds")
            ),
            "machine": {"processor": platform.processor() or platform.machine(), "threads": options.threads},
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "lightning")},
            "goals": {"bf16": GOAL, "loading": LOADING_GOAL},
            "seconds_a_step": {way: round(each, 3) for way, each in steps.items()},
            "times_as_fast_as_the_reference": ratios,
            "share_of_a_step_waiting_for_data": shares,
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
