"""Silence another library's warnings in one thread, without touching those of any other.

`warnings.catch_warnings` saves and restores filters of the whole process. Where threads overlap, one of them
restores what another had set, and the process stays silent for ever. Here is one filter instead, that holds
only in threads which asked for it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_users = 0


class _Depth(threading.local):
    value = 0


_depth = _Depth()


class _InThisThread:
    """Stands where a filter has a pattern: it matches any message, in threads that are quiet."""

    def match(self, text: str) -> bool:
        """Whether this thread is quiet."""
        return _depth.value > 0


_FILTER: Any = ("ignore", _InThisThread(), Warning, None, 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Let no warning come from this thread while the block runs."""
    global _users
    with _lock:
        _users += 1
        # In front of all others, also of those that were set since another thread put it there.
        if not warnings.filters or warnings.filters[0] is not _FILTER:
            _remove()
            warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    _depth.value += 1
    try:
        yield
    finally:
        _depth.value -= 1
        with _lock:
            _users -= 1
            if not _users:
                _remove()


def _remove() -> None:
    # By identity, in place: the list may be one that somebody will restore.
    filters: Any = warnings.filters
    filters[:] = [each for each in filters if each is not _FILTER]
