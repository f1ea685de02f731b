"""The table of what a run measured, ``measurements.csv``: a line for each number, kept like the manifest."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from anatozoo.errors import OutputError
from anatozoo.io.writers import csv_text, explain, write_bytes
from anatozoo.metrics.measurements import Measurement
from anatozoo.serve.lines import append_lines, not_ours, read_lines
from anatozoo.text import from_cell

MEASUREMENTS_NAME = "measurements.csv"
HEADER = ("file", "patient", "checkpoint", "organ", "quantity", "value", "unit", "flags")
_SEPARATOR = ";"


@dataclass(frozen=True)
class Measured:
    """What was measured of one input, or of the two phases of one heart.

    Attributes:
        file: key of the input in the manifest; of a heart those of end-diastole and end-systole, with a
            semicolon between them.
        checkpoint: name and version of what segmented it, see `anatozoo.serve.tasks.names_of`.
        measurements: at least one.
        flags: of the results, and of what was computed from them.
        patient: of a heart, its name.
    """

    file: str
    checkpoint: str
    measurements: tuple[Measurement, ...]
    flags: tuple[str, ...] = ()
    patient: str = ""

    def lines(self) -> Iterator[tuple[str, ...]]:
        """The fields of each line."""
        flags = _SEPARATOR.join(self.flags)
        for m in self.measurements:
            yield (self.file, self.patient, self.checkpoint, m.organ, m.name, m.text, m.unit, flags)

    def parts(self, keys: Collection[str]) -> tuple[str, ...]:
        """The inputs that it is about, both or the only one; empty where they are not among these keys."""
        if self.file in keys:
            return (self.file,)
        places = [at for at, letter in enumerate(self.file) if letter == _SEPARATOR]
        pairs = ((self.file[:at], self.file[at + 1 :]) for at in places)
        return next((pair for pair in pairs if set(pair) <= set(keys)), ())


def joined(*keys: str) -> str:
    """What the table calls several inputs together."""
    return _SEPARATOR.join(keys)


def read_measured(folder: Path) -> dict[str, Measured] | None:
    """What earlier runs into a folder measured, by file; None where there is no table.

    A torn last line is left out.

    Raises:
        OutputError: ``measurements.csv`` is somebody else's, or cannot be read.
    """
    path = folder / MEASUREMENTS_NAME
    lines = read_lines(path)
    if lines is None:
        return None
    if tuple(next(lines, [])) != HEADER:
        raise not_ours(path)
    found: dict[str, Measured] = {}
    for (file, patient), group in groupby(_numbers(lines), key=lambda fields: (fields[0], fields[1])):
        fields = list(group)
        measured = tuple(Measurement(f[4], f[3], float(f[5]), f[6]) for f in fields)
        flags = tuple(flag for flag in fields[0][7].split(_SEPARATOR) if flag)
        found[file] = Measured(file, fields[0][2], measured, flags, patient)
    return found


def _numbers(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    """Lines with a number, as texts; those of others are left out."""
    for line in lines:
        fields = [from_cell(field) for field in line]
        if len(fields) == len(HEADER) and _is_number(fields[5]):
            yield fields


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class MeasuredWriter:
    """Appends to ``measurements.csv`` as inputs get done; each is on disk before its row of the manifest is.

    Args:
        folder: folder of the results.
        kept: what to start with.

    Raises:
        OutputError: the table cannot be written.
    """

    def __init__(self, folder: Path, kept: Iterable[Measured]) -> None:
        self._path = folder / MEASUREMENTS_NAME
        self.rows = {each.file: each for each in kept}
        self._rewrite()

    def append(self, measured: Measured) -> None:
        """Add what was measured of an input that has no lines yet.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            # Without O_CREAT: a table that somebody removed meanwhile would have no header.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError as error:
            raise OutputError(
                f"{str(self._path)!r} was removed while this run wrote to it, so the run was stopped. Run "
                "the same command again, and leave the folder alone."
            ) from error
        except OSError as error:
            raise OutputError(explain(error, self._path)) from error
        try:
            append_lines(descriptor, csv_text(measured.lines()), self._path)
        finally:
            os.close(descriptor)
        self.rows[measured.file] = measured

    def finish(self, together: Iterable[Measured]) -> None:
        """Write the table anew, sorted by file, at the end of a run.

        Args:
            together: what follows from several inputs.

        Raises:
            OutputError: it cannot be written.
        """
        self.rows = dict(sorted((self.rows | {each.file: each for each in together}).items()))
        self._rewrite()

    def _rewrite(self) -> None:
        lines = (line for each in self.rows.values() for line in each.lines())
        write_bytes(self._path, csv_text([HEADER, *lines]))
