"""Decide what a run does: which inputs, under which names, and which of them are done already."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from anatozoo.errors import OutputError
from anatozoo.serve.manifest import Row

Source = TypeVar("Source")


@dataclass(frozen=True)
class Job(Generic[Source]):
    """One input to compute.

    Attributes:
        key: what the input is called in the table, see `Row`.
        source: the input.
        files: every file that is read for it, absolute.
        stem: start of the names of its outputs.
        names: all names that its outputs may have in the chosen formats.
        fingerprint: see `Row`.
        earlier: what earlier runs did with it.
        more: what its row says beyond the common columns.
        root: the folder that names in the table start from; reasons are without it too.
    """

    key: str
    source: Source
    files: tuple[Path, ...]
    stem: str
    names: tuple[str, ...]
    fingerprint: str
    earlier: Row | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None

    def failure(self, reason: str, seconds: float) -> Row:
        """The row that says why this input failed."""
        return Row(
            self.key,
            "failed",
            self._without_root(reason),
            seconds,
            stem=self.stem,
            fingerprint=self.fingerprint,
            more=self.more,
        )

    def success(
        self,
        seconds: float,
        flags: Sequence[str],
        outputs: Sequence[str],
        more: Mapping[str, str],
        reason: str = "",
    ) -> Row:
        """The row of this input once its outputs are written; a reason says what could not be done."""
        return Row(
            self.key,
            "ok",
            self._without_root(reason),
            seconds,
            flags=tuple(flags),
            outputs=tuple(outputs),
            stem=self.stem,
            fingerprint=self.fingerprint,
            more={**self.more, **more},
        )

    def _without_root(self, reason: str) -> str:
        if self.root is None or self.root == self.root.parent:  # "/" stands in any reason
            return reason
        # As it is, and as `repr` spells it.
        start = os.path.join(self.root, "")
        return reason.replace(start, "").replace(repr(start)[1:-1], "")


def fingerprint(files: Sequence[Path], *facts: Any) -> str:
    """The same text where an input would give the same result again.

    Args:
        files: those that are read; their sizes and times of modification count.
        facts: JSON values, such as checkpoints, versions and options.
    """
    states: list[list[int]] = []
    for path in files:
        try:
            state = path.stat()
            states.append([state.st_size, state.st_mtime_ns])
        except OSError:
            states.append([])  # reading will fail, and say why
    return hashlib.sha256(json.dumps([*states, *facts]).encode()).hexdigest()[:16]


def check_names(jobs: Sequence[Job[Any]], folder: Path, *, may_replace: bool) -> None:
    """Refuse to write over files that are to be read, and over files that are not ours.

    Raises:
        OutputError: a result would have the name of such a file.
    """
    sources = {path for job in jobs for path in job.files}
    for path in (folder / name for job in jobs for name in job.names):
        if path in sources:
            raise OutputError(
                f"the result {str(path)!r} would replace an image of this run; choose another --out."
            )
        if not may_replace and path.exists():
            raise OutputError(
                f"{str(path)!r} exists and no earlier run has written it; choose another folder, or allow to "
                "overwrite it (--overwrite)."
            )


def is_done(job: Job[Any], folder: Path) -> bool:
    """Whether an earlier run did this very job wholly and all its outputs are there."""
    row = job.earlier
    if row is None or row.status != "ok" or row.partly or row.fingerprint != job.fingerprint:
        return False
    return set(job.names) <= set(row.outputs) and all((folder / name).is_file() for name in job.names)
