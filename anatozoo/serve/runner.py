"""Segment files, folders and patterns into a folder: in batches, resumable, one bad file never in the way."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from anatozoo.errors import AnatozooError, ConfigError, OutputError
from anatozoo.io.images import Image, read_image
from anatozoo.io.writers import FULL_DISK, make_folder, remove_leftovers
from anatozoo.results import DEFAULT_FORMATS, SegmentationResult, check_formats, output_names
from anatozoo.serve.inputs import Found, find_images
from anatozoo.serve.manifest import MANIFEST_NAME, ManifestWriter, Row, exclusive, read_manifest
from anatozoo.serve.plan import (
    DEFAULT_OPTIONS,
    Job,
    ReadOptions,
    check_found,
    check_names,
    fingerprint,
    is_done,
    plan_jobs,
)


class Segmenter(Protocol):
    """What a model needs for `run_folder`."""

    checkpoint_name: str
    checkpoint_version: str

    def predict(self, x: Any) -> SegmentationResult:
        """Segment one image."""

    def predict_batch(self, xs: Iterable[Any], batch_size: int = ...) -> Iterable[SegmentationResult]:
        """Segment images; results in order, the same as from `predict`."""


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        out: folder of the results.
        rows: one per input, those done by earlier runs included, sorted by file.
        already_done: number of images that an earlier run had done.
        seconds: wall time.
    """

    out: Path
    rows: tuple[Row, ...]
    already_done: int
    seconds: float

    @property
    def manifest(self) -> Path:
        """The table of this run and of earlier ones into the same folder."""
        return self.out / MANIFEST_NAME

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows of the images that failed."""
        return tuple(row for row in self.rows if row.status == "failed")


def run_folder(
    model: Segmenter,
    inputs: Sequence[str | os.PathLike[str]] | Found,
    out: str | os.PathLike[str],
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    batch_size: int = 4,
    options: ReadOptions = DEFAULT_OPTIONS,
    overwrite: bool = False,
    workers: int = 2,
    on_start: Callable[[int, int], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> RunSummary:
    """Segment many images into a folder, with one row per image in its ``manifest.csv``.

    Files are read and results written by threads while the model computes; about three batches of images are
    in memory at once. Images that an earlier run finished with the same checkpoint and options, and that have
    not changed since, are not done again; failed ones are. A run may be stopped at any moment and repeated.

    Args:
        model: a loaded checkpoint.
        inputs: files, folders and patterns, or what `find_images` found.
        out: folder of the results.
        formats: see `SegmentationResult.save`.
        batch_size: images per call of the model.
        options: how files are read.
        overwrite: do everything again, and write over files that no earlier run has written.
        workers: threads that read and write.
        on_start: called with the number of inputs and of those done already.
        on_row: called with each new row.

    Raises:
        ConfigError: a format is unknown or a number below 1.
        DataError: no input leads to an image.
        OutputError: the folder is in use, holds files of others under the names of outputs, cannot be written
            or is full.
    """
    formats = check_formats(formats)
    if batch_size < 1 or workers < 1:
        raise ConfigError(f"batch_size={batch_size} and workers={workers} must be at least 1.")
    found = inputs if isinstance(inputs, Found) else find_images(inputs, out)
    check_found(found)
    start = time.perf_counter()
    folder = Path(os.path.abspath(make_folder(out)))
    with exclusive(folder):
        remove_leftovers(folder)
        earlier = read_manifest(folder)
        identity = fingerprint(model.checkpoint_name, model.checkpoint_version, options)
        jobs = plan_jobs(found, earlier or {}, identity)
        check_names(jobs, folder, formats, may_replace=overwrite or earlier is not None)
        todo = [job for job in jobs if overwrite or not is_done(job, folder, formats)]
        redone = {str(job.path) for job in todo} | set(found.missing)
        kept = {file: row for file, row in (earlier or {}).items() if file not in redone}
        rows = [kept[str(job.path)] for job in jobs if str(job.path) in kept]
        already_done = len(rows)
        if on_start is not None:
            on_start(len(found), already_done)
        run = _Run(model, folder, formats, batch_size, options, workers)
        with ManifestWriter(folder, kept.values()) as table:
            for row in run.rows(todo, found.missing):
                table.append(row)
                rows.append(row)
                if on_row is not None:
                    on_row(row)
            table.sort()
    rows.sort(key=lambda row: row.file)
    return RunSummary(folder, tuple(rows), already_done, time.perf_counter() - start)


@dataclass(frozen=True)
class _Run:
    model: Segmenter
    folder: Path
    formats: tuple[str, ...]
    batch_size: int
    options: ReadOptions
    workers: int

    def rows(self, jobs: Sequence[Job], missing: dict[str, str]) -> Iterator[Row]:
        """Do the jobs; rows come as images get done."""
        for file, reason in missing.items():
            yield Row(file, "failed", reason)
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="anatozoo")
        try:
            yield from self._pipeline(jobs, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pipeline(self, jobs: Sequence[Job], pool: ThreadPoolExecutor) -> Iterator[Row]:
        saving: list[Future[Row]] = []
        batch: list[_Read] = []
        for read in self._prefetch(jobs, pool):
            if isinstance(read, Row):
                yield read
                continue
            batch.append(read)
            if len(batch) == self.batch_size:
                predicted, batch = self._predict(batch), []
                yield from (future.result() for future in saving)
                saving = [pool.submit(self._save, *item) for item in predicted]
        predicted = self._predict(batch)
        del batch
        saving += [pool.submit(self._save, *item) for item in predicted]
        yield from (future.result() for future in saving)

    def _prefetch(self, jobs: Sequence[Job], pool: ThreadPoolExecutor) -> Iterator[_Read | Row]:
        """Read ahead by one batch, in order."""
        ahead: deque[Future[_Read | Row]] = deque()
        for job in jobs:
            ahead.append(pool.submit(self._read, job))
            if len(ahead) > self.batch_size:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _read(self, job: Job) -> _Read | Row:
        start = time.perf_counter()
        o = self.options
        try:
            image = read_image(
                job.path,
                spacing_mm=o.spacing_mm,
                invert=o.invert,
                allow_any_modality=o.allow_any_modality,
            )
        except Exception as error:  # one bad file never stops the run, whatever is wrong with it
            return job.failure(_reason(error), time.perf_counter() - start)
        return _Read(job, image, time.perf_counter() - start)

    def _predict(self, batch: list[_Read]) -> list[tuple[Job, SegmentationResult | Exception, float]]:
        if not batch:
            return []
        start = time.perf_counter()
        images = [read.image for read in batch]
        try:
            outcomes: list[SegmentationResult | Exception] = list(
                self.model.predict_batch(images, batch_size=len(images))
            )
            if len(outcomes) != len(images):
                raise RuntimeError(f"the model gave {len(outcomes)} results for {len(images)} images")
        except Exception:  # one of them is to blame: one at a time, only that one fails, with its reason
            outcomes = [self._predict_one(image) for image in images]
        share = (time.perf_counter() - start) / len(batch)
        return [(r.job, outcome, r.seconds + share) for r, outcome in zip(batch, outcomes, strict=True)]

    def _predict_one(self, image: Image) -> SegmentationResult | Exception:
        try:
            return self.model.predict(image)
        except Exception as error:
            return error

    def _save(self, job: Job, outcome: SegmentationResult | Exception, seconds: float) -> Row:
        if isinstance(outcome, Exception):
            return job.failure(_reason(outcome), seconds)
        start = time.perf_counter()
        names = output_names(job.stem, self.formats)
        new = [name for name in names if not (self.folder / name).exists()]
        try:
            replace(outcome, image=job.path.name).save(self.folder, self.formats, job.stem)
        except Exception as error:
            _remove(self.folder, new)
            if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in FULL_DISK:
                raise  # every further image would fail the same way
            return job.failure(_reason(error), seconds + time.perf_counter() - start)
        seconds += time.perf_counter() - start
        outputs = tuple(names) + self._settle_earlier(job, names)
        flags = tuple(outcome.flags)
        return Row(str(job.path), "ok", "", seconds, flags, outputs, job.stem, job.fingerprint)

    def _settle_earlier(self, job: Job, names: Sequence[str]) -> tuple[str, ...]:
        """Outputs of an earlier run in other formats: keep them if they still hold, else remove them."""
        if job.earlier is None:
            return ()
        others = [name for name in job.earlier.outputs if name not in names]
        if job.earlier.fingerprint == job.fingerprint:
            return tuple(name for name in others if (self.folder / name).is_file())
        _remove(self.folder, others)
        return ()


@dataclass(frozen=True)
class _Read:
    job: Job
    image: Image
    seconds: float


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """One line of text on an error."""
    text = " ".join(str(error).split())
    if isinstance(error, AnatozooError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
