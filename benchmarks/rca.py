"""Time to estimate the quality of a segmentation by five atlas images: networks against elastix in one run.

    python benchmarks/rca.py [--count 5] [--source 1024] [--rounds 5] [--threads 2] [--out FILE.json]

The time is that of `rca` from two PNG files, radiograph and label map, to the estimate: reading, choosing the
atlas images, registering, judging, with everything loaded. The atlas is of chests of ellipses, as many as
JSRT's training images. Engines take turns on the same files; elastix, which needs seconds, takes every second
turn. Also the share of each part of the default engine's time. The command ends with 1 where the default
engine is not 60 times as fast as elastix.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import SimpleITK as sitk
import torch
from registration import SHAPES, make_image

from anatozoo.errors import ConfigError
from anatozoo.quality import rca, register_to_atlas
from anatozoo.quality.atlas import Atlas, AtlasImage, embed, in_frame
from anatozoo.results.base import read_only
from anatozoo.tasks.engines import LEARNED, EngineLike, engine_of
from anatozoo.zoo.files import write_text

GOAL = 60.0
ELASTIX = "elastix"
ENGINES: dict[str, EngineLike] = {
    LEARNED: LEARNED,
    "affinereg-jsrt-rca, acregnet-jsrt": ["affinereg-jsrt-rca", "acregnet-jsrt"],
    ELASTIX: ELASTIX,
}
ORGANS = ("lungs", "heart")
SIDE, TRAINED = 256, 174


def labels_of(side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Lungs and heart of the chests of ellipses."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    labels = np.zeros((side, side), np.uint8)
    for value, ((cx, cy), (rx, ry), _) in zip((1, 1, 2), SHAPES[1:], strict=True):
        labels[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = value
    return labels


def generated() -> Atlas:
    """An atlas of chests of ellipses."""
    labels, images = labels_of(SIDE), []
    for seed in range(TRAINED):
        image = in_frame(make_image(SIDE, seed), (SIDE, SIDE))
        read_only(image.pixels)  # as an atlas from files is
        images.append(AtlasImage(image.name, image, labels, embed(image.pixels)))
    return Atlas("chests of ellipses", ORGANS, (SIDE, SIDE), tuple(images))


def seconds_of(image: Path, mask: Path, atlas: Atlas, how: dict[str, Any]) -> tuple[float, float]:
    """Seconds of the registrations, and of the judgement after them."""
    start = time.perf_counter()
    registered = register_to_atlas(image, atlas, **how)
    between = time.perf_counter()
    registered.judge(mask)
    return between - start, time.perf_counter() - between


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5, help="images of the atlas (default: 5)")
    parser.add_argument("--source", type=int, default=1024, help="side of the radiograph (default: 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)
    engines = {name: engine_of(engine) for name, engine in ENGINES.items()}
    atlas = generated()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder, "chest.png"), Path(folder, "mask.png")
        pixels = make_image(options.source, TRAINED).pixels
        for path, values in ((image, 255 * pixels.clip(0, 1)), (mask, labels_of(options.source))):
            if not cv2.imwrite(str(path), np.round(values).astype(np.uint8)):
                raise ConfigError(f"{path} cannot be written.")
        estimates = {}
        for number in range(options.rounds + 1):
            for name, engine in engines.items():
                how = {"engine": engine, "count": options.count}
                if number == 0:  # loads what is loaded once
                    estimates[name] = rca(image, mask, atlas, **how).best()
                elif name != ELASTIX or number % 2:
                    times = 1 if name == ELASTIX else 5  # what is short is easily disturbed
                    found[name] += [seconds_of(image, mask, atlas, how) for _ in range(times)]
    whole = {name: median(map(sum, each)) for name, each in found.items()}
    engines_found = {
        name: {
            "s": round(whole[name], 4),
            "registering_share": round(median(a / (a + b) for a, b in found[name]), 3),
            "times_as_fast_as_elastix": round(whole[ELASTIX] / whole[name], 1),
            "estimated_dice": round(estimates[name], 4),
        }
        for name in engines
    }
    for name, numbers in engines_found.items():
        print(f"{name:34} {numbers}", flush=True)
    ratio = whole[ELASTIX] / whole[LEARNED]
    print(f"at least {GOAL:.0f} times as fast as elastix: {'met' if ratio >= GOAL else 'MISSED'}")
    if options.out is not None:
        record = {
            "command": f"python benchmarks/rca.py --count {options.count} --source {options.source} "
            f"--rounds {options.rounds} --threads {options.threads}",
            "machine": {"processor": platform.processor() or platform.machine(), "threads": options.threads},
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "numpy", "scipy", "SimpleITK", "itk-elastix")},
            "source": options.source,
            "atlas": {"images": len(atlas), "side": SIDE, "count": options.count},
            "goal": GOAL,
            "ratio": round(ratio, 1),
            "engines": engines_found,
        }
        write_text(options.out, json.dumps(record, indent=1) + "\n")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
