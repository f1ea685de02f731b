"""Time of a training step of HybridGNet against the authors' way of computing it, in one run.

    python benchmarks/hybridgnet_training.py [--size 512] [--batch 4] [--threads 2] [--steps 5] [--compile]
        [--out FILE]

A step is forward, the paper's loss, backward and Adam, at batch 4 as in the paper. Each way has a process of
its own, as memory is kept in anatozoo's alone, as `anatozoo fit` does; the processes take turns. Time is the
processor's, of all threads together, and by the clock; each is the median of the steps after the first.
"memory returned" is float32 without that. Data are loaded as `anatozoo fit` does after its first epoch, from
images in memory and without loading processes, and augmented by all that the default setting has; their share
is of the time of a float32 step and themselves.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from heterogeneous_training import generated
from hybridgnet_reference import Reference
from torch import nn

from anatozoo.cli.heap import keep_freed_memory
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule

GOAL, DATA_GOAL = 4.0, 0.1
"""At least this many times faster than the reference, in bfloat16 where the processor has it; at most this
share of a step for its data."""
WAYS = ("reference", "float32", "bf16", "memory returned")
DATA = ("loading", "augmentation")


def stepper(
    module: HybridGNetModule, network: nn.Module, batch: dict[str, torch.Tensor], *, bf16: bool = False
) -> Callable[[], None]:
    """A function that trains `network` by one step with the losses of `module`."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            output = network(batch["image"])
        torch.stack(list(module.losses(output, batch).values())).sum().backward()
        optimizer.step()

    return step


def measure(way: str, size: int, batch_size: int, steps: int) -> dict[str, float]:
    """Seconds of a step, by the clock and of the processor."""
    torch.manual_seed(0)
    module = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(size))
    batch = {
        "image": torch.rand(batch_size, 1, size, size),
        "landmarks": torch.rand(batch_size, 120, 2),
        "landmark_weight": torch.ones(batch_size, 120),
    }
    network: Any = module.network
    if way == "reference":
        network = Reference(module.network, skips=(6, 5))
    else:
        if way != "memory returned":
            keep_freed_memory()
        module.network.encoder.to(memory_format=torch.channels_last)
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
    if way == "compiled":
        network = torch.compile(network)
    return timed(stepper(module, network, batch, bf16=way == "bf16"), steps)


def timed(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Median seconds after the first call, by the clock and of the processor."""
    step()
    wall, cpu = [], []
    for _ in range(steps):
        start, used = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {"wall": median(wall), "cpu": median(cpu)}


def measure_data(way: str, size: int, batch_size: int, steps: int) -> dict[str, float]:
    """Seconds to load a batch, or to augment it."""
    keep_freed_memory()
    data = HybridGNetDataModule(".", "folder", "lungs_heart", frame=FrameSpec(size), batch_size=batch_size)
    cases = generated((steps + 1) * batch_size, size)
    items = data.sets["train"] = data.dataset(cases, "train")
    for index in range(len(cases)):
        items[index]  # reads it
    batches = iter(data.train_dataloader())
    if way == "loading":
        return timed(lambda: next(batches), steps)
    batch = next(batches)
    return timed(lambda: data.prepare(batch, training=True), steps)


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="of each process, after one (default: 5)")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each way (default: 1)")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    if options.way:
        torch.set_num_threads(options.threads)
        measuring = measure_data if options.way in DATA else measure
        print(json.dumps(measuring(options.way, options.size, options.batch, options.steps)))
        return
    ways = (*WAYS, "compiled", *DATA) if options.compile else (*WAYS, *DATA)
    numbers = {name: getattr(options, name) for name in ("size", "batch", "threads", "steps")}
    words = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            command = [sys.executable, __file__, "--way", way, *words]
            threads = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
            run = subprocess.run(command, env=threads, check=True, capture_output=True, text=True)
            found[way].append(json.loads(run.stdout))
            print(way, found[way][-1], flush=True)
    seconds = {
        way: {clock: round(median(run[clock] for run in runs), 3) for clock in ("wall", "cpu")}
        for way, runs in found.items()
    }
    base, full = seconds["reference"], seconds["float32"]
    spent = {clock: sum(seconds[way][clock] for way in DATA) for clock in full}
    record = {
        "command": f"python benchmarks/hybridgnet_training.py {' '.join(words)} --rounds {options.rounds}",
        "torch": torch.__version__,
        "bf16 on this processor": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        "goals": {"faster": GOAL, "data": DATA_GOAL},
        "seconds": seconds,
        "faster": {
            way: {clock: round(base[clock] / took, 2) for clock, took in each.items()}
            for way, each in seconds.items()
            if way not in DATA
        },
        "kept memory saves": {
            clock: round(1 - took / seconds["memory returned"][clock], 3) for clock, took in full.items()
        },
        "data": {
            clock: {way: round(seconds[way][clock] / (took + spent[clock]), 3) for way in DATA}
            | {"both": round(spent[clock] / (took + spent[clock]), 3)}
            for clock, took in full.items()
        },
    }
    print(json.dumps(record, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
