"""The images of folders, patterns, tables, tar files and stores: listed once, opened by whoever computes."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import itertools
import os
import posixpath
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from anatozoo.annotate.plan import PICTURES, PLAN_NAME, Item
from anatozoo.errors import ConfigError, DataError, ImageError
from anatozoo.io.files import is_hidden
from anatozoo.io.limits import MAX_FILE_BYTES
from anatozoo.io.tables import read_text_table
from anatozoo.serve.inputs import IMAGE_SUFFIXES, IMAGES, find, image_suffix, root_of

COLUMNS = ("path", "file", "filename", "image", "Path", "File")
"""Columns in which tables may name their files, the first that is there."""
TRIES = 4
"""How often a store is asked for an object."""
PAUSE = 0.5
"""Seconds before the second time; each further pause is twice as long."""
_TABLES = (".csv", ".csv.gz", ".tsv", ".parquet")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_GONE = {errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EHOSTDOWN, errno.EHOSTUNREACH}

Found = TypeVar("Found")


class SourceGone(DataError):
    """A whole source is out of reach, so that no image of it has failed: stop, and go on later."""


@dataclass(frozen=True)
class Listing:
    """What sources hold.

    Attributes:
        items: the images, in no order.
        roots: folders and stores that they lie in.
        remarks: what was passed over, one sentence each.
    """

    items: Sequence[Item]
    roots: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def absolute(source: str | os.PathLike[str]) -> str:
    """A source whose meaning does not depend on the folder of the command."""
    text = os.fspath(source)
    return text if is_url(text) else os.path.abspath(os.path.expanduser(text))


def is_url(text: str) -> bool:
    """Whether it names a store, as ``s3://bucket/folder`` does."""
    return "://" in text


def list_items(sources: Sequence[str], out: Path, *, ids: str = "path", column: str | None = None) -> Listing:
    """The images of sources, each once.

    A source is a folder, a pattern, an image, a CSV or Parquet table of paths, a plain tar file as WebDataset
    writes them or a pattern of such, on a disk or in a store as fsspec names it. The id of an image is its
    path below the folder, with the folder's name before it where there are several sources; of a table its
    column ``id``, or else the path as it stands there; in a tar file its name there after that of the file.

    Args:
        sources: what `absolute` gave.
        out: folder of the results, which are no images.
        ids: ``"content"`` takes the SHA-256 of each file for its id, and reads them all. Of files with one
            content, the first by path is computed and the others say so.
        column: of tables, the column with the paths; None takes the first of ``COLUMNS``.

    Raises:
        DataError: a source is not there, holds no image, or its table has no paths.
        ConfigError: what reads it is not installed.
    """
    taken: dict[tuple[str, int | None], Item] = {}
    roots: list[str] = []
    repeated: list[str] = []
    for source in sources:
        found, own = _of_source(source, out, column)
        before = len(taken), len(repeated)
        label = "" if len(sources) == 1 else posixpath.basename(source.rstrip("/")) + "/"
        for item in found:
            key = (item.location, item.offset)
            if key in taken:
                repeated.append(item.id)
                continue
            taken[key] = replace(item, id=label + item.id) if label else item
        if (len(taken), len(repeated)) == before:
            raise DataError(f"there is no image in {source!r}; images end in {', '.join(IMAGE_SUFFIXES)}.")
        roots += own
    remarks = []
    if repeated:
        remarks.append(
            f"{len(repeated)} images are listed more than once and taken once, such as {repeated[0]!r}."
        )
    items: Sequence[Item] = list(taken.values())
    if ids == "content":
        items, same = _by_content(items)
        if same:
            remarks.append(f"{same} files have the content of another one; it is computed once for all.")
    return Listing(items, tuple(dict.fromkeys(roots)), tuple(remarks))


def open_item(item: Item, roots: Sequence[str] = ()) -> Any:
    """What `anatozoo.io.images.read_image` takes for an image: its path, or a file object with its bytes.

    Args:
        item: the image.
        roots: of its plan.

    Raises:
        ImageError: this image cannot be read.
        SourceGone: nothing of its source can.
    """
    if not is_url(item.location) and item.offset is None:
        return Path(item.location)
    if (item.length or 0) > MAX_FILE_BYTES:
        raise ImageError(f"{item.id!r} has {item.length} bytes; at most {MAX_FILE_BYTES} (2**30) are read.")
    try:
        return _Named(_content(item), item.id)
    except FileNotFoundError as error:
        check_roots(item.location, roots, error)
        raise ImageError(f"{item.id!r}: there is no such file any more.") from error
    except OSError as error:
        check_roots(item.location, roots, error)
        raise ImageError(f"{item.id!r} cannot be read: {error.strerror or error}.") from error


def check_roots(location: str, roots: Sequence[str], error: BaseException | None = None) -> None:
    """Tell a source that is gone from an image that is.

    Raises:
        SourceGone: the folder or store of the location is not there, or is empty, as one that is not mounted.
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in _GONE:
            raise SourceGone(_gone(location)) from error
        cause = cause.__cause__
    for root in roots:
        if location.startswith(root.rstrip("/") + "/") and not _holds_something(root):
            raise SourceGone(_gone(root)) from error


def _gone(root: str) -> str:
    return (
        f"{root!r} cannot be reached any more, so no image there has failed. Run the same command again when "
        "it is back; what is done stays done."
    )


def _holds_something(root: str) -> bool:
    try:
        if is_url(root):
            system, path = _store(root)
            return bool(_patiently(lambda: system.exists(path)))
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


class _Named(io.BytesIO):
    """Bytes of a file with its name, by which errors call it."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _content(item: Item) -> bytes:
    """The bytes of an image."""
    end = None if item.offset is None or item.length is None else item.offset + item.length
    if is_url(item.location):
        system, path = _store(item.location)
        content: bytes = _patiently(lambda: system.cat_file(path, start=item.offset, end=end))
    else:
        with open(item.location, "rb") as file:
            file.seek(item.offset or 0)
            content = file.read(MAX_FILE_BYTES + 1 if item.length is None else item.length)
    if item.length is not None and len(content) < item.length:
        raise OSError(f"the file ends after {len(content)} of {item.length} bytes")
    return content


def _patiently(ask: Callable[[], Found]) -> Found:
    """Ask a store again where it was busy, and turn what its client raises into an OSError."""
    for attempt in itertools.count(1):
        try:
            return ask()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # each client has errors of its own
            if attempt == TRIES:
                raise OSError(
                    f"{' '.join(str(error).split()) or type(error).__name__}, {TRIES} times"
                ) from error
            time.sleep(PAUSE * 2 ** (attempt - 1))
    raise AssertionError("the loop ends by returning or raising")


def _store(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there.

    Raises:
        ConfigError: fsspec, or what it needs for this kind of store, is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except ImportError as error:
        raise ConfigError(
            f"{url!r} needs a package that is not installed ({error}). Install anatozoo with its extra: pip "
            "install 'anatozoo[annotate]', and of stores the client, such as s3fs."
        ) from error
    except ValueError as error:
        raise DataError(f"{url!r} names no store: {error}.") from error
    return system, path


def _of_source(source: str, out: Path, column: str | None) -> tuple[Iterable[Item], list[str]]:
    """Images of a source, and its roots."""
    lower = source.lower()
    if lower.endswith(_PACKED):
        raise DataError(
            f"{source!r} is packed, and no image in it could be read without those before it; write a plain "
            "tar file, as WebDataset does."
        )
    if lower.endswith(".tar"):
        paths = _matches(source)
        return _of_tars(paths), [posixpath.dirname(path) for path in paths]
    if lower.endswith(_TABLES):
        return _of_table(source, column)
    if is_url(source):
        return _of_store(source)
    found = find([source], out, IMAGES)
    found.check()
    root = root_of(Path(source))

    @cache
    def is_result(folder: Path) -> bool:
        """Whether it holds the label maps of an annotation, which look like any picture."""
        if folder in (root, folder.parent):
            return False
        own = folder.name == PICTURES and (folder.parent / PLAN_NAME).is_file()
        return own or is_result(folder.parent)

    images = [path for path in found.images if not is_result(path.parent)]
    return [Item(path.relative_to(root).as_posix(), str(path)) for path in images], [str(root)]


def _matches(source: str) -> list[str]:
    """Files of a pattern, or the file itself."""
    if is_url(source):
        system, path = _store(source)
        paths = system.glob(path) if glob.has_magic(path) else [path] if system.exists(path) else []
        found = [system.unstrip_protocol(each) for each in paths]
    else:
        found = glob.glob(source, recursive=True) if glob.has_magic(source) else [source]
        found = [path for path in found if os.path.isfile(path)]
    if not found:
        raise DataError(f"there is no file {source!r}; check the path.")
    return sorted(found)


def _of_store(source: str) -> tuple[list[Item], list[str]]:
    system, path = _store(source)
    try:
        if glob.has_magic(path):
            paths, root = system.glob(path), path
            while glob.has_magic(root):
                root = posixpath.dirname(root)
        elif system.isfile(path):
            paths, root = [path], posixpath.dirname(path)
        else:
            paths, root = system.find(path), path
    except (OSError, ValueError) as error:
        raise DataError(f"{source!r} cannot be listed: {error}.") from error
    root = root.rstrip("/")
    items = [
        Item(each[len(root) :].lstrip("/"), system.unstrip_protocol(each))
        for each in paths
        if image_suffix(posixpath.basename(each)) and not is_hidden(posixpath.basename(each))
    ]
    return items, [system.unstrip_protocol(root)]


def _of_tars(paths: Sequence[str]) -> Iterator[Item]:
    """Members of tar files, found by their headers alone."""
    for path in paths:
        before = posixpath.basename(path) + "/" if len(paths) > 1 else ""
        try:
            with _opened(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    name = posixpath.basename(member.name)
                    if (
                        member.isfile()
                        and not member.issparse()
                        and image_suffix(name)
                        and not is_hidden(name)
                    ):
                        yield Item(before + member.name, path, member.offset_data, member.size)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise DataError(f"{path!r} cannot be read as a tar file: {error}.") from error


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    if is_url(path):
        system, inner = _store(path)
        with system.open(inner, "rb") as file:
            yield file
    else:
        with open(path, "rb") as file:
            yield file


@contextmanager
def _on_disk(path: str) -> Iterator[Path]:
    """A table as a file on this machine."""
    if not is_url(path):
        yield Path(path)
        return
    system, inner = _store(path)
    with tempfile.TemporaryDirectory(prefix="anatozoo-") as folder:
        local = Path(folder, posixpath.basename(inner))
        try:
            _patiently(lambda: system.get_file(inner, str(local)))
        except OSError as error:
            raise DataError(f"{path!r} cannot be read: {error}.") from error
        yield local


def _of_table(source: str, column: str | None) -> tuple[list[Item], list[str]]:
    with _on_disk(source) as path:
        columns = _columns(path, column, source)
    paths, named = columns
    folder = posixpath.dirname(source)
    items = []
    for number, text in enumerate(paths):
        if not text:
            raise DataError(f"{source!r} has no path in row {number + 1} below its header.")
        if named and not named[number]:
            raise DataError(f"{source!r} has no id in row {number + 1} below its header.")
        is_whole = is_url(text) or os.path.isabs(text)
        where = text if is_whole else posixpath.join(folder, text)
        items.append(
            Item(named[number] if named else text, where if is_url(where) else os.path.normpath(where))
        )
    local = [os.path.dirname(item.location) for item in items if not is_url(item.location)]
    return items, [os.path.commonpath(local)] if local else []


def _columns(path: Path, column: str | None, label: str) -> tuple[list[str], list[str]]:
    """The paths of a table and its ids, where it has some."""
    if path.suffix.lower() == ".parquet":
        import_parquet()
        from pyarrow import ArrowException, parquet

        try:
            schema = parquet.read_schema(path)
            name = _path_column(schema.names, column, label)
            wanted = [name, *(["id"] if "id" in schema.names else [])]
            table = parquet.read_table(path, columns=wanted)
        except (ArrowException, OSError) as error:
            raise DataError(f"{label!r} cannot be read as Parquet: {error}.") from error
        texts = {each: [str(v or "") for v in table.column(each).to_pylist()] for each in wanted}
        return texts[name], texts.get("id", [])
    table = read_text_table(path)
    name = _path_column(table.header, column, label)
    rows = table.records()
    return [row[name] for row in rows], [row["id"] for row in rows] if "id" in table.header else []


def _path_column(header: Sequence[str], column: str | None, label: str) -> str:
    found = next((name for name in ((column,) if column else COLUMNS) if name in header), None)
    if found is None:
        raise DataError(
            f"{label!r} has no column {column or 'path'}, but {', '.join(header)}; name the one with the "
            "paths by --column."
        )
    return found


def import_parquet() -> None:
    """Make sure that Parquet can be read and written.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed: pip install 'anatozoo[annotate]'; or use CSV."
        ) from error


def _by_content(items: Sequence[Item]) -> tuple[list[Item], int]:
    """The items with digests of their contents for ids, and how many have that of another one."""

    def digest(item: Item) -> str:
        try:
            return hashlib.sha256(_content(item)).hexdigest()
        except OSError as error:
            raise DataError(
                f"{item.location!r} cannot be read, and its id is that of its content: {error}."
            ) from error

    first: dict[str, str] = {}
    found, same = [], 0
    ordered = sorted(items, key=lambda item: item.id)
    with ThreadPoolExecutor(8) as pool:
        for item, name in zip(ordered, pool.map(digest, ordered), strict=True):
            if name in first:
                same += 1
                found.append(replace(item, id=f"{name}#{item.id}", same_as=name))
            else:
                first[name] = item.id
                found.append(replace(item, id=name))
    return found, same
