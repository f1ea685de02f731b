"""The ledger: a shard is done when its result stands under its final name, and never before."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anatozoo.annotate.plan import Plan
from anatozoo.annotate.records import Record
from anatozoo.errors import OutputError
from anatozoo.io.writers import explain, write_bytes

FOLDER = "shards"
Times = Mapping[str, Mapping[str, float]]
"""``"cpu"`` and ``"wall"`` -> stage -> seconds."""


def shard_path(plan: Plan, shard: int) -> Path:
    """Where the result of a shard stands once it is done."""
    return plan.folder / FOLDER / f"{shard:06d}.jsonl.gz"


def missing(plan: Plan, shards: Iterable[int] | None = None) -> list[int]:
    """The shards that are not done, of all or of some.

    Raises:
        OutputError: the folder cannot be read.
    """
    folder = plan.folder / FOLDER
    try:
        # One listing: of a hundred thousand shards, asking for each would take minutes.
        done = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise OutputError(explain(error, folder)) from error
    return [
        shard
        for shard in (plan.shards if shards is None else shards)
        if shard_path(plan, shard).name not in done
    ]


def packed(records: Iterable[Record], times: Times) -> bytes:
    """The result of a shard as bytes, for `commit`: a line for each record, and one with the times."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as file:
        for record in records:
            file.write(record.line())
        file.write(json.dumps({"times": times}).encode() + b"\n")
    return buffer.getvalue()


def commit(plan: Plan, shard: int, result: bytes) -> None:
    """Enter the result of a shard; a second one of the same shard, which is the same, replaces it.

    Raises:
        OutputError: it cannot be written; the shard is not done then.
    """
    write_bytes(shard_path(plan, shard), result)


def read(plan: Plan, shard: int) -> Iterator[Record | Times]:
    """The records of a shard that is done, and at last its times.

    Raises:
        OutputError: the result is damaged, or is not that of the plan's images. It is removed, so that the
            same command does the shard again.
    """
    path, expected = shard_path(plan, shard), plan.items(shard)
    try:
        with gzip.open(path, "rb") as file:
            yield from _records(file, [item.id for item in expected])
    except FileNotFoundError as error:
        raise OutputError(f"the result {str(path)!r} was removed; run the same command again.") from error
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        path.unlink(missing_ok=True)
        raise OutputError(
            f"the result {str(path)!r} was damaged ({error}) and has been removed; run the same command "
            "again, which does its images again."
        ) from error


def _records(lines: Iterable[bytes], ids: Sequence[str]) -> Iterator[Record | Times]:
    for done, line in enumerate(lines):
        values: dict[str, Any] = json.loads(line)
        if "times" in values:
            if done != len(ids):
                raise ValueError(f"{done} of {len(ids)} images")
            yield values["times"]
            return
        record = Record.from_dict(values)
        if done >= len(ids) or record.id != ids[done]:
            raise ValueError(f"{record.id!r} is not image {done + 1} of its shard")
        yield record
    raise ValueError("it ends too early")
