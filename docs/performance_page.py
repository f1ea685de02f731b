"""The page `docs/performance.md`: what the benchmarks in the repository measured, as ratios of one run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anatozoo.errors import ManifestError
from anatozoo.zoo.tables import markdown_table

EVIDENCE = "evidence"
GPU = "speed-gpu.json"
GROWTH = "speed-growth.json"
ENGINES = "speed-engines.json"
ENGINES_GOAL = 3.0
CLOCKS = {"wall": "time on the clock", "cpu": "time of the processor, as other work disturbed the clock"}


@dataclass(frozen=True)
class Row:
    """A ratio that the page shows.

    Args:
        what: in words.
        file: in `docs/evidence`.
        value: keys that lead to the ratio, or to its numerator.
        base: keys that lead to its denominator; none if `value` is a ratio already.
        goal: what it should be.
        least: whether the goal is the least it should be; else the most.
        form: how the number is written.
    """

    what: str
    file: str
    value: tuple[str, ...]
    base: tuple[str, ...] = ()
    goal: float | None = None
    least: bool = False
    form: str = "{:.2f} ×"


_JSRT, _CHEXMASK = "hybridgnet-jsrt", "hybridgnet-chexmask"
_BF16 = "bf16 px of 1024"

SECTIONS: dict[str, tuple[Row, ...]] = {
    "Start of a process": tuple(
        Row(what, "start.json", ("processes", process, "wall_ratio"), goal=goal)
        for what, process, goal in (
            ("`import lightning`, against `import torch`", "import lightning", None),
            ("`anatozoo predict` of one PNG, against `import torch`", "predict one PNG", 1.6),
            ("`anatozoo.load(..., trainable=False)`, against `import torch`", "load, plain torch", 1.6),
        )
    )
    + (
        Row(
            "`anatozoo.load`, against `import lightning`",
            "start.json",
            ("processes", "load, Lightning", "wall_ratio"),
            goal=1.05,
        ),
    ),
    "HybridGNet, one radiograph": tuple(
        row
        for name in (_CHEXMASK, _JSRT)
        for row in (
            Row(
                f"`{name}`: `predict` of a PNG is faster than the authors' network alone at 1024²",
                "speed.json",
                (name, "ms", "reference network, 1024 x 1024"),
                (name, "ms", "predict of a PNG"),
                6,
                least=True,
            ),
            Row(
                f"`{name}`: fused network is faster than layer by layer",
                "speed.json",
                (name, "ms", "network, layer by layer"),
                (name, "ms", "network, fused"),
                1.6,
                least=True,
            ),
            Row(
                f"`{name}`: bfloat16 moves landmarks, mean",
                "speed.json",
                (name, _BF16, "mean"),
                goal=0.2,
                form="{:.2f} px of 1024",
            ),
            Row(
                f"`{name}`: bfloat16 moves landmarks, at most",
                "speed.json",
                (name, _BF16, "max"),
                goal=1.5,
                form="{:.2f} px of 1024",
            ),
        )
    ),
    "DynUNet, one stack of slices": (
        Row(
            "`acnn-dynunet-acdc`: `predict` is faster than with MONAI's network, by the clock",
            "speed-stacks.json",
            ("faster, by the clock",),
            goal=3,
            least=True,
        ),
        Row("the same, time of the processor", "speed-stacks.json", ("faster, processor time",)),
        Row(
            "voxels with the same label, in the worst stack",
            "speed-stacks.json",
            ("least equal voxels",),
            goal=0.999,
            least=True,
            form="{:.5f}",
        ),
        Row("Dice with MONAI's network", "speed-stacks.json", ("dice", "before"), form="{:.4f}"),
        Row("Dice now", "speed-stacks.json", ("dice", "now"), form="{:.4f}"),
    ),
    "A step of training": (
        Row(
            "HybridGNet at 512², float32, is faster than the authors' way, time of the processor",
            "speed-training.json",
            ("faster", "float32", "cpu"),
        ),
        Row(
            "the same in bfloat16, which is slower where the processor has no units for it",
            "speed-training.json",
            ("faster", "bf16", "cpu"),
            goal=4,
            least=True,
        ),
        Row(
            "loading, of a float32 step with its data",
            "speed-training.json",
            ("data", "cpu", "loading"),
            goal=0.1,
            form="{:.2f}",
        ),
        Row(
            "loading and augmentation, of the same",
            "speed-training.json",
            ("data", "cpu", "both"),
            goal=0.1,
            form="{:.2f}",
        ),
        Row(
            "of a float32 step, saved by memory that the process keeps",
            "speed-training.json",
            ("kept memory saves", "cpu"),
            form="{:.2f}",
        ),
    ),
    "A folder of 64 radiographs": (
        Row(
            "`anatozoo predict` of a folder, an image, against `model.predict` of one file",
            "speed-folder.json",
            ("of model.predict", "folder"),
            goal=0.7,
        ),
        Row(
            "the same without pictures",
            "speed-folder.json",
            ("of model.predict", "folder, JSON alone"),
            goal=0.7,
        ),
        Row("with pictures, against without", "speed-folder.json", ("pictures",), goal=1.25),
        Row(
            "peak memory of `predict` of one PNG, against `import torch` alone",
            "speed-folder.json",
            ("peak_mb", "one PNG"),
            ("peak_mb", "import torch"),
        ),
        Row(
            "peak memory of `predict` of one PNG",
            "speed-folder.json",
            ("peak_mb", "one PNG"),
            goal=700,
            form="{:.0f} MB",
        ),
    ),
    "Quality estimates": (
        Row(
            "reverse classification accuracy with `acregnet-jsrt`, five atlases, is faster than with elastix",
            "speed-rca.json",
            ("ratio",),
            goal=60,
            least=True,
            form="{:.0f} ×",
        ),
    ),
}
"""Tables of the page."""

_HEAD = """\
# Performance

Generated by `python -m docs.pages` from the JSON of the benchmarks in `docs/evidence`: run a benchmark
again with `--out`, and then that command, instead of an edit here. Times are ratios of two things that took
turns in one run, as seconds of one machine say nothing about another. They were measured on two cores of a
shared machine without a GPU, and move by up to a fifth from run to run. A goal that is missed says so.
"""


def performance_page(docs: Path) -> str:
    """The page's text.

    Args:
        docs: the folder of the documentation, with ``evidence/*.json``.

    Raises:
        ManifestError: a file of evidence is missing or damaged, or lacks a number that a table shows.
    """
    read = _Reader(docs / EVIDENCE)
    parts = [_HEAD]
    for title, rows in SECTIONS.items():
        cells = [(row.what, row.form.format(read.ratio(row)), _verdict(row, read.ratio(row))) for row in rows]
        files = list(dict.fromkeys(row.file for row in rows))
        commands = "\n".join(_command(read.record(file), file) for file in files)
        parts.append(f"## {title}\n\n{markdown_table(('what', 'measured', 'goal'), cells)}\n{commands}\n")
    return "\n".join([*parts, _growth(read), _engines(read), _gpu(read)])


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, file: str) -> bool:
        return (self.folder / file).is_file()

    def record(self, file: str) -> dict[str, Any]:
        path = self.folder / file
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path} cannot be read: {error}. Run its benchmark again.") from error
        return record

    def number(self, file: str, keys: Sequence[str]) -> float:
        found: Any = self.record(file)
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, int | float):
            raise ManifestError(f"{self.folder / file} lacks the number {' / '.join(keys)}.")
        return float(found)

    def ratio(self, row: Row) -> float:
        return self.number(row.file, row.value) / (self.number(row.file, row.base) if row.base else 1)


def _verdict(row: Row, found: float) -> str:
    if row.goal is None:
        return ""
    # What is shown decides: a reader compares two rounded numbers.
    shown = float(f"{found:.2f}")
    reached = shown >= row.goal if row.least else shown <= row.goal
    return f"{'≥' if row.least else '≤'} {row.goal:g}" + ("" if reached else ", **missed**")


def _command(record: dict[str, Any], file: str) -> str:
    found = record | record.get("versions", {})
    versions = f"torch {found['torch']}" if "torch" in found else f"Python {found['python']}"
    return f"`{record['command']}` ({versions}; `docs/evidence/{file}`)"


def _growth(read: _Reader) -> str:
    record = read.record(GROWTH)
    rows = [
        (
            what,
            ", ".join(f"{n}: {ratio:g} ×" for n, ratio in found["ratios"].items()),
            f"{found['exponent']:g}",
        )
        for what, found in record["growth"].items()
    ]
    table = markdown_table(("number of", "time", "exponent"), rows)
    return (
        f"## How time grows\n\n`{record['checkpoint']}`; time against the middle one of each row. An "
        "exponent of 1 means that twice as many take twice as long, 0 that they take no longer: the\n"
        f"network sees 512² of any source.\n\n{table}\n{_command(record, GROWTH)}\n"
    )


def _engines(read: _Reader) -> str:
    head = "## Engines\n\n"
    if not read.has(ENGINES):
        return f"{head}Not measured yet: `python benchmarks/engines.py --out FILE` does it.\n"
    record = read.record(ENGINES)
    best = max(record["network"].values())
    rows = [
        (
            f"`{way}`" if way.isalpha() else way,
            f"{ratio:.2f} ×",
            f"{record['predict'][way]:.2f} ×" if way in record["predict"] else "",
            f"{record['moved px'][way]:.3f}" if way in record["moved px"] else "",
        )
        for way, ratio in record["network"].items()
    ]
    table = markdown_table(("engine", "network", "`predict` of a PNG", "landmarks move, px"), rows)
    missed = "" if best >= ENGINES_GOAL else ", **missed**"
    how = f"`{record['checkpoint']}`, {record['threads']} thread(s), batch 1"
    return (
        f"{head}{how}: how many times faster than plain torch\n({CLOCKS[record['clock']]}), and how far "
        "landmarks move\nin pixels of the frame, on noise. Goal of the network: "
        f"≥ {ENGINES_GOAL:g} ×{missed}.\n[Export](export.md) says what they are.\n\n"
        f"{table}\n{_command(record, ENGINES)}\n"
    )


def _gpu(read: _Reader) -> str:
    head = "## On a GPU\n\n"
    if not read.has(GPU):
        return (
            f"{head}Not measured: no GPU was at hand. `python benchmarks/gpu.py --out FILE` measures\n"
            "images per second at batches of 1, 16 and 128 in float32, in bfloat16, as a CUDA graph and\n"
            "compiled, and how near that is to the chip's own rates. It runs in less than eight minutes; it\n"
            "is tried on CPUs alone.\n"
        )
    record = read.record(GPU)
    rows = [
        (name, batch, way, f"{found['of the ceiling']:.2f}")
        for name, batches in record["networks"].items()
        for batch, ways in batches.items()
        for way, found in ways.items()
        if "of the ceiling" in found
    ]
    table = markdown_table(("network", "batch", "way", "share of the ceiling"), rows)
    return f"{head}{record['device']}. Goal: {record['goal']}.\n\n{table}\n{_command(record, GPU)}\n"
