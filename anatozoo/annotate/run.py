"""An annotation from its sources to its tables: plan, shards, sinks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock

from anatozoo.annotate import ledger
from anatozoo.annotate.engines import Engine, Local
from anatozoo.annotate.plan import LOCK_NAME, Plan, Settings, write_plan
from anatozoo.annotate.sinks import SUCCESS_NAME, check_formats, write_tables
from anatozoo.annotate.sources import absolute, list_items
from anatozoo.annotate.stages import Stages
from anatozoo.errors import ConfigError, DataError, OutputError
from anatozoo.io.writers import make_folder
from anatozoo.serve.manifest import exclusive

PATIENCE = 600.0
"""Seconds that a run waits for another one which lists the same images."""


@dataclass(frozen=True)
class Annotation:
    """What a run did.

    Attributes:
        plan: its plan.
        left: shards that are not done yet.
        summary: what ``summary.json`` says; None before all shards are done.
        seconds: wall time of this run.
    """

    plan: Plan
    left: int
    summary: Mapping[str, Any] | None
    seconds: float


def annotate(
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    engine: Engine | None = None,
    formats: Sequence[str] | None = None,
    shards: tuple[int, int] | None = None,
    retry_failed: bool = False,
    on_plan: Callable[[Plan, int], None] | None = None,
    on_shard: Callable[[int], None] = lambda shard: None,
) -> Annotation:
    """Annotate every image of a plan exactly once, or go on with that.

    The images are listed once, into ``plan.jsonl`` of the folder. Each shard of the plan is computed and
    written under a temporary name, and renamed when it is whole; a run that was stopped in any way goes on
    with the shards that are missing. When none is, the tables are written in the order of the ids. They are
    the same, byte for byte, for every engine, number of workers and interruption on one kind of processor.

    Args:
        out: folder of the results.
        settings: what to annotate and how; None goes on with the plan of the folder.
        engine: what does the shards; None takes `anatozoo.annotate.engines.Local`.
        formats: of the tables, ``"chexmask"``, ``"parquet"`` and ``"png"``, beside ``images.csv``, which is
            always written; None takes those of the settings.
        shards: first and last (exclusive) of those to do; None does all.
        retry_failed: also do shards with failed images again.
        on_plan: called with the plan and the number of its shards that are to do.
        on_shard: called with each shard that is done.

    Raises:
        AnatozooError: there is nothing to do, the folder holds another run, or it cannot go on; what is done
            stays done.
    """
    start, folder = time.perf_counter(), Path(os.path.abspath(out))
    if settings is not None:
        check_formats(formats or settings.formats)
    plan = _planned(folder, settings)
    written = formats or plan.settings.formats
    check_formats(written)
    if shards is not None and not 0 <= shards[0] < min(shards[1], len(plan.shards)):
        raise ConfigError(
            f"shards {shards[0]}:{shards[1]} hold nothing; the plan has the shards 0 to "
            f"{len(plan.shards) - 1}."
        )
    chosen = plan.shards if shards is None else plan.shards[slice(*shards)]
    summary: Mapping[str, Any] | None = None
    # Tasks of an array share the folder; a run over all shards has it alone.
    with exclusive(folder) if shards is None else nullcontext():
        if retry_failed:
            _forget_failed(plan, chosen)
        todo = ledger.missing(plan, chosen)
        if on_plan is not None:
            on_plan(plan, len(todo))
        if todo:
            (folder / SUCCESS_NAME).unlink(missing_ok=True)
            (engine or Local()).run(plan, todo, on_shard)
        left = len(ledger.missing(plan))
        if not left and shards is None:
            summary = write_tables(plan, written)
    if not left and shards is not None:
        summary = _tables_of_the_last(plan, written)
    return Annotation(plan, left, summary, time.perf_counter() - start)


def _tables_of_the_last(plan: Plan, formats: Sequence[str]) -> Mapping[str, Any] | None:
    """The tables, by one of the tasks that see the last shard done; None where another is at it."""
    try:
        with exclusive(plan.folder):
            return write_tables(plan, formats)
    except OutputError as error:
        if isinstance(error.__cause__, filelock.Timeout):
            return None
        raise


def _planned(folder: Path, settings: Settings | None) -> Plan:
    """The plan of a folder, made where there is none."""
    if settings is None:
        plan = Plan.read(folder)
        if plan is None:
            raise DataError(f"{str(folder)!r} holds no plan; give the sources and a model.")
        return plan
    settings = replace(
        settings,
        sources=tuple(map(absolute, settings.sources)),
        quality=None if settings.quality is None else os.path.abspath(settings.quality),
    )
    if not settings.sources:
        raise ConfigError("give at least one source of images.")
    with exclusive(make_folder(folder), LOCK_NAME, PATIENCE):
        plan = Plan.read(folder)
        if plan is None:
            listing = list_items(settings.sources, folder, ids=settings.ids, column=settings.column)
            facts = Stages(settings).facts  # what cannot be loaded is known before a node waits for it
            return write_plan(folder, settings, facts, listing.items, listing.roots, listing.remarks)
    plan.check(settings)
    return plan


def _forget_failed(plan: Plan, shards: Sequence[int]) -> None:
    done = set(shards) - set(ledger.missing(plan, shards))
    for shard in sorted(done):
        records = [each for each in ledger.read(plan, shard) if not isinstance(each, Mapping)]
        if any(record.status == "failed" for record in records):
            ledger.shard_path(plan, shard).unlink(missing_ok=True)
