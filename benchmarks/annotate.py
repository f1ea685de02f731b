"""What annotating costs: CPU time by stage, memory over many images, and Ray beside local processes.

    python benchmarks/annotate.py [--images 24] [--many 3000] [--sources DIR ...] [--ray] [--stages-only]
        [--out FILE]

First a plan as long as CheXmask. Then the real model and estimates by an atlas of ellipses, on drawn chests
of 1024 x 1024, with one thread: CPU milliseconds of each stage, which other work on the machine does not
change much. Then many small images with a network that takes no time, in one process: the slope of its
memory; drawn ones, or the radiographs of `--sources` and variants of them. With `--ray` the same images on
three nodes of Ray on this machine: each once, and the same tables byte for byte; and what Ray takes beside
two local workers, with the real model on some of the images. The last lines say what CheXmask's 676,803
images would take. `--stages-only` measures plan and stages anew and keeps the rest of FILE. The command ends
with 1 where a goal is missed.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from annotate_data import tables, write_atlas, write_images, write_model, write_variants

from anatozoo.annotate.engines import Engine, Local
from anatozoo.annotate.ledger import FOLDER, packed
from anatozoo.annotate.on_ray import OnRay
from anatozoo.annotate.plan import PLAN_NAME, Item, Plan, Settings, write_plan
from anatozoo.annotate.run import annotate
from anatozoo.annotate.stages import STAGES, Stages, one_thread
from anatozoo.io.rle import chexmask_lines
from anatozoo.io.writers import make_folder
from anatozoo.zoo.files import write_text

CHEXMASK = 676_803
CORES = 512
FLAT_MB = 10.0
"""Growth per 1,000 images that is taken for none."""
MOST_OVERHEAD = 0.15
MODEL = "hybridgnet-chexmask"


def stage_costs(folder: Path, count: int) -> dict[str, Any]:
    """CPU milliseconds per image of each stage, and bytes per image in and out."""
    scans = write_images(folder / "large", count, bad=0, side=1024)
    stages = Stages(Settings((str(scans),), MODEL, str(write_atlas(folder))))
    items = [Item(path.name, str(path)) for path in sorted(scans.iterdir())]
    with one_thread():
        for _ in stages.run(items[:3]):  # loads what is loaded once
            pass
        stages.cpu = dict.fromkeys(STAGES, 0.0)
        records = list(stages.run(items))
    rows = [(record.id, record.chexmask(square)) for record in records for square in (False, True)]
    lines = list(chexmask_lines(rows, estimates=True))
    each = {stage: round(1000 * seconds / count, 1) for stage, seconds in stages.cpu.items()}
    return {
        "images": count,
        "ok": sum(record.status == "ok" for record in records),
        "cpu_ms_per_image": each,
        "images_per_core_s": round(1000 / sum(each.values()), 2),
        "source_kb_per_image": round(sum(p.stat().st_size for p in scans.iterdir()) / count / 1000, 1),
        "ledger_kb_per_image": round(len(packed(records, {})) / count / 1000, 1),
        "chexmask_kb_per_image": round(sum(map(len, lines)) / count / 1000, 1),
    }


def plan_costs(folder: Path) -> dict[str, Any]:
    """Time, memory and size of a plan as long as CheXmask, with names like those of its archives."""
    before, start = resident_mb(), time.process_time()
    names = [f"p{n % 65:02d}/p{n:08d}/s{7 * n:08d}/{n:032x}.jpg" for n in range(CHEXMASK)]
    items = [Item(name, f"/archive/files/{name}") for name in names]
    place = make_folder(folder / "plan")
    facts = {"organs": [], "estimates": []}
    plan = write_plan(place, Settings(("/archive/files",), MODEL), facts, items, [])
    memory, used = resident_mb() - before, time.process_time() - start
    opened = time.perf_counter()
    shards = Plan.read(place)
    assert shards is not None
    shards.items(plan.shards[-1])
    return {
        "images": CHEXMASK,
        "cpu_s": round(used, 1),
        "mb": round(memory),
        "file_mb": round((place / PLAN_NAME).stat().st_size / 1e6, 1),
        "ms_to_open_and_read_a_shard": round(1000 * (time.perf_counter() - opened), 1),
    }


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def many(folder: Path, scans: Path, count: int) -> dict[str, Any]:
    """Memory of one process over many images, and the size of what it writes."""
    found: list[tuple[int, float]] = []

    def note(shard: int) -> None:
        found.append(((shard + 1) * 100, resident_mb()))

    start = time.perf_counter()
    done = annotate(folder / "local", settings(folder, scans), engine=Local(workers=1), on_shard=note)
    later = np.array(found[len(found) // 5 :])
    slope = 1000 * float(np.polyfit(later[:, 0], later[:, 1], 1)[0])
    size = sum(path.stat().st_size for path in (folder / "local" / FOLDER).iterdir())
    summary = dict(done.summary or {})
    return {
        "images": count,
        "ok": summary["ok"],
        "failed": summary["failed"],
        "first_mb": round(found[0][1], 1),
        "last_mb": round(found[-1][1], 1),
        "mb_per_1000_images": round(slope, 2),
        "ledger_kb_per_image": round(size / count / 1000, 2),
        "wall_s": round(time.perf_counter() - start, 1),
    }


def settings(folder: Path, scans: Path) -> Settings:
    """Of the many images."""
    return Settings((str(scans),), str(write_model(folder)))


def beside(folder: Path, scans: Path) -> dict[str, Any]:
    """The same images on a cluster of three nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    start = time.perf_counter()
    engine: Engine = OnRay(workers=3, address=cluster.address)
    try:
        annotate(folder / "ray", settings(folder, scans), engine=engine)
    finally:
        cluster.shutdown()
    return {
        "nodes": 3,
        "wall_s": round(time.perf_counter() - start, 1),
        "same_bytes": tables(folder / "ray") == tables(folder / "local"),
    }


def overhead(folder: Path, scans: Path, count: int) -> dict[str, Any]:
    """The real model on some images, by two workers of each engine and by the clock.

    Starting is told apart: the pace is that of the shards after the first four.
    """
    import ray

    some = make_folder(folder / "some")
    for path in sorted(scans.iterdir())[:count]:
        (some / path.name).write_bytes(path.read_bytes())
    how = Settings((str(some),), MODEL, shard_size=8)
    ms, until_first = {}, {}
    for name, engine in (("local", Local(workers=2)), ("ray", OnRay(workers=2))):
        done: list[float] = []

        def note(_: int, done: list[float] = done) -> None:
            done.append(time.perf_counter())

        start = time.perf_counter()
        annotate(folder / f"two-{name}", how, engine=engine, on_shard=note)
        ms[name] = round(1000 * (done[-1] - done[3]) / (8 * (len(done) - 4)), 1)
        until_first[name] = round(done[0] - start, 1)
    ray.shutdown()
    same = tables(folder / "two-ray") == tables(folder / "two-local")
    return {
        "images": count,
        "workers": 2,
        "ms_per_image": ms,
        "s_until_the_first_shard": until_first,
        "overhead": round(ms["ray"] / ms["local"] - 1, 3),
        "same_bytes": same,
    }


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24, help="for the stages (default: 24)")
    parser.add_argument("--many", type=int, default=3000, help="for memory and Ray (default: 3000)")
    parser.add_argument(
        "--sources", type=Path, nargs="+", help="radiographs for --many (default: drawn ones)"
    )
    parser.add_argument("--ray", action="store_true", help="also a cluster of Ray")
    parser.add_argument("--beside", type=int, default=300, help="images of the real model (default: 300)")
    parser.add_argument("--stages-only", action="store_true", help="the first part alone")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {}
        if options.stages_only and options.out is not None:
            found = json.loads(options.out.read_text())
        found["plan"] = plan_costs(folder)
        print(json.dumps(found["plan"]), flush=True)
        found["stages"] = stage_costs(folder, options.images)
        print(json.dumps(found["stages"]), flush=True)
        if not options.stages_only:
            scans = folder / "scans"
            if options.sources:
                write_variants(scans, options.sources, options.many)
            else:
                write_images(scans, options.many)
            found["many"] = many(folder, scans, options.many)
            print(json.dumps(found["many"]), flush=True)
        if options.ray and not options.stages_only:
            found["ray"] = beside(folder, scans)
            print(json.dumps(found["ray"]), flush=True)
            found["beside"] = overhead(folder, scans, options.beside)
            print(json.dumps(found["beside"]), flush=True)
    hours = CHEXMASK / found["stages"]["images_per_core_s"] / 3600
    found["chexmask"] = {
        "images": CHEXMASK,
        "core_hours": round(hours),
        f"hours_on_{CORES}_cores": round(hours / CORES, 1),
        "ledger_gb": round(CHEXMASK * found["stages"]["ledger_kb_per_image"] / 1e6, 1),
        "chexmask_gb": round(CHEXMASK * found["stages"]["chexmask_kb_per_image"] / 1e6, 1),
    }
    met = {
        "memory flat": found["many"]["mb_per_1000_images"] < FLAT_MB,
        "Ray equals local": found.get("ray", {}).get("same_bytes"),
        "overhead of Ray at most 15 %": "beside" not in found or found["beside"]["overhead"] <= MOST_OVERHEAD,
    }
    found |= {"met": met, "processor": platform.machine(), "torch": torch.__version__}
    print(json.dumps(found["chexmask"]), json.dumps(met))
    if options.out is not None:
        write_text(options.out, json.dumps(found, indent=2) + "\n")
    return 0 if all(value is not False for value in met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
