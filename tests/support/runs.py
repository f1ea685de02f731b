"""Runs over files and pairs, as `anatozoo predict` makes them."""

import os
from typing import Any

from anatozoo.serve.engine import RunSummary, run_task
from anatozoo.serve.options import DEFAULT_OPTIONS, ReadOptions
from anatozoo.serve.pairs import read_pairs
from anatozoo.serve.runner import task_for

Path = str | os.PathLike[str]


def run_folder(
    model: Any,
    inputs: Any,
    out: Path,
    *,
    then: Any = None,
    options: ReadOptions = DEFAULT_OPTIONS,
    groups: bool = False,
    **how: Any,
) -> RunSummary:
    """Do what a model does with files; `how` goes to `run_task`."""
    return run_task(task_for(model, inputs, out, then=then, options=options, groups=groups), out, **how)


def run_pairs(
    model: Any, pairs: Path, out: Path, *, options: ReadOptions = DEFAULT_OPTIONS, **how: Any
) -> RunSummary:
    """Register the pairs of a table; `how` goes to `run_task`."""
    return run_task(task_for(model, read_pairs(pairs), out, options=options), out, **how)
