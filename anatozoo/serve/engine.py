"""Run over many inputs into a folder: in batches, resumable, one bad input never in the way."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anatozoo.errors import AnatozooError, ConfigError, OutputError
from anatozoo.io.writers import FULL_DISK, make_folder, remove_leftovers
from anatozoo.serve.cores import on_cpu, shared_out, usual_batch
from anatozoo.serve.manifest import MANIFEST_NAME, ManifestWriter, Row, exclusive, read_manifest
from anatozoo.serve.measured import MEASUREMENTS_NAME, Measured, MeasuredWriter, read_measured
from anatozoo.serve.plan import Job, check_names, is_done
from anatozoo.serve.tasks import Task, names_of


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        out: folder of the results.
        rows: one per input, those done by earlier runs included, sorted by file.
        already_done: number of inputs that an earlier run had done.
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
    def measurements(self) -> Path | None:
        """The table of what was measured; None of runs that measure nothing."""
        path = self.out / MEASUREMENTS_NAME
        return path if path.is_file() else None

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows of the inputs that failed."""
        return tuple(row for row in self.rows if row.status == "failed")

    @property
    def partly(self) -> tuple[Row, ...]:
        """Rows of the inputs whose results were written without a part; `Row.reason` says why."""
        return tuple(row for row in self.rows if row.partly)


def run_task(
    task: Task[Any, Any, Any],
    out: str | os.PathLike[str],
    *,
    formats: Sequence[str] | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    workers: int = 2,
    on_start: Callable[[int, int], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> RunSummary:
    """Do a task into a folder, with one row per input in its ``manifest.csv``, and ``measurements.csv``.

    Files are read and results written by threads while the model computes; about three batches are in memory
    at once. Where nobody chooses a batch and the task allows it, several inputs are done at a time on a CPU,
    each by one thread from its file to its results; see `anatozoo.serve.cores`. Inputs that an earlier run
    finished with the same checkpoints and options, and that have not changed since, are not done again;
    failed ones are. A run may be stopped at any moment and repeated.

    Args:
        task: what to do with which inputs.
        out: folder of the results.
        formats: names of the task's formats; None takes its default.
        batch_size: inputs per call of the model, where the task computes several at a time; None takes what
            is fastest, see `anatozoo.serve.cores`.
        overwrite: do everything again, and write over files that no earlier run has written.
        workers: threads that read and write, where one computes.
        on_start: called with the number of inputs and of those done already.
        on_row: called with each new row.

    Raises:
        ConfigError: a format is unknown or a number below 1.
        OutputError: the folder is in use, holds results of another kind of run or files of others under the
            names of outputs, cannot be written or is full.
    """
    chosen = task.formats.check(formats)
    if (batch_size is not None and batch_size < 1) or workers < 1:
        raise ConfigError(f"batch_size={batch_size} and workers={workers} must be at least 1.")
    start = time.perf_counter()
    folder = Path(os.path.abspath(make_folder(out)))
    with exclusive(folder):
        remove_leftovers(folder)
        earlier = read_manifest(folder, task.layout)
        jobs = task.jobs(earlier or {}, chosen)
        check_names(jobs, folder, may_replace=overwrite or earlier is not None)
        measured = read_measured(folder) if task.measures else {}
        # Results without the table were written by a version that measured nothing.
        redo = overwrite or measured is None
        todo = [job for job in jobs if redo or not is_done(job, folder)]
        redone = {job.key for job in todo} | set(task.refused)
        kept = {
            key: row
            for key, row in (earlier or {}).items()
            if key not in redone and not (row.status == "failed" and task.forgets(row))
        }
        # What is known of an input beside its result may be asked for after it was done.
        kept |= {
            job.key: replace(kept[job.key], more={**kept[job.key].more, **job.more})
            for job in jobs
            if job.key in kept
        }
        rows = [kept[job.key] for job in jobs if job.key in kept]
        already_done = len(rows)
        if on_start is not None:
            on_start(len(jobs) + len(task.refused), already_done)
        numbers = _Numbers(task, folder, measured or {}, kept)
        with ManifestWriter(folder, kept.values(), task.layout) as table:
            size = batch_size or usual_batch(task.models)
            size = min(size, task.largest_batch or size)
            run = _Run(task, folder, chosen, size, workers, table.check)
            alone = (
                batch_size is not None or len(todo) < 2 or not task.side_by_side or not on_cpu(task.models)
            )
            for row in run.rows(todo) if alone else run.rows_side_by_side(todo):
                table.check()
                numbers.append(row)
                table.append(row)
                rows.append(row)
                if on_row is not None:
                    on_row(row)
            table.check()
            _check_outputs(folder, rows)
            table.sort()
            numbers.finish()
        task.finish(folder, sorted(rows, key=lambda row: row.file))
    rows.sort(key=lambda row: row.file)
    return RunSummary(folder, tuple(rows), already_done, time.perf_counter() - start)


class _Numbers:
    """The table of measurements of a run; nothing where it measures nothing.

    Args:
        task: the run.
        folder: of the results.
        earlier: what earlier runs measured.
        kept: rows of earlier runs that stay.
    """

    def __init__(
        self,
        task: Task[Any, Any, Any],
        folder: Path,
        earlier: Mapping[str, Measured],
        kept: Mapping[str, Row],
    ) -> None:
        self._task = task
        self._together = [each for each in earlier.values() if each.patient]
        own = [each for key, each in earlier.items() if key in kept]
        self._table = MeasuredWriter(folder, own) if task.measures else None

    def append(self, row: Row) -> None:
        """Add what was measured of an input."""
        if self._table is not None and row.measured:
            name = names_of(self._task.models)
            self._table.append(Measured(row.file, name, row.measured, row.flags))

    def finish(self) -> None:
        """Add what follows from several inputs, and sort."""
        if self._table is not None:
            self._table.finish(self._task.relate(self._table.rows, self._together))


@dataclass(frozen=True)
class _Run:
    task: Task[Any, Any, Any]
    folder: Path
    formats: tuple[str, ...]
    batch_size: int
    workers: int
    check: Callable[[], None]

    def rows(self, jobs: Sequence[Job[Any]]) -> Iterator[Row]:
        """Do the jobs; rows come as inputs get done."""
        yield from self.task.refused.values()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="anatozoo")
        try:
            yield from self._pipeline(jobs, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def rows_side_by_side(self, jobs: Sequence[Job[Any]]) -> Iterator[Row]:
        """Do several jobs at a time, each in a thread from its file to its results; rows come in order."""
        yield from self.task.refused.values()
        with shared_out(len(jobs)) as (at_once, start):
            pool = ThreadPoolExecutor(at_once, thread_name_prefix="anatozoo", initializer=start)
            ahead: deque[Future[Row]] = deque()
            try:
                for job in jobs:
                    ahead.append(pool.submit(self._whole, job))
                    if len(ahead) > 2 * at_once:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _whole(self, job: Job[Any]) -> Row:
        read = self._read(job)
        if isinstance(read, Row):
            return read
        [computed] = self._compute([read])
        return self._save(*computed)

    def _pipeline(self, jobs: Sequence[Job[Any]], pool: ThreadPoolExecutor) -> Iterator[Row]:
        saving: list[Future[Row]] = []
        batch: list[_Read] = []
        for read in self._prefetch(jobs, pool):
            if isinstance(read, Row):
                yield read
                continue
            batch.append(read)
            if len(batch) == self.batch_size:
                computed, batch = self._compute(batch), []
                yield from (future.result() for future in saving)
                saving = [pool.submit(self._save, *item) for item in computed]
        computed = self._compute(batch)
        del batch
        saving += [pool.submit(self._save, *item) for item in computed]
        yield from (future.result() for future in saving)

    def _prefetch(self, jobs: Sequence[Job[Any]], pool: ThreadPoolExecutor) -> Iterator[_Read | Row]:
        """Read ahead by one batch, in order."""
        ahead: deque[Future[_Read | Row]] = deque()
        for job in jobs:
            ahead.append(pool.submit(self._read, job))
            if len(ahead) > self.batch_size:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _read(self, job: Job[Any]) -> _Read | Row:
        start = time.perf_counter()
        try:
            # First, so that what is in memory afterwards is what was counted.
            job = replace(job, more={**job.more, **self.task.identify(job)})
            item = self.task.read(job)
        except Exception as error:  # one bad file never stops the run, whatever is wrong with it
            return job.failure(_reason(error), time.perf_counter() - start)
        return _Read(job, item, time.perf_counter() - start)

    def _compute(self, batch: list[_Read]) -> list[tuple[Job[Any], Any, float]]:
        if not batch:
            return []
        start = time.perf_counter()
        items = [read.item for read in batch]
        try:
            outcomes = self.task.compute(items)
            if len(outcomes) != len(items):
                raise RuntimeError(f"the model gave {len(outcomes)} results for {len(items)} inputs")
        except Exception:  # one of them is to blame: one at a time, only that one fails, with its reason
            outcomes = [self._compute_one(item) for item in items]
        share = (time.perf_counter() - start) / len(batch)
        return [(r.job, outcome, r.seconds + share) for r, outcome in zip(batch, outcomes, strict=True)]

    def _compute_one(self, item: Any) -> Any:
        try:
            return self.task.compute_one(item)
        except Exception as error:
            return error

    def _save(self, job: Job[Any], outcome: Any, seconds: float) -> Row:
        if isinstance(outcome, Exception):
            return job.failure(_reason(outcome), seconds)
        start = time.perf_counter()
        self.check()
        new = [name for name in job.names if not (self.folder / name).exists()]
        try:
            measured = tuple(self.task.measure(outcome)) if self.task.measures else ()
            more = self.task.save(outcome, job, self.folder, self.formats)
            # A folder that was removed meanwhile is made anew by whoever writes into it.
            self.check()
        except Exception as error:
            _remove(self.folder, new)
            self.check()
            if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _HOPELESS:
                raise  # every further input would fail the same way
            return job.failure(_reason(error), seconds + time.perf_counter() - start)
        seconds += time.perf_counter() - start
        outputs = job.names + self._settle_earlier(job)
        row = job.success(seconds, self.task.flags(outcome), outputs, more, self.task.lacks(outcome))
        return replace(row, measured=measured)

    def _settle_earlier(self, job: Job[Any]) -> tuple[str, ...]:
        """Outputs of an earlier run in other formats: keep them if they still hold, else remove them."""
        if job.earlier is None:
            return ()
        others = [name for name in job.earlier.outputs if name not in job.names]
        if job.earlier.fingerprint == job.fingerprint:
            return tuple(name for name in others if (self.folder / name).is_file())
        _remove(self.folder, others)
        return ()


_HOPELESS = FULL_DISK | {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE}
"""Why nothing more can be written to a folder."""


def _check_outputs(folder: Path, rows: Sequence[Row]) -> None:
    """Make sure that what the table lists is there.

    Raises:
        OutputError: something is not; the message shows the first.
    """
    gone = [name for row in rows for name in row.outputs if not (folder / name).is_file()]
    if gone:
        raise OutputError(
            f"{len(gone)} results in {str(folder)!r} were removed while this run wrote others, as "
            f"{gone[0]!r}. Run the same command again, which does them again."
        )


@dataclass(frozen=True)
class _Read:
    job: Job[Any]
    item: Any
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
