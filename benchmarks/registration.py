"""Time to register a pair by AC-RegNet, end to end, against SimpleITK's affine and B-spline registration.

    python benchmarks/registration.py [--model NAME_OR_FOLDER] [--source 256] [--threads 2] [--out FILE.json]

End to end is `predict` from images in memory to the displacement on the fixed grid, one pair at a time. Both
take turns on the same pairs in the same run, on the same number of threads. The network alone, with its
input ready in its frame, is timed for one pair and for a batch. The pairs are chests of ellipses, or
radiographs of your own (`--images`), which is the fairer contest: the effort of the B-spline depends on the
images, that of the network does not. The command ends with 1 where the target ratio is missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from anatozoo.errors import ConfigError
from anatozoo.frames.geometry import Geometry
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.read import read_grid_image
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.tasks.classical import BSPLINE, bspline
from anatozoo.tasks.field import FieldTask
from anatozoo.zoo.files import write_text
from anatozoo.zoo.hub import load

TARGET = 50.0
EXTENT_MM = 358.4
"""Side of JSRT's radiographs."""
SHAPES = (
    ((0.5, 0.55), (0.47, 0.5), 0.7),  # the body
    ((0.31, 0.47), (0.135, 0.30), -0.45),
    ((0.71, 0.47), (0.125, 0.29), -0.45),
    ((0.56, 0.63), (0.15, 0.13), 0.35),
)
"""Centre and half axes of each part as shares of the side, and by how much it is brighter than the rest."""


def make_image(side: int, seed: int) -> GridImage:
    """A radiograph of ellipses, each a little off its place and size, with noise."""
    draw = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    pixels = np.full((side, side), 0.1)
    for (cx, cy), (rx, ry), grey in SHAPES:
        dx, dy, wider, higher = draw.normal(0, 0.02, 4)
        distance = ((x - cx - dx) / (rx * (1 + 2 * wider))) ** 2 + (
            (y - cy - dy) / (ry * (1 + 2 * higher))
        ) ** 2
        pixels += grey / (1 + np.exp(12 * (distance - 1)))
    pixels += draw.normal(0, 0.02, pixels.shape)
    return GridImage(pixels.astype(np.float32), Grid((side, side), (EXTENT_MM / side,) * 2), f"chest {seed}")


def read_square(path: Path, side: int) -> GridImage:
    """A radiograph of one's own at `side` pixels; where its spacing is unknown, as wide as JSRT's."""
    image = read_grid_image(path, 2)
    width, height = image.grid.size
    if width != height:
        raise ConfigError(f"{path} is {width} x {height} pixels; square images are compared here.")
    extent = EXTENT_MM if image.grid.spacing_mm is None else image.grid.spacing_mm[0] * width
    pixels = Geometry.fit((width, height), (side, side)).image_to_target(image.pixels)
    return GridImage(pixels, Grid((side, side), (extent / side,) * 2), image.name)


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median_seconds(run: Callable[[], object], seconds: float) -> float:
    """Median over calls within the given time, at least three, after one that does not count."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        times.append(seconds_of(run))
    return float(np.median(times))


def contest(model: FieldTask, images: Sequence[GridImage], rounds: int) -> dict[str, float]:
    """Median seconds for a pair of both; in each round every ordered neighbour is registered by both."""
    pairs = list(zip(images, [*images[1:], images[0]], strict=True))
    model.predict(*pairs[0])
    ours, theirs = [], []
    for _ in range(rounds):
        for moving, fixed in pairs:
            theirs.append(seconds_of(lambda a=moving, b=fixed: bspline(a, b, BSPLINE[2])))
            # Three for one: what is short is easily disturbed.
            ours += [seconds_of(lambda a=moving, b=fixed: model.predict(a, b)) for _ in range(3)]
    return {"predict_s": float(np.median(ours)), "bspline_s": float(np.median(theirs))}


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", help="a checkpoint; by default the network of acregnet/jsrt.yaml, untrained"
    )
    parser.add_argument("--images", type=Path, nargs="+", help="at least two square radiographs")
    parser.add_argument("--source", type=int, default=256, help="side of the images")
    parser.add_argument("--batch", type=int, default=32, help="pairs at once for the network alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each time of the network alone")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    if options.images is not None and len(options.images) < 2:
        raise ConfigError("--images needs at least two.")
    torch.set_num_threads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)

    model = AcRegNetModule().eval() if options.model is None else load(options.model)
    if not isinstance(model, FieldTask) or len(model.shape) != 2:
        raise ConfigError(f"{options.model} does not register 2-D images.")
    if options.images is None:
        images = [make_image(options.source, seed) for seed in range(3)]
    else:
        images = [read_square(path, options.source) for path in options.images]
    results: dict[str, Any] = {
        "source": options.source,
        "frame": list(model.shape),
        "threads": options.threads,
    }
    results |= contest(model, images, options.rounds)
    results["ratio"] = results["bspline_s"] / results["predict_s"]
    with torch.inference_mode():
        for batch in (1, options.batch):
            moving, fixed = torch.rand(2, batch, 1, *model.shape)
            seconds = median_seconds(lambda a=moving, b=fixed: model(a, b), options.seconds)
            results[f"network_s_per_pair_at_{batch}"] = seconds / batch
    for name, value in results.items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}", flush=True)
    met = results["ratio"] >= TARGET
    print(f"at least {TARGET:.0f} times as fast: {'met' if met else 'MISSED'}")
    if options.out is not None:
        write_text(options.out, json.dumps(results, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
