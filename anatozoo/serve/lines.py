"""The lines of a run's tables, which are appended to as inputs get done, whatever stops the run."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path

from anatozoo.errors import OutputError
from anatozoo.io.writers import explain


def read_lines(path: Path) -> Iterator[list[str]] | None:
    """The lines of a table, its header first, up to what is no CSV; None where there is no file.

    What follows the last end of line was being written when a run was killed, and is left out.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{str(path)!r} cannot be read: {reason}; choose another folder.") from error
    return _whole(text[: text.rfind("\n") + 1])


def _whole(text: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(text, newline=""))
    except csv.Error:
        return


def not_ours(path: Path) -> OutputError:
    """The error of a table that no run of anatozoo wrote."""
    return OutputError(f"{str(path)!r} is not a table of anatozoo and is left alone; choose another folder.")


def append_lines(descriptor: int, text: bytes, path: Path) -> None:
    """Append whole lines to a table that is open.

    Raises:
        OutputError: they cannot be written, or not all of them.
    """
    try:
        if os.write(descriptor, text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OutputError(explain(error, path)) from error
