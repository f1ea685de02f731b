"""Time of a multi-atlas prediction at 1024 x 1024 pixels, by SimpleITK and by AC-RegNet, in one run.

    python benchmarks/multiatlas.py [--model FOLDER] [--count 5] [--rounds 3] [--threads 2] [--out FILE.json]

The time is that of `predict`, from an image in memory to its landmarks: choosing the atlas images,
registering them, averaging, with everything loaded. Without a model, the atlas is of chests of ellipses, as
many as JSRT's training images. The engines take turns on the same image. The command
ends with 1 where a limit is missed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from registration import make_image, seconds_of

from anatozoo.errors import ConfigError
from anatozoo.methods.multiatlas.model import STEPS, MultiAtlasModel
from anatozoo.zoo.files import write_text
from anatozoo.zoo.hub import load

LIMITS = {"bspline": 60.0, "acregnet-jsrt": 2.0}
"""Engine -> seconds that an image may take."""
SIDE, TRAINED = 1024, 174


def generated(count: int) -> MultiAtlasModel:
    """An atlas of chests of ellipses, whose landmarks lie on a circle."""
    model = MultiAtlasModel(atlas=[f"chest {seed}" for seed in range(TRAINED)], count=count)
    pixels = [make_image(model.side, seed).pixels for seed in range(TRAINED)]
    images = torch.from_numpy(np.round(255 * np.clip(np.stack(pixels), 0, 1)).astype(np.uint8))
    angle = torch.linspace(0, 2 * torch.pi, sum(model.organs.values()))
    circle = STEPS * (0.5 + 0.3 * torch.stack([angle.cos(), angle.sin()], 1))
    model.put(model.atlas, images, circle.int().expand(TRAINED, -1, -1).contiguous())
    return model


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder of a multi-atlas checkpoint")
    parser.add_argument("--count", type=int, default=5, help="images of the atlas that are registered")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)

    model = load(options.model, trainable=False) if options.model else generated(options.count)
    if not isinstance(model, MultiAtlasModel):
        raise ConfigError(f"{options.model} is not a multi-atlas checkpoint.")
    model.count = options.count
    image = make_image(SIDE, TRAINED).pixels
    times: dict[str, list[float]] = {engine: [] for engine in LIMITS}
    model.engine = "acregnet-jsrt"
    model.predict(image)  # loads what is loaded once
    for _ in range(options.rounds):
        for engine, taken in times.items():
            model.engine = engine
            # Three for one: what is short is easily disturbed.
            rounds = 3 if LIMITS[engine] < 10 else 1
            taken += [seconds_of(lambda: model.predict(image)) for _ in range(rounds)]
    results: dict[str, Any] = {
        "source": SIDE,
        "atlas": len(model.atlas),
        "count": options.count,
        "threads": options.threads,
    }
    results |= {f"{engine}_s": float(np.median(taken)) for engine, taken in times.items()}
    for name, value in results.items():
        print(f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value}", flush=True)
    met = {engine: results[f"{engine}_s"] <= limit for engine, limit in LIMITS.items()}
    for engine, limit in LIMITS.items():
        print(f"{engine} in at most {limit:.0f} s: {'met' if met[engine] else 'MISSED'}")
    if options.out is not None:
        write_text(options.out, json.dumps(results, indent=1) + "\n")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
