"""Decide what a run does: which images, under which names, and which of them are done already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from anatozoo.errors import DataError, OutputError
from anatozoo.results import output_names
from anatozoo.serve.inputs import Found
from anatozoo.serve.manifest import Row
from anatozoo.serve.naming import assign_stems


@dataclass(frozen=True)
class ReadOptions:
    """How files are read, see `anatozoo.io.images.read_image`."""

    spacing_mm: tuple[float, float] | None = None
    invert: bool | None = None
    allow_any_modality: bool = False


DEFAULT_OPTIONS = ReadOptions()


@dataclass(frozen=True)
class Job:
    """One image to segment.

    Attributes:
        path: absolute.
        stem: start of the names of its outputs.
        fingerprint: see `Row`.
        earlier: what earlier runs did with it.
    """

    path: Path
    stem: str
    fingerprint: str
    earlier: Row | None

    def failure(self, reason: str, seconds: float) -> Row:
        """The row that says why this image failed."""
        return Row(str(self.path), "failed", reason, seconds, (), (), self.stem, self.fingerprint)


def check_found(found: Found) -> None:
    """Make sure that there is something to do.

    Raises:
        DataError: there is no image; the message gives the reason for each argument.
    """
    if not found.images:
        reasons = "; ".join(f"{file!r}: {reason.rstrip('.')}" for file, reason in found.missing.items())
        raise DataError(f"there is nothing to segment. {reasons or 'Give files, folders or patterns'}.")


def fingerprint(checkpoint: str, version: str, options: ReadOptions) -> Callable[[Path], str]:
    """A function that tells whether an image would give the same result again.

    It changes with size and time of modification of the file, the checkpoint, its version and the options.
    """

    def of(path: Path) -> str:
        try:
            state = path.stat()
            source = [state.st_size, state.st_mtime_ns]
        except OSError:
            source = []  # reading will fail, and say why
        parts = [source, checkpoint, version, *astuple(options)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    return of


def plan_jobs(found: Found, earlier: dict[str, Row], identity: Callable[[Path], str]) -> list[Job]:
    """A job for each image, with names that no other image has.

    Args:
        found: the images.
        earlier: rows of earlier runs by file.
        identity: see `fingerprint`.
    """
    stems = assign_stems(found.images, {file: row.stem for file, row in earlier.items() if row.stem})
    return [Job(path, stems[path], identity(path), earlier.get(str(path))) for path in found.images]


def check_names(jobs: Sequence[Job], folder: Path, formats: Sequence[str], *, may_replace: bool) -> None:
    """Refuse to write over images that are to be read, and over files that are not ours.

    Raises:
        OutputError: a result would have the name of such a file.
    """
    sources = {job.path for job in jobs}
    for path in (folder / name for job in jobs for name in output_names(job.stem, formats)):
        if path in sources:
            raise OutputError(
                f"the result {str(path)!r} would replace an image of this run; choose another --out."
            )
        if not may_replace and path.exists():
            raise OutputError(
                f"{str(path)!r} exists and no earlier run has written it; choose another folder, or allow to "
                "overwrite it (--overwrite)."
            )


def is_done(job: Job, folder: Path, formats: Sequence[str]) -> bool:
    """Whether an earlier run did this very job and all its outputs are there."""
    row = job.earlier
    if row is None or row.status != "ok" or row.fingerprint != job.fingerprint:
        return False
    names = output_names(job.stem, formats)
    return set(names) <= set(row.outputs) and all((folder / name).is_file() for name in names)
