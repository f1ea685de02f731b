"""Read a table of pairs to register: which image moves, which is fixed, and their masks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatozoo.errors import DataError
from anatozoo.io.tables import read_records
from anatozoo.serve.inputs import parts_of
from anatozoo.serve.naming import folded
from anatozoo.serve.sources import relative

IMAGES = ("moving", "fixed")
MASKS = ("moving_mask", "fixed_mask")
COLUMNS = (*IMAGES, *MASKS, "name")

_LONGEST_NAME_BYTES = 200
# What some file system does not allow in names. A colon also stands in what refused lines are called.
_NOT_IN_NAMES = set('/\\:*?"<>|')


@dataclass(frozen=True)
class Pair:
    """One line of the table.

    Attributes:
        line: its number in the file, the header being the first.
        given: column -> text, of the five columns that have one.
        folder: what relative paths start from.
    """

    line: int
    given: Mapping[str, str]
    folder: Path

    @property
    def name(self) -> str:
        """The given name, or an empty one."""
        return self.given.get("name", "")

    def path(self, column: str) -> Path | None:
        """Absolute path of an image or mask; None where the line has none."""
        text = self.given.get(column)
        return None if text is None else Path(os.path.abspath(self.folder / os.path.expanduser(text)))

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the pair, absolute; of a DICOM series its slices."""
        paths = [self.path(column) for column in (*IMAGES, *MASKS)]
        return tuple(part for path in paths if path is not None for part in parts_of(path))

    @property
    def details(self) -> dict[str, str]:
        """The paths by column, from the folder of the table on; empty where there is none."""
        paths = {column: self.path(column) for column in (*IMAGES, *MASKS)}
        return {c: "" if path is None else relative(path, self.folder) for c, path in paths.items()}

    @property
    def images(self) -> tuple[str, ...]:
        """Absolute paths of the two images."""
        return tuple(str(self.path(column) or "") for column in IMAGES)


@dataclass(frozen=True)
class PairList:
    """What a table holds.

    Attributes:
        pairs: lines that can be tried, no two of one name.
        refused: what other lines are called -> the line and why it is refused.
    """

    pairs: tuple[Pair, ...]
    refused: Mapping[str, tuple[Pair, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pairs) + len(self.refused)


def read_pairs(path: str | os.PathLike[str]) -> PairList:
    """Read a table of pairs.

    A CSV file with a header: ``moving``, ``fixed`` and, optional, ``moving_mask``, ``fixed_mask``
    and ``name``, in any order; separated by commas, semicolons or tabs. Paths are relative to the folder of
    the file. A name is the start of the names of a pair's results.

    A line that cannot be right is refused and the others stay: another number of fields than the header, no
    moving or fixed image, a fixed mask alone, a name that is not a file name or that an earlier line has, the
    images of an earlier line without names.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be read, its header is another one, or there is no line below it.
    """
    file = Path(os.path.abspath(os.path.expanduser(os.fspath(path))))
    lines = read_records(file).records
    if not lines:
        raise DataError(f"{str(file)!r} is empty; its first line must be {','.join(COLUMNS)}.")
    header = _header(lines[0][1], file)
    if len(lines) == 1:
        raise DataError(f"{str(file)!r} holds a header and no pair below it.")
    pairs: list[Pair] = []
    refused: dict[str, tuple[Pair, str]] = {}
    seen: dict[object, int] = {}
    for line, fields in lines[1:]:
        texts = (text.strip() for text in fields)
        pair = Pair(line, {c: t for c, t in zip(header, texts, strict=False) if t}, file.parent)
        reason = _fault(pair, fields, header)
        if not reason:
            identity = folded(pair.name) if pair.name else pair.images
            if (other := seen.setdefault(identity, line)) != line:
                what = f"the name {pair.name!r}" if pair.name else "the two images without a name"
                reason = f"{what} of line {other} again; give each line a name of its own, or remove one."
        if reason:
            refused[f"{file.name}:{line}"] = (pair, reason)
        else:
            pairs.append(pair)
    return PairList(tuple(pairs), refused)


def _header(fields: Sequence[str], file: Path) -> list[str]:
    header = [text.strip().lower() for text in fields]
    wrong = [column for column in header if column not in COLUMNS]
    missing = [column for column in IMAGES if column not in header]
    if wrong or missing or len(set(header)) != len(header):
        raise DataError(
            f"{str(file)!r} has the columns {', '.join(fields)}; it needs moving and fixed, may have "
            "moving_mask, fixed_mask and name, each once, and no others."
        )
    return header


def _fault(pair: Pair, fields: Sequence[str], header: Sequence[str]) -> str:
    """What is wrong with a line alone; empty if nothing."""
    if len(fields) != len(header):
        return f"{len(fields)} fields below a header of {len(header)}; quote a path that holds the separator."
    if any("\0" in text for text in fields):
        return "a zero byte is in no path and no name."
    for column in IMAGES:
        if column not in pair.given:
            return f"there is no {column} image."
    if "fixed_mask" in pair.given and "moving_mask" not in pair.given:
        return "a fixed mask without a moving mask: there is nothing to compare it with."
    name = pair.name
    if _NOT_IN_NAMES & set(name) or name.startswith(".") or (name and not name.isprintable()):
        return f"the name {name!r} cannot be the start of a file name; use letters, digits, - and _."
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        return f"the name is longer than {_LONGEST_NAME_BYTES} bytes."
    return ""
