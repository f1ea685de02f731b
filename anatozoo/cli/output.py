"""Standard output and standard error that no text, encoding, closed stream or full disk can break."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from anatozoo.errors import OutputError
from anatozoo.text import ENCODING_ERRORS, printable, unfiltered

if TYPE_CHECKING:
    from rich.console import Console


class _Stream(ABC):
    """A text stream beside which another one stands for `sys.stdout` or `sys.stderr`.

    Args:
        inner: the stream that is written to.
        plain: whether control characters are made visible.
    """

    def __init__(self, inner: Any, *, plain: bool) -> None:
        self.inner, self.plain = inner, plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)

    def write(self, text: str) -> int:
        """Write a text."""
        self._do("write", printable(text) if self.plain else text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is still in memory; of a stream that was closed meanwhile there is nothing."""
        if not getattr(self.inner, "closed", False):
            self._do("flush")

    def _do(self, name: str, *values: str) -> None:
        try:
            getattr(self.inner, name)(*values)
        except (OSError, ValueError) as error:
            _forget(self.inner)
            self._failed(error)

    @abstractmethod
    def _failed(self, error: Exception) -> None:
        """What to do about a stream that cannot be written."""


class _Output(_Stream):
    """Standard output: what cannot be written is an error."""

    def _failed(self, error: Exception) -> None:
        if isinstance(error, BrokenPipeError):
            raise error
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"standard output cannot be written: {reason}. Files that were asked for are complete; make "
            "room, or send the output somewhere else."
        ) from error


class _Errors(_Stream):
    """Standard error: where it cannot be written there is nobody to tell, and the exit code still says it."""

    def _failed(self, error: Exception) -> None:
        return


@contextmanager
def safe_streams(*, output: bool, errors: bool) -> Iterator[None]:
    r"""Let `sys.stdout` and `sys.stderr` take any text while the block runs.

    A stream that is closed, or was never there (``>&-``, a service, ``pythonw``), takes everything and keeps
    nothing. Characters that its encoding lacks are written otherwise. Standard output that cannot be written
    is an `OutputError`, a pipe that nobody reads a `BrokenPipeError`.

    Args:
        output: show control characters on standard output as ``\uXXXX``.
        errors: the same on standard error; progress bars then write to `anatozoo.text.unfiltered`.
    """
    _occupy_descriptors()
    streams = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        out, err = (nothing if each is None or each.closed else each for each in streams)
        replaced = [_with_errors(each) for each in (out, err)]
        sys.stdout = _Output(out, plain=output)
        sys.stderr = _Errors(err, plain=errors)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for stream, before in replaced:
                if before is not None:
                    with suppress(OSError, ValueError):  # it cannot be flushed, and that was said
                        stream.reconfigure(errors=before)


def error_console() -> Console:
    """Where progress bars are drawn: standard error, with the bar's own commands to the terminal."""
    from rich.console import Console

    return Console(file=unfiltered(sys.stderr))


def _with_errors(stream: Any) -> tuple[Any, str | None]:
    """Give a stream the error handler; returns what it had, None where it takes none."""
    before = getattr(stream, "errors", None)
    if before is None or not hasattr(stream, "reconfigure"):
        return stream, None
    try:
        stream.reconfigure(errors=ENCODING_ERRORS)
    except (OSError, ValueError):  # it cannot be flushed, which the first writing will say
        return stream, None
    return stream, str(before)


def _occupy_descriptors() -> None:
    """Open the null device where descriptor 0, 1 or 2 is closed.

    Else the next file that is opened gets this number, and a library that prints writes into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def _forget(stream: Any) -> None:
    """Send what a stream still holds to the null device, so that nothing fails again when Python ends."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
