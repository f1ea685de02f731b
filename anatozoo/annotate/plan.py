"""The plan of an annotation: which images, under which ids, in which shards, by which model and settings.

It is one file, ``plan.jsonl``, written once and never changed. Its first line is the head; each further line
is an image, sorted by id. Whoever has the file can do any shard, and reads no more of it than that.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from anatozoo.errors import ConfigError, DataError
from anatozoo.io.writers import atomic_path
from anatozoo.text import some

PLAN_NAME = "plan.jsonl"
LOCK_NAME = ".plan.lock"
PICTURES = "masks"
"""Folder of the label maps."""
SCHEMA_VERSION = 1
SHARD_SIZE = 100
"""Images of a shard: what is done again at most where a process dies, and half a minute of one core."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a plan.

    Attributes:
        id: of no two the same.
        location: absolute path, or URL, of the file or of the tar file that holds it.
        offset: where in a tar file the image begins, in bytes; None of a file of its own.
        length: its bytes there.
        same_as: the id of an image with the same content, which is computed in its place; else empty.
    """

    id: str
    location: str
    offset: int | None = None
    length: int | None = None
    same_as: str = ""

    def line(self) -> bytes:
        """Its line in the plan."""
        values = [self.id, self.location, self.offset, self.length, self.same_as]
        while values[-1] in (None, ""):
            values.pop()
        return json.dumps(values, ensure_ascii=True).encode() + b"\n"


@dataclass(frozen=True)
class Settings:
    """What decides on the results, apart from the images; a rerun must have the same.

    Attributes:
        sources: what was given, paths made absolute.
        model: name or folder of the checkpoint.
        quality: path of the atlas; None estimates nothing.
        registration: engines of the estimate, in order; None takes the default.
        selector: what chooses the atlas images; None takes thumbnails.
        count: atlas images for each image; None takes the default.
        spacing_mm: (x, y) millimetres per pixel, whatever the files say.
        invert: as for `anatozoo.io.images.read_image`.
        allow_any_modality: likewise.
        ids: ``"path"``, or ``"content"``: SHA-256 of the file.
        column: of tables, the column with the paths; None finds it.
        batch_size: images that the network computes together.
        shard_size: images of a shard.
        formats: of the tables, see `anatozoo.annotate.sinks`; the one that a rerun may change.
    """

    sources: tuple[str, ...]
    model: str
    quality: str | None = None
    registration: tuple[str, ...] | None = None
    selector: str | None = None
    count: int | None = None
    spacing_mm: tuple[float, float] | None = None
    invert: bool | None = None
    allow_any_modality: bool = False
    ids: str = "path"
    column: str | None = None
    batch_size: int = 1
    shard_size: int = SHARD_SIZE
    formats: tuple[str, ...] = ("chexmask",)

    def __post_init__(self) -> None:
        for name in ("batch_size", "shard_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.ids not in ("path", "content"):
            raise ConfigError(f"ids={self.ids!r} must be 'path' or 'content'.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The settings from JSON values, lists being tuples."""
        found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**found)


@dataclass(frozen=True)
class Plan:
    """A plan that was written.

    Attributes:
        folder: of the results.
        settings: of the run.
        facts: what the model and the atlas were, their versions and digests, and those of the software;
            whoever computes must find the same.
        total: number of images.
        offsets: where the lines of each shard begin, in bytes after the head, and where the last ends.
        roots: folders and stores that the images lie in; where one is gone, no image of it has failed.
        remarks: what was passed over when the images were listed.
        start: where the lines begin in the file.
    """

    folder: Path
    settings: Settings
    facts: Mapping[str, Any]
    total: int
    offsets: tuple[int, ...]
    roots: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    start: int = field(default=0, compare=False)

    @property
    def shards(self) -> range:
        """Numbers of the shards."""
        return range(len(self.offsets) - 1)

    def items(self, shard: int) -> list[Item]:
        """The images of a shard, sorted by id.

        Raises:
            DataError: the plan is damaged or gone.
        """
        path = self.folder / PLAN_NAME
        first, end = self.offsets[shard], self.offsets[shard + 1]
        try:
            with path.open("rb") as file:
                file.seek(self.start + first)
                lines = file.read(end - first).splitlines()
            items = [Item(*json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{str(path)!r} cannot be read ({error}); restore it.") from error
        size = self.settings.shard_size
        if len(items) != min(size, self.total - shard * size):
            raise DataError(f"{str(path)!r} is shorter than its first line says; restore it.")
        return items

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan of a folder; None where there is none.

        Raises:
            DataError: it is damaged, or of another release.
        """
        path = folder / PLAN_NAME
        try:
            with path.open("rb") as file:
                head = file.readline()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
        try:
            values = json.loads(head)
            if values["schema_version"] != SCHEMA_VERSION:
                raise DataError(
                    f"{str(path)!r} is the plan of another release of anatozoo; use a new folder."
                )
            return cls(
                folder,
                Settings.from_dict(values["settings"]),
                values["facts"],
                values["total"],
                tuple(values["offsets"]),
                tuple(values["roots"]),
                tuple(values["remarks"]),
                len(head),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{str(path)!r} is not a plan of anatozoo ({error}); use a new folder."
            ) from error

    def check(self, settings: Settings) -> None:
        """Refuse other settings than those that the plan was made with.

        Raises:
            ConfigError: they differ; the message names the first difference.
        """
        for each in fields(Settings):
            here, asked = getattr(self.settings, each.name), getattr(settings, each.name)
            if here != asked and each.name != "formats":
                raise ConfigError(
                    f"{str(self.folder)!r} holds a run with {each.name}={_said(here)}, and this one has "
                    f"{_said(asked)}; choose another folder, or give what that run had. Without any source, "
                    "that run goes on as it was planned."
                )

    def check_facts(self, facts: Mapping[str, Any]) -> None:
        """Refuse to compute with another model, atlas or software than planned.

        Raises:
            ConfigError: they differ; the message names the first difference.
        """
        for name, planned in self.facts.items():
            if facts.get(name) != planned:
                raise ConfigError(
                    f"the plan in {str(self.folder)!r} was made with {name} {_said(planned)}, and here is "
                    f"{_said(facts.get(name))}; rows of both in one table could not be told apart. Install "
                    "what the plan was made with, or choose another folder."
                )


def _said(value: Any) -> str:
    if value is None:
        return "none"
    return some(value, 3) if isinstance(value, list | tuple) else str(value)


def write_plan(
    folder: Path,
    settings: Settings,
    facts: Mapping[str, Any],
    items: Iterable[Item],
    roots: Sequence[str],
    remarks: Sequence[str] = (),
) -> Plan:
    """Write the plan of a folder that has none; call it with the folder's `LOCK_NAME` held.

    Raises:
        DataError: there is no image, or two have the same id; the message names both.
        OutputError: it cannot be written.
    """
    path, size, total, offsets, before = folder / PLAN_NAME, settings.shard_size, 0, [0], None
    with atomic_path(path) as temporary, tempfile.TemporaryFile(dir=folder) as lines:
        for item in sorted(items, key=lambda each: each.id):
            if before is not None and before.id == item.id:
                raise DataError(
                    f"two images would have the id {item.id!r}: {before.location!r} and {item.location!r}. "
                    "Give a table of paths with a column id, or let ids follow from the content "
                    "(--ids content)."
                )
            if total and total % size == 0:
                offsets.append(lines.tell())
            lines.write(item.line())
            before, total = item, total + 1
        if not total:
            raise DataError(f"there is nothing to do: no image in {', '.join(settings.sources)}.")
        offsets.append(lines.tell())
        head = {
            "schema_version": SCHEMA_VERSION,
            "settings": asdict(settings),
            "facts": dict(facts),
            "total": total,
            "offsets": offsets,
            "roots": list(roots),
            "remarks": list(remarks),
        }
        lines.seek(0)
        with temporary.open("wb") as file:
            file.write(json.dumps(head).encode() + b"\n")
            shutil.copyfileobj(lines, file)
            file.flush()
            os.fsync(file.fileno())
    found = Plan.read(folder)
    assert found is not None
    return found
