"""What a table calls its inputs: paths that are the same wherever the folder of inputs is mounted.

An input is called by its path below the folder that was given, with ``/`` on every system. That alone does
not tell two folders with equal names apart, so the column ``source`` keeps two short digests: of the absolute
path, by which the same file is known again, and of the content, by which it is known after the folder has
moved.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatozoo.serve.manifest import Row

SOURCE = "source"
"""The column of the digests."""
_DIGITS = 16


@dataclass(frozen=True)
class Input:
    """One input of a run.

    Attributes:
        path: absolute.
        root: the folder that was given, or in which the file lies that was given.
        files: what is read; of a DICOM series its slices.
    """

    path: Path
    root: Path
    files: tuple[Path, ...]

    @property
    def below(self) -> str:
        """Its path below the root."""
        root = self.root if self.root != self.path else self.path.parent
        return relative(self.path, root)


def relative(path: Path, folder: Path) -> str:
    """A path from a folder on, with ``/``; the path itself where no way leads there, as to another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def path_digest(*paths: Path | str) -> str:
    """Digits that follow from absolute paths."""
    text = "\n".join(map(str, paths))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]


def content_digest(files: Sequence[Path]) -> str:
    """Digits that follow from what files hold, in their order; empty where one cannot be read."""
    digest = hashlib.sha256()
    for path in files:
        try:
            # Anything but a plain file, such as a named pipe, could block for ever.
            if not path.is_file():
                return ""
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            return ""
    return digest.hexdigest()[:_DIGITS] if files else ""


def source_text(path: str, content: str) -> str:
    """The field of the column ``source``."""
    return f"{path}-{content}"


def source_of(row: Row) -> tuple[str, str]:
    """Digests of path and content that a row states; empty where it states none."""
    path, _, content = row.more.get(SOURCE, "").partition("-")
    return path, content


def is_same(row: Row, path: str, files: Sequence[Path], present: Iterable[str]) -> bool:
    """Whether a row is about an input.

    Args:
        row: of an earlier run.
        path: digest of the input's path.
        files: of the input.
        present: digests of the paths of all inputs of this run.
    """
    known, content = source_of(row)
    if known == path:
        return True
    # Another input of this run is not this one. A failure without a content has nothing that could be lost.
    if not known or known in present:
        return False
    return content == content_digest(files) if content else row.status == "failed"


def assign_keys(inputs: Sequence[Input], earlier: Mapping[str, Row]) -> dict[Path, str]:
    """What each input is called in the table.

    An input that earlier runs had keeps its name. A new one is called by its path below the folder that was
    given; with that folder's own name before it where several were given, or another input is called so.

    Args:
        inputs: of this run, each once.
        earlier: rows of earlier runs.

    Returns:
        For each path its key.
    """
    digests = {each.path: path_digest(each.path) for each in inputs}
    present = set(digests.values())
    by_path = {source_of(row)[0]: key for key, row in earlier.items()}
    labels = _labels({each.root for each in inputs if each.files})
    keys = {path: by_path[digest] for path, digest in digests.items() if digest in by_path}
    taken = set(earlier)
    for each in inputs:
        if each.path in keys:
            continue
        label, below = labels.get(each.root, ""), each.below
        name = each.root.name or "root"
        wishes = [f"{label}/{below}" if label else below, f"{name}/{below}"]
        wishes.append(f"{name}_{path_digest(each.root)[:8]}/{below}")
        claimed = set(keys.values())
        moved = (
            wish
            for wish in wishes
            if wish in earlier
            and wish not in claimed
            and is_same(earlier[wish], digests[each.path], each.files, present)
        )
        free = (wish for wish in wishes if wish not in taken)
        keys[each.path] = next(moved, None) or next(free, f"{wishes[-1]}#{digests[each.path]}")
        taken.add(keys[each.path])
    return keys


def _labels(roots: set[Path]) -> dict[Path, str]:
    """The shortest ends of paths that tell them apart; an empty text where there is only one."""
    if len(roots) < 2:
        return dict.fromkeys(roots, "")
    labels = {}
    for root in roots:
        parts = [part for part in root.parts if part != root.anchor]
        others = [other.parts for other in roots if other != root]
        for count in range(1, len(parts) + 1):
            end = tuple(parts[-count:])
            if not any(other[-count:] == end for other in others):
                break
        labels[root] = "/".join(parts[-count:]) if parts else "root"
    return labels
