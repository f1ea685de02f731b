"""Run loaded models over files, folders and patterns, or over the pairs of a table, into a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from anatozoo.errors import ConfigError
from anatozoo.serve.engine import RunSummary, run_task
from anatozoo.serve.files import FileTask
from anatozoo.serve.inputs import WANTED, Found, find
from anatozoo.serve.manifest import Row
from anatozoo.serve.pairs import PairList, read_pairs
from anatozoo.serve.plan import (
    DEFAULT_MASK_OPTIONS,
    DEFAULT_OPTIONS,
    DEFAULT_PAIR_OPTIONS,
    MaskOptions,
    PairOptions,
    ReadOptions,
)
from anatozoo.serve.tasks import Task, kind_of
from anatozoo.zoo.kinds import FIELD, REPAIR

Paths = Sequence[str | os.PathLike[str]]


def run_folder(
    model: Any,
    inputs: Paths | Found,
    out: str | os.PathLike[str],
    *,
    then: Any = None,
    formats: Sequence[str] | None = None,
    batch_size: int = 4,
    options: ReadOptions | MaskOptions | None = None,
    groups: bool = False,
    overwrite: bool = False,
    workers: int = 2,
    on_start: Callable[[int, int], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> RunSummary:
    """Do what the model does with files into a folder; see `run_task` on what a run is.

    Args:
        model: a loaded checkpoint that segments images or volumes, repairs masks or restores volumes.
        inputs: files, folders and patterns, or what `find_images`, `find_volumes` or `find_masks` found.
        out: folder of the results.
        then: a loaded checkpoint that repairs what `model` has segmented; the repaired masks are saved.
        formats: see the results' `save`; None takes what that does by default.
        batch_size: inputs per call of the model.
        options: how files are read, `ReadOptions` of images and volumes and `MaskOptions` of masks; None asks
            for nothing special.
        groups: of radiographs in DICOM, also write sex, age, view, modality and manufacturer to the table.
        overwrite: do everything again, and write over files that no earlier run has written.
        workers: threads that read and write.
        on_start: called with the number of inputs and of those done already.
        on_row: called with each new row.

    Raises:
        ConfigError: a model does something else, the two do not go together, a format or an option is none
            of this kind of run, `groups` are asked for of other inputs than radiographs, or a number is
            below 1.
        DataError: no input leads to a file.
        OutputError: see `run_task`.
    """
    task = file_task(model, inputs, out, then=then, options=options)
    if groups:
        task.add_groups()
    return run_task(
        task,
        out,
        formats=formats,
        batch_size=batch_size,
        overwrite=overwrite,
        workers=workers,
        on_start=on_start,
        on_row=on_row,
    )


def run_pairs(
    model: Any,
    pairs: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    formats: Sequence[str] | None = None,
    options: PairOptions = DEFAULT_PAIR_OPTIONS,
    overwrite: bool = False,
    workers: int = 2,
    on_start: Callable[[int, int], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> RunSummary:
    """Register the pairs of a table into a folder; see `run_task` on what a run is.

    Args:
        model: a loaded checkpoint that registers images.
        pairs: CSV file, see `anatozoo.serve.pairs.read_pairs`.
        out: folder of the results.
        formats: see `RegistrationResult.save`; None takes what that does by default.
        options: how files are read.
        overwrite: do everything again, and write over files that no earlier run has written.
        workers: threads that read and write.
        on_start: called with the number of pairs and of those done already.
        on_row: called with each new row.

    Raises:
        ConfigError: the model does something else, or a format is unknown.
        DataError: the table cannot be read, or holds no pair.
        OutputError: see `run_task`.
    """
    return run_task(
        pair_task(model, read_pairs(pairs), options),
        out,
        formats=formats,
        overwrite=overwrite,
        workers=workers,
        on_start=on_start,
        on_row=on_row,
    )


def file_task(
    model: Any,
    inputs: Paths | Found,
    out: str | os.PathLike[str],
    *,
    then: Any = None,
    options: ReadOptions | MaskOptions | None = None,
) -> FileTask[Any, Any]:
    """What `run_folder` does with these inputs, by what the models do.

    Raises:
        ConfigError: a model does something else, the two do not go together, or an option is none of theirs.
        DataError: no input leads to a file.
    """
    from anatozoo.serve.masks import SegmentThenRepair

    kind, name = kind_of(model), model.checkpoint_name
    masks = kind.takes == REPAIR.takes
    if len(kind.takes) > 1:
        raise ConfigError(
            f"{name} registers one image to another: list the pairs in a CSV file with the "
            "columns moving and fixed, and give it by --pairs instead of images."
        )
    found = inputs if isinstance(inputs, Found) else find(inputs, out, WANTED[kind.takes[0]])
    found.check()
    if masks and isinstance(options, ReadOptions):
        raise ConfigError("ReadOptions are for images; masks are read by MaskOptions.")
    if not masks and isinstance(options, MaskOptions):
        raise ConfigError("MaskOptions are for masks; images are read by ReadOptions.")
    job = kind.job_class()
    if then is None:
        default = DEFAULT_MASK_OPTIONS if masks else DEFAULT_OPTIONS
        task: FileTask[Any, Any] = job(model, found, options or default)
        return task
    if job.alone:
        raise ConfigError(job.alone.format(name=name, then=then.checkpoint_name))
    if kind_of(then) is not REPAIR:
        raise ConfigError(f"{then.checkpoint_name} repairs no masks, so it cannot follow {name}.")
    assert not isinstance(options, MaskOptions)
    return SegmentThenRepair(model, then, found, options or DEFAULT_OPTIONS)


def pair_task(
    model: Any, pairs: PairList, options: PairOptions = DEFAULT_PAIR_OPTIONS
) -> Task[Any, Any, Any]:
    """What `run_pairs` does with these pairs.

    Raises:
        ConfigError: the model registers no images, or the options are not for it.
    """
    from anatozoo.serve.registrations import RegisterPairs

    if kind_of(model) is not FIELD:
        raise ConfigError(
            f"{model.checkpoint_name} registers no images, so it cannot take pairs; give it files or folders."
        )
    return RegisterPairs(model, pairs, options)
