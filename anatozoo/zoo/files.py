"""Files of checkpoints: fingerprints, verification, and writing that leaves nothing half done."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from anatozoo.errors import ChecksumMismatch, OutputError
from anatozoo.zoo.spec import FileRecord


def file_record(path: Path) -> dict[str, str | int]:
    """Fingerprint of a file as the manifest writes it: ``{"sha256": 64 hex digits, "size": bytes}``."""
    record = fingerprint(path)
    return {"sha256": record.sha256, "size": record.size}


def fingerprint(path: Path) -> FileRecord:
    """SHA-256 and size of a file, from one reading of its bytes."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileRecord(digest.hexdigest(), stream.tell())


def verify_file(path: Path, expected: FileRecord, advice: str) -> None:
    """Compare a file with its record.

    Args:
        path: the file.
        expected: its record in the manifest.
        advice: what to do about a difference, a sentence.

    Raises:
        ChecksumMismatch: size or SHA-256 differ; the message names both digests.
    """
    found = fingerprint(path)
    if found != expected:
        raise ChecksumMismatch(
            f"{path} is not the file that the manifest describes: SHA-256 {found.sha256} "
            f"({found.size} bytes), expected {expected.sha256} ({expected.size} bytes). It was not used. "
            f"{advice}"
        )


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that no short file takes the name.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            # mkstemp makes files for their owner alone; a checkpoint is for all who may read the folder.
            temporary.chmod(0o666 & ~_umask())
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}. Choose another folder or make room.") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with line feeds on every system."""
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode()))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
