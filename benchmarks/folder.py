"""Time and memory of `anatozoo predict` on a folder, against `model.predict` of one image after another.

    python benchmarks/folder.py [--images 64] [--rounds 3] [--checkpoint hybridgnet-chexmask] [--out FILE]

Images are generated chests, PNG of 1024 x 1024 pixels. `model.predict` of one, in a process of its own, is:
read the PNG, fit it to the network's frame, check the view, compute, bring the contours to the source's
pixels, look for what to flag, and give the result object; nothing is drawn or written. The median over 16
images after one that is not counted. `anatozoo predict` does the same, and also draws and writes masks,
overlays, JSON and both tables, or with ``--format json`` no pictures; time is what it reports itself as
``seconds``, from the first file read to the last one written, without the start of the process, by the
number of images. The processes take turns. Peak memory is the largest resident set of a whole process; that
of one that imports torch and nothing else is its floor, and much larger where torch was built for GPUs.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from anatozoo.io.phantoms import chest_phantom

GOALS = {"folder": 0.7, "overlays": 1.25, "peak_mb": 700}
"""At most this multiple of one image by `model.predict`, of the folder without pictures, and this memory."""

ONE_BY_ONE = """
import json, sys, time
from statistics import median
import anatozoo

model, times = anatozoo.load(sys.argv[1], trainable=False), []
for path in sys.argv[2:]:
    start = time.perf_counter()
    model.predict(path)
    times.append(time.perf_counter() - start)
print(json.dumps({"seconds": median(times[1:])}))
"""


def measured(words: list[str]) -> dict[str, Any]:
    """What a process of Python prints as JSON, and its largest resident set in MB as ``peak_mb``.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *words], stdout=output)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(words[:4])} failed.")
        output.seek(0)
        found: dict[str, Any] = json.load(output)
    kilobytes = used.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return found | {"peak_mb": round(kilobytes * 1024 / 1e6)}


def main() -> None:
    """Parse the options, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64, help="in the folder (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="that count (default: 3)")
    parser.add_argument("--checkpoint", default="hybridgnet-chexmask", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "scans"), Path(place, "out")
        folder.mkdir()
        for number in range(options.images):
            Image.fromarray(chest_phantom(1024, 1024, seed=number).image).save(folder / f"{number:03}.png")
        files = [str(path) for path in sorted(folder.iterdir())]
        predict = ["-m", "anatozoo", "predict", options.checkpoint]
        rest = ["--out", str(out), "--overwrite", "--json"]
        ways = {
            "import torch": ["-c", 'import torch; print("{\\"seconds\\": 0}")'],
            "model.predict": ["-c", ONE_BY_ONE, options.checkpoint, *files[:17]],
            "folder": [*predict, str(folder), *rest],
            "folder, JSON alone": [*predict, str(folder), *rest, "--format", "json"],
            "one PNG": [*predict, files[0], *rest],
        }
        counts = {"folder": len(files), "folder, JSON alone": len(files)}
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for number in range(options.rounds):
            for way, words in ways.items():
                found[way].append(measured(words))
            print(f"round {number + 1} of {options.rounds}", flush=True)
    ms = {w: median(1000 * run["seconds"] / counts.get(w, 1) for run in runs) for w, runs in found.items()}
    base, plain = ms["model.predict"], ms["folder, JSON alone"]
    record = {
        "command": f"python benchmarks/folder.py --images {options.images} --rounds {options.rounds} "
        f"--checkpoint {options.checkpoint}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "goals": GOALS,
        "ms": {way: round(value, 1) for way, value in ms.items() if value},
        "ms of each round": {
            way: [round(1000 * run["seconds"] / counts.get(way, 1), 1) for run in found[way]]
            for way in ms
            if ms[way]
        },
        "of model.predict": {way: round(ms[way] / base, 2) for way in ("folder", "folder, JSON alone")},
        "pictures": round(ms["folder"] / plain, 2),
        "peak_mb": {way: max(run["peak_mb"] for run in runs) for way, runs in found.items()},
    }
    print(json.dumps(record, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
