"""Speed and memory of ACNN: volumes per second, what the shape loss adds to a training step, peak memory.

    python benchmarks/acnn.py [--networks seg dynunet] [--shape 16 256 256] [--layers residual] [--threads 2]
        [--out FILE.json]

Volumes per second: `predict` from a stack in memory to the label map on its grid, flags included, and beside
it the network alone with its input ready in its frame, which is that of acnn/acdc.yaml. A training step is
forward, loss, backward and Adam on one batch that is ready; steps with and without the shape loss take turns,
so that whatever else the machine does slows both. Memory is what a prediction and a training step at the size
of --shape add at their peak, each measured in a process of its own, on Linux; on a GPU it is all that torch
has allocated. --layers takes the shape loss in layers of a denoiser of half the network's resolution, as
acnnprior/acdc_denoiser.yaml trains it for acnn/acdc.yaml. The command ends with 1 where the shape loss costs
more than the target. Weights are random:
time does not depend on them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.nn.registration_losses import code_distances
from anatozoo.objectives.shape_code import ShapeCode
from anatozoo.objectives.shape_layers import layer_distances, layer_weights
from anatozoo.zoo.files import write_text

TARGET = 0.35
"""Largest share that the shape loss may add to a training step."""
FRAME: dict[str, Any] = {"frame": {"size": [16, 128, 128], "fit": "slices", "long_side": 208}}
SOURCE = (10, 256, 216)
"""(D, H, W) of the stack that is predicted, a usual one of cardiac MR."""
SHAPE_WEIGHT = 0.01
Step = Callable[[], object]


def make_stack(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """A bright ring around a bright disc in noise, (D, H, W) float32."""
    depth, height, width = shape
    y, x = np.ogrid[:height, :width]
    away = np.hypot(y - height / 2, x - width / 2) / min(height, width)
    plane = 100.0 * (away < 0.2) - 60.0 * ((away > 0.1) & (away < 0.14))
    return (np.random.default_rng(seed).normal(100, 15, (depth, height, width)) + plane).astype(np.float32)


def make_module(network: Any, *, frame: dict[str, Any] = FRAME) -> AcnnModule:
    """A segmenter of random weights."""
    torch.manual_seed(0)
    return AcnnModule(**frame, architecture=network, dice_weight=float(network == "dynunet"))


def make_prior(frame: dict[str, Any] = FRAME) -> ShapeCode:
    """The prior of acnnprior/acdc.yaml with random weights."""
    torch.manual_seed(0)
    return ShapeCode(AcnnPriorModule(**frame))


def make_denoiser() -> ShapeCode:
    """The prior of acnnprior/acdc_denoiser.yaml with random weights."""
    torch.manual_seed(0)
    frame: dict[str, Any] = {"frame": {"size": [16, 64, 64], "fit": "slices", "long_side": 104}}
    return ShapeCode(AcnnPriorModule(**frame, widths=[16, 32, 64], skips=[1, 2, 3]))


def make_step(
    module: AcnnModule,
    batch_size: int,
    device: str,
    prior: ShapeCode | None = None,
    layers: Sequence[str] = (),
) -> Step:
    """A training step on a batch of random numbers; with a prior, with its shape loss."""
    weights = layer_weights(layers) if layers else {}
    module.to(device).train()
    draw = torch.Generator().manual_seed(1)
    size = (batch_size, *module.shape)
    batch = {
        "image": torch.rand(size, generator=draw)[:, None].to(device),
        "labels": torch.randint(0, len(module.organs) + 1, size, generator=draw).to(device),
    }
    optimizer = torch.optim.Adam(module.parameters())

    def step() -> Tensor:
        optimizer.zero_grad()
        output = module.answer(batch)
        terms = list(module.losses(output, batch).values())
        if prior is not None:
            maps = module.maps(output, batch)
            if weights:
                distance = layer_distances(prior, maps.probability, maps.truth, weights)
            else:
                distance = code_distances(prior(maps.probability), prior(maps.truth))
            terms.append(SHAPE_WEIGHT * distance.mean())
        loss = torch.stack(terms).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def seconds_of(run: Step, device: str) -> float:
    """Wall time of one call, with what it has started on a GPU."""
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(runs: dict[str, Step], seconds: float, device: str) -> dict[str, list[float]]:
    """Wall times of calls that take turns, at least three of each, after one that does not count."""
    for run in runs.values():
        seconds_of(run, device)
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while min(map(len, times.values())) < 3 or time.perf_counter() < end:
        for name, run in runs.items():
            times[name].append(seconds_of(run, device))
    return times


def measure_prediction(network: str, seconds: float, device: str) -> dict[str, float]:
    """Volumes per second, end to end and of the network alone."""
    module = make_module(network).to(device).eval()
    stack, ready = make_stack(SOURCE), torch.rand(1, 1, *module.shape, device=device)
    runs: dict[str, Step] = {
        # The middle alone: random weights see anatomy everywhere, and would look at the whole slices.
        "predict": lambda: module.predict(stack, whole=False),
        "network": lambda: module(ready),
    }
    with torch.inference_mode():
        times = in_turns(runs, seconds, device)
    return {f"{name}_per_s": 1 / float(np.median(values)) for name, values in times.items()}


def measure_shape_loss(
    network: str, batch_size: int, seconds: float, device: str, layers: Sequence[str] = ()
) -> dict[str, float]:
    """Seconds of a training step with and without the shape loss, and what it adds."""
    shapes = (make_denoiser() if layers else make_prior()).to(device)
    runs = {
        name: make_step(make_module(network), batch_size, device, prior, layers)
        for name, prior in (("plain", None), ("shaped", shapes))
    }
    times = in_turns(runs, seconds, device)
    # Each pair ran at nearly the same time; their ratio says more than that of two medians.
    ratios = np.divide(times["shaped"], times["plain"])
    found = {f"step_{name}_s": float(np.median(values)) for name, values in times.items()}
    return found | {"shape_loss_adds": float(np.median(ratios)) - 1}


def _peak_mib(network: str, shape: Sequence[int], training: bool, device: str, threads: int) -> float:
    """MiB that a prediction or a training step of this size adds at its peak; runs in its own process."""
    torch.set_num_threads(threads)
    frame: dict[str, Any] = {"frame": {"size": list(shape), "fit": "slices", "long_side": max(shape[1:])}}
    module = make_module(network, frame=frame)
    run: Step
    if training:
        run = make_step(module, 1, device, make_prior(frame).to(device))
    else:
        module.to(device).eval()
        stack = make_stack(shape)
        # What is imported late is not the network's memory.
        small = make_module(
            network, frame={"frame": {"size": [16, 32, 32], "fit": "slices", "long_side": 32}}
        )
        small.predict(make_stack((2, 32, 32)), whole=False)
        run = lambda: module.predict(stack, whole=False)  # noqa: E731 - one of two
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() / 2**20
    # Let the kernel forget the peak so far. The resource module's would be that of the parent process.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mib("VmHWM")
    run()
    return _status_mib("VmHWM") - before


def _status_mib(name: str) -> float:
    """A number of MiB from what Linux knows of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kib) / 2**10


def measure_memory(network: str, shape: Sequence[int], device: str, threads: int) -> dict[str, float]:
    """Peak memory of a prediction and of a training step with the shape loss, each in a fresh process."""
    found = {}
    for name, training in (("predict", False), ("step", True)):
        with get_context("spawn").Pool(1) as pool:
            arguments = (network, tuple(shape), training, device, threads)
            found[f"{name}_peak_mib"] = pool.apply(_peak_mib, arguments)
    return found


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["seg", "dynunet"])
    parser.add_argument(
        "--shape", type=int, nargs=3, default=[16, 256, 256], help="D H W of the memory's row"
    )
    parser.add_argument("--batch", type=int, default=2, help="volumes of a training step")
    parser.add_argument("--layers", nargs="+", default=[], help="of the shape loss (default: the code alone)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each network's times")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    results: dict[str, Any] = {
        name: getattr(options, name) for name in ("shape", "batch", "device", "threads")
    }
    met = True
    for network in options.networks:
        row = measure_prediction(network, options.seconds, options.device)
        row |= measure_shape_loss(network, options.batch, options.seconds, options.device, options.layers)
        row |= measure_memory(network, options.shape, options.device, options.threads)
        results[network] = row
        met &= row["shape_loss_adds"] <= TARGET
        for name, value in row.items():
            print(f"{network:8} {name:20} {value:.4g}", flush=True)
    print(f"the shape loss adds {TARGET:.0%} or less: {'met' if met else 'MISSED'}")
    if options.out is not None:
        write_text(options.out, json.dumps(results, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
