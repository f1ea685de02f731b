"""How the time of a prediction grows with images, with their size and with organs.

    python benchmarks/growth.py [--checkpoint hybridgnet-chexmask] [--rounds 5] [--threads 2] [--out FILE]

Images are generated chests in memory: 1, 8 and 64 of them in one call of `predict_batch`, and one with a
side of 512, 1024 and 2048 pixels. For organs the checkpoint's network is built anew with 2, 4 and 8 organs
of 40 landmarks each and random weights, which cost what trained ones do. The ways take turns, so that what
slows the machine slows all of them. Times are multiples of the middle one of their row; the exponent is the
slope of a line through the logarithms: 1 where twice as much takes twice as long, 0 where it takes no
longer.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from anatozoo.io.phantoms import chest_phantom
from anatozoo.zoo.hub import load

IMAGES, SIDES, ORGANS = (1, 8, 64), (512, 1024, 2048), (2, 4, 8)
LANDMARKS = 40


def with_organs(model: Any, count: int) -> Callable[[], object]:
    """The network of a model with another number of organs, on one image of its frame."""
    settings = model.settings() | {
        "organs": {f"organ {number}": LANDMARKS for number in range(count)},
        "anchors": {},
        "dense_organs": None,
        "check_view": False,
    }
    torch.manual_seed(0)
    other = type(model)(**settings).eval()
    image = torch.rand(1, 1, *other.shape)
    return lambda: other.network(image)


def durations(ways: dict[Any, Callable[[], object]], rounds: int) -> dict[Any, float]:
    """Seconds of each way, the median over rounds after one that is not counted."""
    found: dict[Any, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            found[way].append(time.perf_counter() - start)
    return {way: median(times[1:]) for way, times in found.items()}


def exponent(times: dict[Any, float]) -> float:
    """Slope of the logarithm of time over that of the number."""
    return float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])


@torch.inference_mode()
def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="hybridgnet-chexmask", help="of HybridGNet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model: Any = load(options.checkpoint, trainable=False)
    chests = {side: chest_phantom(side, side).image for side in SIDES}
    ways: dict[str, dict[Any, Callable[[], object]]] = {
        "images in one call": {n: lambda n=n: list(model.predict_batch([chests[1024]] * n)) for n in IMAGES},
        "pixels on a side": {side: lambda side=side: model.predict(chests[side]) for side in SIDES},
        "organs": {count: with_organs(model, count) for count in ORGANS},
    }
    record: dict[str, Any] = {
        "command": f"python benchmarks/growth.py --rounds {options.rounds} --out FILE",
        "checkpoint": options.checkpoint,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": options.threads,
        "growth": {},
    }
    for what, each in ways.items():
        times = durations(each, options.rounds)
        base = list(times.values())[1]
        ratios = {str(number): round(found / base, 2) for number, found in times.items()}
        record["growth"][what] = {"ratios": ratios, "exponent": round(exponent(times), 2)}
        shown = ", ".join(f"{number}: {ratio:.2f} x" for number, ratio in ratios.items())
        print(f"{what}: {shown}; exponent {exponent(times):.2f}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
