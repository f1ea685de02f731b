"""The table of a run, ``manifest.csv``: one row per input, right at every moment, whatever stops the run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

import filelock

from anatozoo.errors import OutputError
from anatozoo.io.writers import csv_text, explain, write_bytes
from anatozoo.metrics.measurements import Measurement
from anatozoo.serve.lines import append_lines, not_ours, read_lines
from anatozoo.serve.outputs import ENDINGS
from anatozoo.text import from_cell

MANIFEST_NAME = "manifest.csv"
LOCK_NAME = ".anatozoo.lock"
COLUMNS = ("file", "status", "reason", "seconds", "flags", "outputs", "stem", "fingerprint")

_SEPARATOR = ";"
_INPUTS = {"file": "single files", "name": "pairs"}
"""First column of a table -> the inputs that its rows are about."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Attributes:
        key: the first one, which tells the inputs apart: ``"file"``, or ``"name"`` of a pair.
        details: columns behind the common ones, texts.
        numbers: columns behind those, numbers or empty.
    """

    key: str = COLUMNS[0]
    details: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    @property
    def more(self) -> tuple[str, ...]:
        """Columns behind the common ones."""
        return self.details + self.numbers

    @property
    def header(self) -> tuple[str, ...]:
        """All columns."""
        return (self.key, *COLUMNS[1:], *self.more)


PLAIN = Layout()


@dataclass(frozen=True)
class Row:
    """What became of one input.

    Attributes:
        file: path below the folder that was given, see `anatozoo.serve.sources`; of a pair its name.
        status: whether it was computed and everything written.
        reason: of a failure, or why a result that was written lacks a part, in one line; else empty.
        seconds: spent on reading, its share of the batch, and writing.
        flags: of the result.
        outputs: names of the files in the folder of the results.
        stem: start of these names.
        fingerprint: of the source files, the checkpoints and the options; the same one means the same result.
        more: further columns, see `Layout`.
        measured: what this run measured of the result; it is no column, but in ``measurements.csv``.
    """

    file: str
    status: Literal["ok", "failed"]
    reason: str = ""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    stem: str = ""
    fingerprint: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Measurement, ...] = field(default=(), compare=False, repr=False)

    @property
    def partly(self) -> bool:
        """Whether the result was written without its last part; `reason` says why."""
        return self.status == "ok" and bool(self.reason)

    def fields(self, layout: Layout = PLAIN) -> tuple[str, ...]:
        """Texts in the order of the columns; flags and outputs are separated by semicolons."""
        return (
            self.file,
            self.status,
            self.reason,
            f"{self.seconds:.3f}",
            _SEPARATOR.join(self.flags),
            _SEPARATOR.join(self.outputs),
            self.stem,
            self.fingerprint,
            *(self.more.get(column, "") for column in layout.more),
        )

    @classmethod
    def from_fields(cls, fields: Sequence[str], more: Sequence[str] = ()) -> Row | None:
        """The row that `fields` gave; None where they are not a whole row.

        Args:
            fields: texts.
            more: the columns behind the common ones.
        """
        if len(fields) != len(COLUMNS) + len(more) or fields[1] not in ("ok", "failed"):
            return None
        file, status, reason, seconds, flags, outputs, stem, fingerprint = fields[: len(COLUMNS)]
        if stem and not _is_stem(stem):
            return None  # whoever wrote it, files are made and removed by this name
        # A stem may hold the separator, so names are looked for rather than split.
        listed = _SEPARATOR + outputs + _SEPARATOR
        names = tuple(stem + e for e in ENDINGS if f"{_SEPARATOR}{stem}{e}{_SEPARATOR}" in listed)
        try:
            return cls(
                file=file,
                status="ok" if status == "ok" else "failed",
                reason=reason,
                seconds=float(seconds),
                flags=tuple(flag for flag in flags.split(_SEPARATOR) if flag),
                outputs=names,
                stem=stem,
                fingerprint=fingerprint,
                more=dict(zip(more, fields[len(COLUMNS) :], strict=True)),
            )
        except ValueError:
            return None


def _is_stem(stem: str) -> bool:
    return stem not in (".", "..") and not set("/\\\0") & set(stem)


@contextmanager
def exclusive(folder: Path, name: str = LOCK_NAME, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the folder, or a part of the work in it, for this run alone.

    The operating system frees the lock when the process ends in any way, so none is ever left behind; the
    empty lock file stays.

    Args:
        folder: of the results.
        name: of the lock file.
        wait_s: how long to wait for another run.

    Raises:
        OutputError: another run holds the folder, or it cannot be written.
    """
    lock = filelock.FileLock(folder / name, timeout=wait_s)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise OutputError(
            f"another run is writing to {str(folder)!r}; wait until it has ended, or choose another folder."
        ) from error
    except OSError as error:
        raise OutputError(explain(error, folder / name)) from error
    try:
        yield
    finally:
        lock.release()


def read_manifest(folder: Path, layout: Layout = PLAIN) -> dict[str, Row] | None:
    """Rows of earlier runs by file; None where there was no run. A torn last row is left out.

    Args:
        folder: folder of the results.
        layout: of the run to come; only its first column must be that of the table.

    Raises:
        OutputError: ``manifest.csv`` is somebody else's, of another kind of run, or cannot be read.
    """
    path = folder / MANIFEST_NAME
    lines = read_lines(path)
    if lines is None:
        return None
    key, *columns = next(lines, [""])
    common = len(COLUMNS) - 1
    if not _is_ours([key, *columns]):
        raise not_ours(path)
    if key != layout.key:
        raise OutputError(
            f"{str(path)!r} is the table of a run over {_INPUTS[key]}, and this one is over "
            f"{_INPUTS[layout.key]}; choose another folder."
        )
    rows = (Row.from_fields([from_cell(field) for field in fields], columns[common:]) for fields in lines)
    return {row.file: row for row in rows if row is not None}


def has_manifest(folder: Path) -> bool:
    """Whether the folder holds results of a run: a ``manifest.csv`` with our columns."""
    try:
        with (folder / MANIFEST_NAME).open(encoding="utf-8", errors="replace") as file:
            return _is_ours(file.readline(1000).rstrip("\n").split(","))
    except OSError:
        return False


def _is_ours(columns: Sequence[str]) -> bool:
    return columns[0] in _INPUTS and tuple(columns[1 : len(COLUMNS)]) == COLUMNS[1:]


class ManifestWriter:
    """Appends rows to ``manifest.csv`` as inputs get done; each is on disk before the next begins.

    Args:
        folder: folder of the results.
        rows: rows to start with.
        layout: the columns.

    Raises:
        OutputError: the table cannot be written.
    """

    def __init__(self, folder: Path, rows: Iterable[Row], layout: Layout = PLAIN) -> None:
        self._path, self._layout = folder / MANIFEST_NAME, layout
        self._rows = {row.file: row for row in rows}
        self._locked = (folder / LOCK_NAME).exists()
        self._rewrite()
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise OutputError(explain(error, self._path)) from error

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def append(self, row: Row) -> None:
        """Add the row of an input that has none yet.

        Raises:
            OutputError: it cannot be written.
        """
        line = csv_text([row.fields(self._layout)])
        self.check()
        append_lines(self._descriptor, line, self._path)
        self._rows[row.file] = row

    def check(self) -> None:
        """Make sure that the table and the lock are where this run left them.

        Raises:
            OutputError: somebody removed or replaced the folder, its table or its lock while the run works.
        """
        folder = self._path.parent
        if (self._locked and not (folder / LOCK_NAME).exists()) or not self._is_ours():
            raise OutputError(
                f"{str(folder)!r}, its {MANIFEST_NAME} or its {LOCK_NAME} was removed or replaced while this "
                "run wrote to it, so the run was stopped. Run the same command again, and leave the folder "
                "alone."
            )

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def sort(self) -> None:
        """Write the table anew, sorted by file, at the end of a run.

        Raises:
            OutputError: it cannot be written, or is no longer ours, see `check`.
        """
        self.check()
        self._rows = dict(sorted(self._rows.items()))
        self._rewrite()

    def _rewrite(self) -> None:
        rows = (row.fields(self._layout) for row in self._rows.values())
        write_bytes(self._path, csv_text([self._layout.header, *rows]))
