"""Time whole processes, from start to end, as multiples of those that only import torch or Lightning.

    python benchmarks/start.py [--rounds 5] [--model hybridgnet-chexmask] [--out FILE]

The processes take turns, so that what slows the machine slows all of them. The first round writes bytecode
and is not counted. Wall time is what a user waits; processor time is steadier where others work too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.phantoms import make_chest_phantom

GOALS = {"load, plain torch": 1.6, "predict one PNG": 1.6, "load, Lightning": 1.05}
"""At most this multiple of the import of torch; with Lightning, of that of Lightning."""


def commands(model: str, image: Path, out: Path) -> dict[str, list[str]]:
    """What is timed."""
    load = f"import anatozoo; anatozoo.load({model!r}"
    return {
        "import torch": ["-c", "import torch"],
        "import lightning": ["-c", "import lightning"],
        "load, plain torch": ["-c", f"{load}, trainable=False)"],
        "load, Lightning": ["-c", f"{load})"],
        "predict one PNG": [
            *("-m", "anatozoo", "predict", model, str(image)),
            *("--out", str(out), "--overwrite", "--quiet"),
        ],
    }


def timed(words: list[str]) -> tuple[float, float]:
    """Wall time and processor time of a process of Python, in seconds.

    Raises:
        RuntimeError: it failed.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], env=kept, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(words)} failed.")
    return wall, used.ru_utime + used.ru_stime


def main() -> None:
    """Parse the options, then time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="that count (default: 5)")
    parser.add_argument("--model", default="hybridgnet-chexmask", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "chest.png")
        Image.fromarray(make_chest_phantom(1024, 1024).image.astype(np.uint8)).save(image)
        what = commands(options.model, image, Path(folder, "out"))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in what}
        for number in range(options.rounds + 1):
            for name, words in what.items():
                found = timed(words)
                if number:
                    times[name].append(found)
    medians = {name: [median(column) for column in zip(*each, strict=True)] for name, each in times.items()}
    rows = {}
    for name, (wall, used) in medians.items():
        base = medians["import lightning" if name.endswith("Lightning") else "import torch"]
        rows[name] = {
            "wall_s": round(wall, 2),
            "cpu_s": round(used, 2),
            "wall_ratio": round(wall / base[0], 2),
            "cpu_ratio": round(used / base[1], 2),
            "goal": GOALS.get(name),
        }
        print(
            f"{name:20} {wall:6.2f} s, {used:6.2f} s of CPU; {wall / base[0]:.2f} x, {used / base[1]:.2f} x"
        )
    record = {
        "command": f"python benchmarks/start.py --rounds {options.rounds} --model {options.model}",
        "python": platform.python_version(),
        "processes": rows,
    }
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
