"""The tables of an annotation, made of its shards in one pass whose memory does not grow with them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anatozoo.annotate import ledger
from anatozoo.annotate.plan import PICTURES, PLAN_NAME, Plan
from anatozoo.annotate.records import SIDE, Record
from anatozoo.annotate.sources import import_parquet
from anatozoo.annotate.stages import STAGES
from anatozoo.errors import ConfigError
from anatozoo.io.rle import chexmask_lines, decode_rle
from anatozoo.io.writers import atomic_path, csv_text, remove_leftovers, write_bytes, write_json
from anatozoo.metrics.measurements import RATIO

FORMATS = ("chexmask", "parquet", "png")
SUCCESS_NAME, SUMMARY_NAME, IMAGES_NAME = "_SUCCESS", "summary.json", "images.csv"
CHEXMASK_NAMES = {False: "OriginalResolution.csv", True: "Preprocessed.csv"}
"""Whether the frame is the square -> the table, called as the folders of CheXmask."""
PARQUET_NAME = "annotations.parquet"
QUALITY = "dice_rca_mean"
BINS = 20
"""Of the histogram of the quality, from 0 to 1."""
ROW_GROUP = 1000
"""Images of a row group, about 20 MB before compression."""

LONGEST_NAME = 200
"""Letters of an id, or of its part between slashes, that become a file name; most systems end at 255."""

Sink = Callable[[Record], None]


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats that are unknown, or whose package is missing, before anything is computed.

    Raises:
        ConfigError: one is.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"there is no format {unknown[0]!r}; choose from {', '.join(FORMATS)}.")
    if "parquet" in formats:
        import_parquet()


def write_tables(plan: Plan, formats: Sequence[str]) -> dict[str, Any]:
    """Write the tables, the summary and at last ``_SUCCESS``, from the results of all shards.

    Args:
        plan: with all shards done.
        formats: of `check_formats`.

    Returns:
        The summary.

    Raises:
        OutputError: a result is damaged or missing, see `anatozoo.annotate.ledger.read`, or a table cannot be
            written.
    """
    folder = plan.folder
    (folder / SUCCESS_NAME).unlink(missing_ok=True)
    for place in (folder, folder / ledger.FOLDER):
        remove_leftovers(place)
    counts = _Counts()
    makers = {"chexmask": _chexmask, "parquet": _parquet, "png": _pictures}
    with ExitStack() as stack:
        sinks = [stack.enter_context(_images(plan))]
        sinks += [stack.enter_context(makers[name](plan)) for name in FORMATS if name in formats]
        for shard in plan.shards:
            for each in ledger.read(plan, shard):
                if not isinstance(each, Record):
                    counts.add_times(each)
                    continue
                counts.add(each)
                for sink in sinks:
                    sink(each)
    summary = counts.summary(plan, formats)
    write_json(folder / SUMMARY_NAME, summary)
    write_bytes(folder / SUCCESS_NAME, b"")
    return summary


class _Counts:
    """What the summary counts."""

    def __init__(self) -> None:
        self.status: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.unjudged: Counter[str] = Counter()
        self.flags: Counter[str] = Counter()
        self.bins = [0] * BINS
        self.judged, self.sum = 0, 0.0
        self.times = {kind: dict.fromkeys(STAGES, 0.0) for kind in ("cpu", "wall")}

    def add(self, record: Record) -> None:
        self.status[record.status] += 1
        self.flags.update(record.flags)
        if record.status == "failed":
            self.reasons[_kind(record.reason)] += 1
        elif record.status == "ok" and record.reason:
            self.unjudged[_kind(record.reason)] += 1
        if (value := record.numbers.get(QUALITY)) is not None:
            self.bins[min(int(value * BINS), BINS - 1)] += 1
            self.judged, self.sum = self.judged + 1, self.sum + value

    def add_times(self, times: ledger.Times) -> None:
        for kind, stages in self.times.items():
            for stage in stages:
                stages[stage] += times[kind][stage]

    def summary(self, plan: Plan, formats: Sequence[str]) -> dict[str, Any]:
        computed = max(self.status["ok"], 1)
        cpu = sum(self.times["cpu"].values())
        quality = {
            "metric": QUALITY,
            "judged": self.judged,
            "mean": round(self.sum / self.judged, 6) if self.judged else None,
            "edges": [round(edge / BINS, 4) for edge in range(BINS + 1)],
            "counts": self.bins,
        }
        return {
            "images": plan.total,
            "ok": self.status["ok"],
            "failed": self.status["failed"],
            "duplicates": self.status["duplicate"],
            "failures": dict(self.reasons.most_common()),
            "not_judged": dict(self.unjudged.most_common()),
            "flags": dict(sorted(self.flags.items())),
            "quality": quality if plan.facts["estimates"] else None,
            "throughput": {
                "images_per_core_s": round(computed / cpu, 3) if cpu else None,
                "cpu_ms_per_image": _per_image(self.times["cpu"], computed),
                "wall_ms_per_image": _per_image(self.times["wall"], computed),
            },
            "formats": [name for name in FORMATS if name in formats],
            "model": plan.settings.model,
            "facts": dict(plan.facts),
            "shards": len(plan.shards),
            "remarks": list(plan.remarks),
            "plan": PLAN_NAME,
        }


def _per_image(seconds: Mapping[str, float], images: int) -> dict[str, float]:
    return {stage: round(1000 * value / images, 3) for stage, value in seconds.items()}


def _kind(reason: str) -> str:
    """A reason without the names and numbers that differ between images."""
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"'[^']*'", "'...'", reason))


def number_columns(plan: Plan) -> list[str]:
    """Names of the numbers that an image of a plan can have."""
    areas = [f"area_px/{organ}" for organ in plan.facts["organs"]]
    return [*areas, RATIO, *plan.facts["estimates"]]


@contextmanager
def _images(plan: Plan) -> Iterator[Sink]:
    """``images.csv``: a row for each image, what failed included."""
    names = number_columns(plan)
    head = ["id", "source", "status", "reason", "flags", "width", "height", "spacing_x_mm", "spacing_y_mm"]
    with atomic_path(plan.folder / IMAGES_NAME) as temporary, temporary.open("wb") as file:
        file.write(csv_text([[*head, "atlas_images", *names]]))

        def add(record: Record) -> None:
            texts = [record.id, record.source, record.status, record.reason, ";".join(record.flags)]
            size, spacing = record.size or (None, None), record.spacing_mm or (None, None)
            values = [record.numbers.get(name) for name in names]
            numbers = ["" if value is None else f"{value:.6g}" for value in values]
            file.write(csv_text([[*texts, *size, *spacing, ";".join(record.atlas_images), *numbers]]))

        yield add


@contextmanager
def _chexmask(plan: Plan) -> Iterator[Sink]:
    """CheXmask's tables in both frames: a row for each image that did not fail."""
    estimates = bool(plan.facts["estimates"])
    with ExitStack() as stack:
        files = {}
        for square, name in CHEXMASK_NAMES.items():
            path = stack.enter_context(atomic_path(plan.folder / name))
            files[square] = stack.enter_context(path.open("wb"))
            files[square].write(next(chexmask_lines([], estimates=estimates)))

        def add(record: Record) -> None:
            if record.status == "ok":
                for square, file in files.items():
                    _, line = chexmask_lines([(record.id, record.chexmask(square))], estimates=estimates)
                    file.write(line)

        yield add


@contextmanager
def _parquet(plan: Plan) -> Iterator[Sink]:
    """One Parquet file: a row for each image, units in the metadata of the columns."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = parquet_schema(plan)
    with atomic_path(plan.folder / PARQUET_NAME) as temporary:
        rows: list[dict[str, Any]] = []
        with parquet.ParquetWriter(temporary, schema, compression="zstd", write_statistics=True) as writer:

            def flush() -> None:
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=ROW_GROUP)
                    rows.clear()

            def add(record: Record) -> None:
                rows.append(_row(record))
                if len(rows) == ROW_GROUP:
                    flush()

            yield add
            flush()


def parquet_schema(plan: Plan) -> Any:
    """The columns of ``annotations.parquet``; each names its unit in its metadata, see ``unit``."""
    import pyarrow as pa

    organs = plan.facts["organs"]
    text, texts, numbers = pa.string(), pa.list_(pa.string()), pa.list_(pa.float32())
    columns: list[tuple[str, Any, str]] = [
        ("id", text, ""),
        ("source", text, ""),
        ("status", text, "ok, failed or duplicate"),
        ("reason", text, ""),
        ("flags", texts, ""),
        ("width", pa.int32(), "px"),
        ("height", pa.int32(), "px"),
        ("spacing_x_mm", pa.float64(), "mm"),
        ("spacing_y_mm", pa.float64(), "mm"),
        ("atlas_images", texts, ""),
        *((f"landmarks/{organ}", numbers, "px, x and y in turn") for organ in organs),
        *((f"rle/{organ}", text, "px, start and length in turn, from 1, along rows") for organ in organs),
        ("landmarks_1024", text, f"px of {SIDE} x {SIDE}, x and y in turn"),
        *((f"rle_1024/{organ}", text, f"px of {SIDE} x {SIDE}, as rle") for organ in organs),
        *((name, pa.float64(), _unit(name)) for name in number_columns(plan)),
    ]
    about = {"model": plan.settings.model, **{k: json.dumps(v) for k, v in plan.facts.items()}}
    return pa.schema(
        [pa.field(name, kind, metadata={"unit": unit} if unit else None) for name, kind, unit in columns],
        metadata={f"anatozoo.{key}": value for key, value in about.items()},
    )


def _unit(name: str) -> str:
    kind = name.partition("/")[0]
    return "px2" if kind == "area_px" else next((u for u in ("mm", "px") if f"_{u}_" in kind), "1")


def _row(record: Record) -> dict[str, Any]:
    size, spacing = record.size or (None, None), record.spacing_mm or (None, None)
    return {
        "id": record.id,
        "source": record.source,
        "status": record.status,
        "reason": record.reason,
        "flags": record.flags,
        "width": size[0],
        "height": size[1],
        "spacing_x_mm": spacing[0],
        "spacing_y_mm": spacing[1],
        "atlas_images": record.atlas_images,
        **{f"landmarks/{organ}": points for organ, points in record.landmarks.items()},
        **{f"rle/{organ}": runs for organ, runs in record.original.runs.items()},
        "landmarks_1024": record.square.points or None,
        **{f"rle_1024/{organ}": runs for organ, runs in record.square.runs.items()},
        **record.numbers,
    }


@contextmanager
def _pictures(plan: Plan) -> Iterator[Sink]:
    """A label map for each image in ``masks/ID.png``."""
    import numpy as np

    from anatozoo.results.base import write_label_map

    organs = plan.facts["organs"]

    def add(record: Record) -> None:
        if record.status != "ok" or record.size is None:
            return
        labels = np.zeros(record.size[::-1], np.uint8)
        for value, organ in enumerate(organs, start=1):
            labels[decode_rle(record.original.runs.get(organ, ""), record.size)] = value
        write_label_map(picture_path(plan.folder, record.id), labels, organs)

    yield add


def picture_path(folder: Path, name: str) -> Path:
    """The label map of an image: its id below ``masks``, whatever is in it; no two ids have the same."""
    text = quote(name, safe=" /", errors="surrogateescape")
    # Only a slash between two names parts them.
    text = re.sub("^/+|/{2,}|/+$", lambda found: "%2F" * len(found[0]), text)
    *folders, last = [_file_name(part) for part in text.split("/")]
    # A folder is never called as the picture of another id is.
    folders = [re.sub(r"\.(png)$", r"%2E\1", part, flags=re.IGNORECASE) for part in folders]
    return folder.joinpath(PICTURES, *folders, f"{last}.png")


def _file_name(text: str) -> str:
    """What a file system takes: no dots alone, and not too long."""
    if len(text) > LONGEST_NAME:
        return f"{text[: LONGEST_NAME // 2]}~{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    return text if text.strip(".") else text.replace(".", "%2E")
