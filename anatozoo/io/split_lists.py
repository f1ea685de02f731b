"""Lists of splits in folders: which files they are, and what is wrong with one."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from anatozoo.errors import DataError
from anatozoo.io.files import without_suffix
from anatozoo.io.untrusted import read_json, read_text

SPLITS = ("train", "val", "test")
DEPTH = 5
LEVELS_UP = 3
MISTAKEN = {
    "training": "train",
    "validation": "val",
    "valid": "val",
    "validate": "val",
    "dev": "val",
    "testing": "test",
}
"""What people call a split, and its name here."""


_LIKE_A_LIST = re.compile(
    r"(.*[_\-. ])?(splits?|folds?)\d*([_\-. ].*)?\.(json|csv|tsv|txt|xlsx|ya?ml|pkl)", re.IGNORECASE
)


@dataclass(frozen=True)
class Table:
    """Lists that belong together.

    Attributes:
        path: their file or folder.
        lists: split -> names of cases or subjects, with or without folder and suffix.
    """

    path: Path
    lists: Mapping[str, Sequence[str]]


@dataclass
class Tables:
    """The lists of some folders.

    Attributes:
        found: those that can be read.
        damaged: folder -> what is wrong with a list in it.
        unread: files that are called as if they held splits, but that nothing here reads.
    """

    found: list[Table] = field(default_factory=list)
    damaged: dict[Path, DataError] = field(default_factory=dict)
    unread: list[Path] = field(default_factory=list)

    def add(self, folder: Path, files: Iterable[str]) -> None:
        """Take the lists among the files of a folder; those of a folder ``splits`` belong together."""
        named = {file.lower(): folder / file for file in sorted(files)}
        self.unread += [
            path for name, path in named.items() if _LIKE_A_LIST.fullmatch(name) and name != "splits.json"
        ]
        try:
            for ending in ("_files.txt", ".txt") if folder.name.lower() == "splits" else ("_files.txt",):
                lists = {s: _lines(named[f"{s}{ending}"]) for s in SPLITS if f"{s}{ending}" in named}
                for wrong, right in MISTAKEN.items():
                    if ending == ".txt" and f"{wrong}.txt" in named and right not in lists:
                        path = named[f"{wrong}.txt"]
                        raise DataError(f"{path}: there is no split {wrong!r}; call the file {right}.txt.")
                if lists:
                    self.found.append(Table(folder, _checked(folder, lists)))
            if "splits.json" in named:
                path = named["splits.json"]
                self.found.append(Table(path, _checked(path, _json(path))))
        except DataError as error:
            self.damaged[folder] = error


def walk(root: Path, depth: int | None = DEPTH) -> Iterator[tuple[Path, list[str]]]:
    """Folders below `root` with their files, both sorted, without hidden ones.

    Links are followed because data often lies on another disk, but not back to a folder above them.
    """
    for folder, children, files in os.walk(root, followlinks=True):
        path = Path(folder)
        children[:] = sorted(c for c in children if not c.startswith(".") and not _leads_back(path / c))
        if depth is not None and len(path.relative_to(root).parts) >= depth:
            children.clear()
        yield path, sorted(f for f in files if not f.startswith("."))


def _leads_back(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def files_below(root: Path, pattern: str) -> list[Path]:
    """Files of this kind at any depth below a folder, behind links too, sorted."""
    return sorted(
        folder / name for folder, names in walk(root, None) for name in names if fnmatchcase(name, pattern)
    )


def lists_below(root: Path) -> Tables:
    """Lists in a folder, and in those below it."""
    tables = Tables()
    for folder, files in walk(root):
        tables.add(folder, files)
    return tables


def lists_above(root: Path) -> Tables:
    """Lists in the folders above, also those above the place that a link leads to."""
    tables = Tables()
    places = [Path(os.path.abspath(root)), root.resolve()]
    folders = dict.fromkeys(above for place in places for above in place.parents[:LEVELS_UP])
    for folder in folders:
        if not os.access(folder, os.R_OK | os.X_OK):
            continue
        names = os.listdir(folder)
        tables.add(folder, names)
        for name in names:
            if name.lower() == "splits" and (folder / name).is_dir():
                tables.add(folder / name, os.listdir(folder / name))
    return tables


def _checked(path: Path, lists: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    seen: dict[str, str] = {}
    for split, names in lists.items():
        for name in names:
            key = without_suffix(slashed(name)).casefold()
            if seen.setdefault(key, split) != split:
                before = seen[key]
                raise DataError(f"{path}: {name} is in the splits {before} and {split}; keep one of them.")
    if not seen:
        raise DataError(f"{path}: its lists are empty; write the names of cases into them, or delete it.")
    return lists


def slashed(entry: str) -> str:
    """A path in a list, as written on any system, in the notation of this one."""
    return Path(entry.replace("\\", "/")).as_posix()


def _lines(path: Path) -> list[str]:
    """Lines of a file but empty ones and comments."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _json(path: Path) -> dict[str, list[str]]:
    stored = read_json(path, unique=True)
    if not isinstance(stored, dict):
        raise DataError(f'{path} must be {{"train": [...], "val": [...], "test": [...]}}.')
    for key, value in stored.items():
        # Notes beside the lists, such as a seed, are nobody's split.
        if key not in SPLITS and isinstance(value, list):
            meant = MISTAKEN.get(key.lower(), key.lower())
            advice = f"call it {meant}" if meant in SPLITS else f"they are {', '.join(SPLITS)}"
            raise DataError(f"{path}: there is no split {key!r}; {advice}.")
        plain = isinstance(value, list) and all(isinstance(name, str | int) for name in value)
        if key in SPLITS and not plain:
            raise DataError(f"{path}: {key} must be a list of names of cases.")
    return {split: [str(name) for name in stored[split]] for split in SPLITS if split in stored}
