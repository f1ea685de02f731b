"""The table of a run, ``manifest.csv``: one row per image, right at every moment, whatever stops the run."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import filelock

from anatozoo.errors import OutputError
from anatozoo.io.writers import csv_text, explain, write_bytes
from anatozoo.results import FORMATS

MANIFEST_NAME = "manifest.csv"
LOCK_NAME = ".anatozoo.lock"
COLUMNS = ("file", "status", "reason", "seconds", "flags", "outputs", "stem", "fingerprint")

_SEPARATOR = ";"
_ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)


@dataclass(frozen=True)
class Row:
    """What became of one image.

    Attributes:
        file: absolute path.
        status: whether it was segmented and everything written.
        reason: of a failure, in one line; else empty.
        seconds: spent on reading, its share of the batch, and writing.
        flags: of the result.
        outputs: names of the files in the folder of the results.
        stem: start of these names.
        fingerprint: of the source file, the checkpoint and the options; the same one means the same result.
    """

    file: str
    status: Literal["ok", "failed"]
    reason: str = ""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    stem: str = ""
    fingerprint: str = ""

    def fields(self) -> tuple[str, ...]:
        """Texts in the order of ``COLUMNS``; flags and outputs are separated by semicolons."""
        return (
            self.file,
            self.status,
            self.reason,
            f"{self.seconds:.3f}",
            _SEPARATOR.join(self.flags),
            _SEPARATOR.join(self.outputs),
            self.stem,
            self.fingerprint,
        )

    @classmethod
    def from_fields(cls, fields: list[str]) -> Row | None:
        """The row that `fields` gave; None where they are no whole row."""
        if len(fields) != len(COLUMNS) or fields[1] not in ("ok", "failed"):
            return None
        file, status, reason, seconds, flags, outputs, stem, fingerprint = fields
        # A stem may hold the separator, so names are looked for rather than split.
        listed = _SEPARATOR + outputs + _SEPARATOR
        names = tuple(stem + e for e in _ENDINGS if f"{_SEPARATOR}{stem}{e}{_SEPARATOR}" in listed)
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
            )
        except ValueError:
            return None


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder for this run alone.

    The operating system frees the lock when the process ends in any way, so none is ever left behind; the
    empty lock file stays.

    Raises:
        OutputError: another run holds the folder, or it cannot be written.
    """
    lock = filelock.FileLock(folder / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise OutputError(
            f"another run is writing to {str(folder)!r}; wait until it has ended, or choose another folder."
        ) from error
    except OSError as error:
        raise OutputError(explain(error, folder / LOCK_NAME)) from error
    try:
        yield
    finally:
        lock.release()


def read_manifest(folder: Path) -> dict[str, Row] | None:
    """Rows of earlier runs by file; None where there was no run. A torn last row is left out.

    Raises:
        OutputError: ``manifest.csv`` is somebody else's, or cannot be read.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{str(path)!r} cannot be read: {reason}; choose another folder.") from error
    # What follows the last end of line was being written when a run was killed.
    lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    if tuple(next(lines, ())) != COLUMNS:
        raise OutputError(f"{str(path)!r} is no table of anatozoo and is left alone; choose another folder.")
    rows = (Row.from_fields(fields) for fields in _readable(lines))
    return {row.file: row for row in rows if row is not None}


def _readable(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from lines
    except csv.Error:
        return


class ManifestWriter:
    """Appends rows to ``manifest.csv`` as images get done; each is on disk before the next begins.

    Args:
        folder: folder of the results.
        rows: rows to start with.

    Raises:
        OutputError: the table cannot be written.
    """

    def __init__(self, folder: Path, rows: Iterable[Row]) -> None:
        self._path = folder / MANIFEST_NAME
        self._rows = {row.file: row for row in rows}
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
        """Add the row of an image that has none yet.

        Raises:
            OutputError: it cannot be written.
        """
        line = csv_text([row.fields()])
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(explain(error, self._path)) from error
        self._rows[row.file] = row

    def sort(self) -> None:
        """Write the table anew, sorted by file, at the end of a run.

        Raises:
            OutputError: it cannot be written.
        """
        self._rows = dict(sorted(self._rows.items()))
        self._rewrite()

    def _rewrite(self) -> None:
        write_bytes(self._path, csv_text([COLUMNS, *(row.fields() for row in self._rows.values())]))
