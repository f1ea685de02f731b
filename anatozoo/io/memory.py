"""Inputs without a path: bytes, binary file objects and pydicom's data sets.

They are written to a folder that only this user can read and that is gone when the block ends, so that all
checks of files that anyone may have made hold for them too.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import AnatozooError, ImageError
from anatozoo.io.arrays import is_a
from anatozoo.io.limits import MAX_FILE_BYTES
from anatozoo.io.untrusted import GZIP_MAGIC
from anatozoo.text import one_line

if TYPE_CHECKING:
    from anatozoo.io.dicom_source import DicomSource

BYTES = "bytes"
"""What bytes and file objects without a name are called."""
_CHUNK = 2**20
_LONGEST_NAME = 200
_HEAD_BYTES = 512
_MAGIC_AT, _MAGIC = 128, b"DICM"
_TOLD_BY_SUFFIX = {(0, GZIP_MAGIC): ".nii.gz", (344, b"n+1\0"): ".nii", (4, b"n+2\0"): ".nii"}


def memory_name(x: Any) -> str | None:
    """What an input without a path is called.

    Args:
        x: anything.

    Returns:
        ``"bytes"``, the name of a file object without its folder, the SOP Instance UID of a data set, the
        Series Instance UID of a list of data sets; None where `x` is nothing of these.
    """
    if isinstance(x, bytes | bytearray | memoryview):
        return BYTES
    if is_dataset(x):
        return _attribute(x, "SOPInstanceUID") or "data set"
    if is_series(x):
        return _attribute(x[0], "SeriesInstanceUID") or "series"
    if callable(getattr(x, "read", None)):
        name = getattr(x, "name", None) or getattr(x, "filename", None)
        last = (
            os.fsdecode(name).replace("\\", "/").rsplit("/", 1)[-1] if isinstance(name, str | bytes) else ""
        )
        return one_line(last)[:_LONGEST_NAME] or BYTES
    return None


def input_name(x: Any) -> str:
    """Path or name of any input, ``"array"`` of those that have none."""
    if isinstance(x, str | os.PathLike):
        return os.fsdecode(x)
    named = (getattr(x, attribute, None) for attribute in ("source", "name", "image"))
    return memory_name(x) or next((name for name in named if name and isinstance(name, str)), "array")


def _attribute(dataset: Any, keyword: str) -> str:
    """A UID as text; empty where it is absent or cannot be read."""
    try:
        return one_line(str(dataset.get(keyword) or ""))[:_LONGEST_NAME]
    except Exception:  # pydicom decodes attributes when they are first looked at
        return ""


def without_files(source: DicomSource | None) -> DicomSource | None:
    """The DICOM source of what is on disk for the time of reading, with the headers in place of the paths."""
    from anatozoo.io.dicom_file import read_dicom

    if source is None:
        return None
    paths = dict.fromkeys(frame.path for frame in source.frames if frame.path is not None)
    headers = {path: read_dicom(path, stop_before_pixels=True) for path in paths}
    frames = tuple(
        frame if frame.path is None else replace(frame, path=None, header=headers[frame.path])
        for frame in source.frames
    )
    return replace(source, frames=frames)


def is_dataset(x: Any) -> bool:
    """Whether it is a data set of pydicom."""
    return is_a(x, "pydicom", "Dataset")


def is_series(x: Any) -> bool:
    """Whether it is a list of data sets of pydicom."""
    return isinstance(x, list | tuple) and bool(x) and all(is_dataset(each) for each in x)


@contextmanager
def on_disk(x: Any, *, series: bool = False) -> Iterator[tuple[Any, str | None]]:
    """What to read in place of an input, as long as the block lasts.

    Args:
        x: the input.
        series: whether a list of data sets is an input, a folder.

    Yields:
        A path and the name of what has no path of its own, which errors in the block then use; else `x` as it
        is, and None.

    Raises:
        ImageError: it cannot be read or written, is empty, text, or over 2**30 bytes.
    """
    name = memory_name(x)
    if name is None or (is_series(x) and not series):
        yield x, None
        return
    with tempfile.TemporaryDirectory(prefix="anatozoo-") as folder:
        path = Path(folder, "input")
        try:
            yield _written(x, path, name), name
        except AnatozooError as error:
            path = next(Path(folder).iterdir(), path)
            error.args = tuple(_named(each, path, name) for each in error.args)
            raise


def _named(text: Any, path: Path, name: str) -> Any:
    return (
        text.replace(repr(str(path)), repr(name)).replace(str(path), name) if isinstance(text, str) else text
    )


def _written(x: Any, path: Path, name: str) -> Path:
    """The file, or the folder, that holds the input."""
    try:
        if is_series(x):
            path.mkdir()
            for number, each in enumerate(x, start=1):
                _write_dataset(each, path / f"{number:05d}.dcm", f"data set {number} of {name!r}")
            return path
        if is_dataset(x):
            _write_dataset(x, path, repr(name))
            return path
        _write_stream(x, path, name)
        return _with_suffix(path)
    except OSError as error:
        raise ImageError(
            f"{name!r} cannot be read by way of {tempfile.gettempdir()!r}: {error.strerror or error}. Make "
            "room there, or set TMPDIR."
        ) from error


def _write_dataset(dataset: Any, path: Path, label: str) -> None:
    from anatozoo.io.quiet import quiet

    meta = getattr(dataset, "file_meta", None)
    # A data set that was put together in memory says nothing of its encoding, and needs to say it once.
    unstated = not getattr(meta, "TransferSyntaxUID", None) and None in getattr(
        dataset, "original_encoding", (None,)
    )
    how = {"implicit_vr": False, "little_endian": True} if unstated else {}
    content = io.BytesIO()
    try:
        with quiet():
            dataset.save_as(content, enforce_file_format=False, **how)
    except Exception as error:  # any attribute may be of another type than its representation
        raise ImageError(
            f"{label} cannot be written as DICOM ({one_line(str(error))}); give the file it came from."
        ) from error
    # Without the preamble, only what begins with certain attributes is known as DICOM.
    start = b"" if content.getvalue().startswith(_MAGIC, _MAGIC_AT) else bytes(_MAGIC_AT) + _MAGIC
    path.write_bytes(start + content.getvalue())


def _with_suffix(path: Path) -> Path:
    """The same file, NIfTI with its suffix, by which ITK and we know it, compressed or not."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    suffix = next(
        (suffix for (at, magic), suffix in _TOLD_BY_SUFFIX.items() if head.startswith(magic, at)), ""
    )
    return path.rename(path.with_name(path.name + suffix))


def _write_stream(x: Any, path: Path, name: str) -> None:
    """Write bytes, or what a file object gives from where it stands."""
    size = 0
    with path.open("wb") as file:
        for chunk in _chunks(x, name):
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise ImageError(f"{name!r} has over {MAX_FILE_BYTES} (2**30) bytes; shrink it first.")
            file.write(chunk)
    if not size:
        where = (
            "" if name == BYTES or isinstance(x, bytes) else ", or a file object at its end: seek(0) first"
        )
        raise ImageError(f"{name!r} is empty (zero bytes){where}.")


def _chunks(x: Any, name: str) -> Iterator[bytes]:
    if isinstance(x, bytes | bytearray | memoryview):
        yield bytes(x)
        return
    while True:
        try:
            chunk = x.read(_CHUNK)
        except Exception as error:  # an object of the caller's
            raise ImageError(f"{name!r} cannot be read ({type(error).__name__}: {error}).") from error
        if not isinstance(chunk, bytes):
            raise ImageError(
                f"{name!r} gives {type(chunk).__name__} rather than bytes; open it in binary mode ('rb'), "
                "and of an upload give its `file`."
            )
        if not chunk:
            return
        yield chunk
