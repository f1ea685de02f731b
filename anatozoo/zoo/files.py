"""Files of checkpoints: fingerprints, verification, and writing that leaves nothing half done."""

import errno
import glob
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from anatozoo.errors import ChecksumMismatch, OutputError
from anatozoo.zoo.spec import FileRecord

NOT_REGULAR = "it is a folder, a device or a pipe, not a regular file"
MAKE_ROOM = "Choose another folder or make room."
_ABANDONED_S = 600
"""A temporary file that nobody wrote to for so long belonged to a process that was killed."""


def read_regular(path: Path, *, most: int) -> bytes:
    """The bytes of a small file that somebody else may have put there.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it is missing, no regular file (a pipe would block for ever, a device never end), or larger.
    """
    # Without waiting for whoever writes into a pipe of this name.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as stream:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, NOT_REGULAR)
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes")
    return data


def is_irregular(path: Path) -> bool:
    """Whether there is something that is not a regular file: a folder, a pipe, a device."""
    return path.exists() and not path.is_file()


def fingerprint(path: Path) -> FileRecord:
    """SHA-256 and size of a file, from one reading of its bytes.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    if is_irregular(path):
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileRecord(digest.hexdigest(), stream.tell())


def verify_file(
    path: Path,
    expected: FileRecord,
    advice: str,
    *,
    called: str | None = None,
    source: str = "the manifest describes",
) -> None:
    """Compare a file with its record.

    Args:
        path: the file.
        expected: its record.
        advice: what to do about a difference, a sentence.
        called: what the message calls the file; default is its path.
        source: who says what it should be.

    Raises:
        ChecksumMismatch: size or SHA-256 differ; the message names both digests.
    """
    found = fingerprint(path)
    if found != expected:
        raise ChecksumMismatch(
            f"{called or path} is not the file that {source}: SHA-256 {found.sha256} "
            f"({found.size} bytes), expected {expected.sha256} ({expected.size} bytes). It was not used. "
            f"{advice}"
        )


def write_atomically(path: Path, write: Callable[[Path], object], *, advice: str = MAKE_ROOM) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that no short file takes the name.

    What a killed process left of the same file is removed. Two processes may write the same file: each has a
    temporary name of its own, and the last one to finish gives its file the name.

    Args:
        path: the file.
        write: takes the temporary file and fills it; what it raises leaves nothing behind.
        advice: what to do where it cannot be written, a sentence.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            # mkstemp makes files for their owner alone; a checkpoint is for all who may read the folder.
            temporary.chmod(0o666 & ~umask())
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}. {advice}") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with line feeds on every system."""
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode()))


def is_being_written(folder: Path, *, within_s: float = 30) -> bool:
    """Whether a temporary file of `write_atomically` in a folder grew lately."""
    return any(age_s(part) < within_s for part in folder.glob(".*.part"))


def _remove_abandoned(path: Path) -> None:
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if age_s(part) > _ABANDONED_S:
            # Another process may be faster, or own it.
            with suppress(OSError):
                part.unlink()


def age_s(path: Path) -> float:
    """Seconds since a file was written to; without end for one that is gone."""
    try:
        return abs(time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def umask() -> int:
    """The permissions that this process takes from what it makes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
