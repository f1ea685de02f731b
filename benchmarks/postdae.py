"""Masks per second of Post-DAE end to end, with reading and resizing, against its network alone.

    python benchmarks/postdae.py [--sources 256 1024] [--batches 1 32] [--threads 2] [--seconds 8]

End to end is `predict_batch` from label maps in memory to results on their grid, flags included. The network
alone has its input ready in its frame. Both take turns, so that whatever else the machine does slows both.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.zoo.hub import load

SHAPES = {
    "lung_right": ((0.31, 0.47), (0.135, 0.30)),
    "lung_left": ((0.71, 0.47), (0.125, 0.29)),
    "heart": ((0.56, 0.63), (0.15, 0.13)),
    "clavicle_right": ((0.33, 0.20), (0.15, 0.02)),
    "clavicle_left": ((0.67, 0.20), (0.15, 0.02)),
}
"""Centre and half axes of each organ, as shares of the side."""


def make_mask(side: int, seed: int) -> np.ndarray:
    """A chest of ellipses, shifted and speckled, (side, side) uint8."""
    draw = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] + 0.5) / side + draw.uniform(-0.03, 0.03, (2, 1, 1))
    labels = np.zeros((side, side), np.uint8)
    for value, ((cx, cy), (rx, ry)) in enumerate(SHAPES.values(), start=1):
        labels[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = value
    wrong = draw.random((side, side)) < 0.02
    labels[wrong] = draw.integers(0, len(SHAPES) + 1, int(wrong.sum()))
    return labels


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.inference_mode()
def measure(model: PostDAEModule, source: int, batch: int, seconds: float) -> None:
    """Print one row."""
    masks = [make_mask(source, seed) for seed in range(batch)]
    ready = torch.rand(batch, 1 + len(model.organs), *model.shape).softmax(1)

    def alone() -> object:
        return model(ready)

    def whole() -> object:
        return list(model.predict_batch(masks, batch_size=batch))

    alone(), whole()
    times: dict[str, list[float]] = {"alone": [], "whole": []}
    end = time.perf_counter() + seconds
    while len(times["alone"]) < 3 or time.perf_counter() < end:
        times["alone"].append(seconds_of(alone))
        times["whole"].append(seconds_of(whole))
    network, everything = (batch / float(np.median(values)) for values in times.values())
    print(
        f"{source:>6} {batch:>5} {network:>12.1f} {everything:>12.1f} {everything / network:>8.0%}",
        flush=True,
    )


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=int, nargs="+", default=[256, 1024], help="sides of the masks")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="time for each row")
    parser.add_argument(
        "--model", help="a checkpoint; by default the network of postdae/jsrt.yaml, untrained"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load(options.model)
    print(f"{'source':>6} {'batch':>5} {'network /s':>12} {'whole /s':>12} {'share':>8}")
    for source in options.sources:
        for batch in options.batches:
            measure(model, source, batch, options.seconds)


if __name__ == "__main__":
    main()
