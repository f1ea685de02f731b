"""The private folder of a service: what a request has to put on disk, and nothing that stays there."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from anatozoo.errors import OutputError
from anatozoo.io.writers import explain

PREFIX = "anatozoo-serve-"
LOCK = ".lock"


@contextmanager
def private_folder(place: Path | None = None) -> Iterator[Path]:
    """A folder that no other user can read, removed at the end.

    Folders that killed services left behind are removed first. A lock beside each folder, which the system
    frees however a process ends, tells them from those of services that run.

    Args:
        place: where to make it; None takes the system's folder for temporary files.

    Raises:
        OutputError: it cannot be made.
    """
    root = Path(tempfile.gettempdir()) if place is None else place
    remove_leftovers(root)
    folder = root / f"{PREFIX}{secrets.token_hex(8)}"
    lock = filelock.FileLock(f"{folder}{LOCK}")
    try:
        # The lock first: a folder without one belongs to nobody.
        lock.acquire()
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(explain(error, folder)) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def remove_leftovers(root: Path) -> None:
    """Remove the folders of this user's services that do not run any more."""
    for folder in root.glob(f"{PREFIX}*"):
        if folder.name.endswith(LOCK) or not _is_ours(folder):
            continue
        lock = filelock.FileLock(f"{folder}{LOCK}", timeout=0)
        try:
            with lock:
                shutil.rmtree(folder, ignore_errors=True)
        except (filelock.Timeout, OSError):
            continue  # it runs, or its lock is not ours to take
        Path(lock.lock_file).unlink(missing_ok=True)


def empty(folder: Path) -> None:
    """Remove everything in a private folder, after a process that worked there was killed."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
