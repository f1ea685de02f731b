"""Runs over files and pairs, as `anatozoo predict` makes them."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from anatozoo.serve.engine import RunSummary, run_task
from anatozoo.serve.options import DEFAULT_OPTIONS, ReadOptions
from anatozoo.serve.pairs import read_pairs
from anatozoo.serve.runner import task_for
from tests.support.phantoms import make_chest_phantom

AnyPath = str | os.PathLike[str]


def write_scans(folder: Path, count: int) -> Path:
    """Make a folder of drawn chests of unequal sizes, ``scan0.png`` and so on."""
    folder.mkdir()
    for i in range(count):
        Image.fromarray(make_chest_phantom(60 + i, 70).image).save(folder / f"scan{i}.png")
    return folder


def run_folder(
    model: Any,
    inputs: Any,
    out: AnyPath,
    *,
    before: Sequence[Any] = (),
    then: Any = None,
    options: ReadOptions = DEFAULT_OPTIONS,
    groups: bool = False,
    **how: Any,
) -> RunSummary:
    """Do what a model does with files; `how` goes to `run_task`."""
    task = task_for(model, inputs, out, before=before, then=then, options=options, groups=groups)
    return run_task(task, out, **how)


def run_pairs(
    model: Any, pairs: AnyPath, out: AnyPath, *, options: ReadOptions = DEFAULT_OPTIONS, **how: Any
) -> RunSummary:
    """Register the pairs of a table; `how` goes to `run_task`."""
    return run_task(task_for(model, read_pairs(pairs), out, options=options), out, **how)


def rows_of(out: Path) -> list[dict[str, str]]:
    """The rows of the table of a run."""
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table_of(out: Path) -> dict[str, dict[str, str]]:
    """The rows of the table of a run by the names of the files, without their folders."""
    return {Path(row["file"]).name: row for row in rows_of(out)}


def visible(out: Path) -> set[str]:
    """Names in a folder that are not hidden."""
    return {path.name for path in out.iterdir() if not path.name.startswith(".")}
