"""How much faster engines are than torch: the network of a HybridGNet, and `predict` of a PNG end to end.

    python benchmarks/engines.py [--checkpoint NAME] [--seconds 10] [--int8] [--compile] --out FILE

All ways take turns, so that what slows the machine slows all of them, and each round gives a ratio to plain
torch; the medians are kept. Landmarks are compared with torch's in pixels of the frame.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from anatozoo.deploy.exports import export_network
from anatozoo.deploy.formats import FORMATS
from anatozoo.errors import AnatozooError
from anatozoo.zoo.hub import load
from tests.support.phantoms import make_chest_phantom

PLAIN = "torch"


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def turns(ways: dict[str, Callable[[], object]], seconds: float, clock: str) -> dict[str, float]:
    """How many times faster each way is than the first: the median of ratios of rounds in which all ran."""
    now = CLOCKS[clock]
    for run in ways.values():
        run()
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds * len(ways)
    while len(rounds) < 5 or time.perf_counter() < end:
        took = []
        for run in ways.values():
            start = now()
            run()
            took.append(now() - start)
        rounds.append([took[0] / each for each in took])
    return {way: round(float(ratio), 3) for way, ratio in zip(ways, np.median(rounds, 0), strict=True)}


def models_of(name: str, folder: Path, int8: bool, compiled: bool) -> dict[str, Any]:
    """A checkpoint by each engine that is installed."""
    models: dict[str, Any] = {PLAIN: load(name, trainable=False)}
    for engine in [form.name for form in FORMATS.values() if form.is_engine]:
        try:
            models[engine] = load(name, engine=engine, cache_dir=folder)
            if int8:
                export_network(name, engine, folder / f"{engine}-int8", precision="int8", batch=1)
                models[f"{engine}, int8"] = load(name, engine=folder / f"{engine}-int8")
        except AnatozooError as error:
            print(f"{engine}: {error}", file=sys.stderr)
    if compiled:
        models["compile"] = load(name, engine="compile")
    return models


@torch.inference_mode()
def measure(
    name: str, seconds: float, clock: str, cache: Path | None, **more: bool
) -> dict[str, dict[str, float]]:
    """Ratios of the network and of `predict`, and how far landmarks move."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        file = folder / "chest.png"
        Image.fromarray(make_chest_phantom(1024, 1024).image.astype(np.uint8)).save(file)
        models = models_of(name, cache or folder, **more)
        image = torch.rand(1, 1, *models[PLAIN].shape)
        seen = image.contiguous(memory_format=torch.channels_last)
        ways = {way: lambda model=model: model.computed(image) for way, model in models.items()}
        ways["torch, channels last"] = lambda: models[PLAIN].computed(seen)
        side, [truth] = models[PLAIN].side, models[PLAIN].computed(image)
        moved = {
            way: round(float((model.computed(image)[0] - truth).abs().max()) * side, 4)
            for way, model in models.items()
        }
        network = turns(ways, seconds, clock)
        asked = {way: lambda model=model: model.predict(file) for way, model in models.items()}
        whole = turns(asked, seconds, clock)
    return {"network": network, "predict": whole, "moved px": moved}


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="hybridgnet-chexmask")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu, with one thread, where other work disturbs"
    )
    parser.add_argument("--int8", action="store_true", help="measure graphs in 8 bits, too")
    parser.add_argument("--cache", type=Path, help="keep the graphs of engines there")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    more = {"int8": options.int8, "compiled": options.compile}
    found = measure(options.checkpoint, options.seconds, options.clock, options.cache, **more)
    versions = {key: value for form in FORMATS.values() for key, value in form.versions().items()}
    chosen = "" if options.clock == "wall" else f" --threads {options.threads} --clock {options.clock}"
    chosen += (" --int8" if options.int8 else "") + (" --compile" if options.compile else "")
    record = {
        "command": f"python benchmarks/engines.py --seconds {options.seconds:g}{chosen} --out FILE",
        "checkpoint": options.checkpoint,
        "threads": options.threads,
        "clock": options.clock,
        "versions": versions,
        **found,
    }
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
