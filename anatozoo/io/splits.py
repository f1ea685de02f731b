"""Which case belongs to which split, by one rule for all layouts: by lists, else dealt by subject.

Lists are ``splits.json`` (``{"train": [...], "val": [...], "test": [...]}``), ``splits/{train,val,test}.txt``
and ``{train,val,test}_files.txt``. They are looked for in the root and below it, else in the folders above,
so that a root that is one folder too high or too low gives the same splits. Lists that name none of the cases
are another data set's.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from anatozoo.errors import DataError
from anatozoo.io.files import without_suffix
from anatozoo.io.split_lists import Table, Tables, lists_above, lists_below, slashed
from anatozoo.text import some

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Origin:
    """Where the splits of cases come from.

    Attributes:
        root: folder of the cases.
        lists: files or folders with the lists; none where the cases were dealt.
        absent: how many names of the lists match no case.
        shares: of the splits, where the cases were dealt.
        unread: files beside the cases that are called as if they held splits, but are not read.
        remarks: what was taken for granted of the subjects, by which cases are split, one sentence each.
    """

    root: Path
    lists: tuple[Path, ...] = ()
    absent: int = 0
    shares: tuple[tuple[str, float], ...] = ()
    unread: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def dealt(self) -> bool:
        """Whether no list says which split the cases are in."""
        return not self.lists


class HasSplit(Protocol):
    """A case that knows its split and where that comes from."""

    @property
    def split(self) -> str | None:
        """``"train"``, ``"val"``, ``"test"``, or None."""

    @property
    def origin(self) -> Origin | None:
        """None where the case has no split."""


@dataclass(frozen=True)
class Assigned:
    """The splits of cases.

    Attributes:
        splits: case -> split; cases that no list names are not in it.
        origin: where they come from.
    """

    splits: Mapping[str, str]
    origin: Origin


def find_splits(
    root: Path,
    names: Mapping[str, Sequence[str]],
    *,
    tables: Tables | None = None,
    needed: str | None = None,
) -> Assigned | None:
    """The splits of cases by the lists in, below or above a folder.

    Args:
        root: the folder of the data.
        names: case -> the names by which a list may call it: its own, its subject's.
        tables: the lists in and below `root`, if they are known already.
        needed: what a case has, such as ``"an image"``, where every name in the lists must be a case.

    Returns:
        None where there are no lists, or none that names a case; see `refuse_foreign`.

    Raises:
        DataError: lists contradict one another, cannot be read, or name what is not there although `needed`.
    """
    near = lists_below(root) if tables is None else tables
    own = [error for folder, error in near.damaged.items() if root in (folder, folder.parent)]
    if own:
        raise own[0]
    known = _Known(names)
    for group in (near, lists_above(root)):
        chosen = [table for table in group.found if known.any_of(table)]
        if chosen:
            return _assign(root, known, chosen, needed)
        # Perhaps these are the lists that are looked for.
        for error in group.damaged.values():
            raise error
    return None


def refuse_foreign(root: Path, names: Mapping[str, Sequence[str]], tables: Tables | None = None) -> None:
    """Refuse to deal cases although there are lists, if these name none of them.

    Raises:
        DataError: there are such lists in or below `root`.
    """
    near = lists_below(root) if tables is None else tables
    if near.found:
        table = near.found[0]
        entries = [entry for split in table.lists.values() for entry in split]
        raise DataError(
            f"{table.path} names {len(entries)} cases, and none of the {len(names)} found below {root}: it "
            f"has {entries[0]}, the data {next(iter(names))}. Write the names alike, or give the folder of "
            "this data set alone."
        )


def deal(subject: str, shares: Mapping[str, float] = SHARES) -> str:
    """A split that depends on the subject alone, so that adding cases moves no other."""
    digest = hashlib.sha256(f"0:{subject}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    edges = np.cumsum(list(shares.values()))
    return list(shares)[min(int(np.searchsorted(edges, share, side="right")), len(shares) - 1)]


def dealt(
    root: Path,
    subjects: Mapping[str, str],
    shares: Mapping[str, float] = SHARES,
    *,
    tables: Tables | None = None,
) -> Assigned:
    """Cases dealt by subject, where no list names them.

    Args:
        root: the folder of the data.
        subjects: case -> subject.
        shares: split -> share.
        tables: the lists in and below `root`, if they are known already.
    """
    near = lists_below(root) if tables is None else tables
    splits = {case: deal(subject, shares) for case, subject in subjects.items()}
    return Assigned(splits, Origin(root, shares=tuple(shares.items()), unread=tuple(near.unread)))


def splits_or_deal(root: Path, subjects: Mapping[str, str], needed: str | None = None) -> Assigned:
    """The splits of cases by lists, which may name cases or subjects; dealt by subject where there are none.

    Args:
        root: the folder of the data.
        subjects: case -> subject.
        needed: see `find_splits`.

    Raises:
        DataError: see `find_splits`; or there are lists, but they name no case.
    """
    names = {case: (case, subject) for case, subject in subjects.items()}
    tables = lists_below(root)
    listed = find_splits(root, names, tables=tables, needed=needed)
    if listed is None:
        refuse_foreign(root, names, tables)
        return dealt(root, subjects, tables=tables)
    return listed


def check_subjects(members: Iterable[tuple[str, str | None]]) -> None:
    """Check that a subject's cases are in one split.

    Args:
        members: subject and split of each case.

    Raises:
        DataError: one is in two.
    """
    seen: dict[str, str] = {}
    for subject, split in members:
        if split and seen.setdefault(subject, split) != split:
            raise DataError(
                f"subject {subject} is in the splits {seen[subject]} and {split}; a subject "
                "belongs to one split."
            )


def describe(cases: Sequence[HasSplit]) -> list[str]:
    """What users should know of the splits of these cases, a sentence each; none where all is as usual."""
    sentences: list[str] = []
    for origin in dict.fromkeys(case.origin for case in cases):
        count = sum(case.origin == origin for case in cases)
        if origin is None:
            continue
        sentences += origin.remarks
        if origin.dealt:
            shares = ", ".join(f"{share:.0%} {split}" for split, share in origin.shares)
            sentences.append(
                f"The splits were DEALT: no splits.json or splits/ names these {count} cases of "
                f"{origin.root}, so that each subject's name decides ({shares}). A model trained elsewhere "
                "may have seen any of them." + _unread_words(origin)
            )
            continue
        lists = ", ".join(str(path) for path in origin.lists)
        if origin.absent:
            sentences.append(f"{lists}: {origin.absent} of its names match no case below {origin.root}.")
        elif any(path.parent != origin.root and path != origin.root for path in origin.lists):
            sentences.append(f"The splits come from {lists}.")
    left_out = sum(case.split is None for case in cases)
    if left_out and left_out < len(cases):
        sentences.append(f"{left_out} of {len(cases)} cases are in no list; they belong to no split.")
    return sentences


def origin_record(cases: Sequence[HasSplit]) -> dict[str, Any]:
    """Where the splits come from, for a report: counts of ``dealt`` and ``listed`` cases, and ``lists``."""
    origins = [case.origin for case in cases if case.origin is not None and case.split is not None]
    lists = sorted({_shown(path, origin.root) for origin in origins for path in origin.lists})
    return {
        "dealt": sum(origin.dealt for origin in origins),
        "listed": sum(not origin.dealt for origin in origins),
        "lists": lists,
    }


def refuse_dealt(cases: Sequence[HasSplit], allow: bool = False) -> None:
    """Refuse to measure on a split that was dealt: it may hold what a model was trained on.

    Args:
        cases: those to be measured.
        allow: whether it is wanted all the same.

    Raises:
        DataError: a case's split was dealt.
    """
    origins = [case.origin for case in cases if case.origin is not None and case.origin.dealt]
    if origins and not allow:
        raise DataError(
            f"{origins[0].root}: no splits.json or splits/ names {len(origins)} of the {len(cases)} cases, "
            "so that their split was dealt and may hold cases that a model was trained on. Give the folder "
            f"with the lists, or --allow-dealt-split if that is meant.{_unread_words(origins[0])}"
        )


class _Known:
    """The cases by the names that lists may use."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self.exact: dict[str, dict[str, None]] = {}
        self.folded: dict[str, dict[str, None]] = {}
        for case, called in names.items():
            for name in called:
                self.exact.setdefault(name, {})[case] = None
                self.folded.setdefault(name.casefold(), {})[name] = None

    def find(self, entry: str) -> list[str]:
        """The cases that an entry means, with or without folder and suffix, in capitals or not."""
        whole = slashed(entry)
        last = whole.rpartition("/")[2]
        # A case of one of several sites is called by its folder too.
        written = [entry, whole, without_suffix(whole), last, without_suffix(last)]
        for name in written:
            if name in self.exact:
                return list(self.exact[name])
        for name in written:
            if alike := list(self.folded.get(name.casefold(), ())):
                if len(alike) > 1:
                    raise DataError(
                        f"{entry} may be any of {', '.join(alike)}; write it in the list as it is."
                    )
                return list(self.exact[alike[0]])
        return []

    def any_of(self, table: Table) -> bool:
        return any(
            self.find(one) for split in table.lists.values() for line in split for one in _parts(self, line)
        )


def _parts(known: _Known, line: str) -> list[str]:
    """The entries of a line: names may have blanks, or stand beside one another."""
    return [line] if known.find(line) else line.split()


def _assign(root: Path, known: _Known, tables: Sequence[Table], needed: str | None) -> Assigned:
    where: dict[str, tuple[str, Path]] = {}
    absent: dict[str, None] = {}
    for table in tables:
        for split, lines in table.lists.items():
            for entry in (one for line in lines for one in _parts(known, line)):
                cases = known.find(entry)
                if not cases:
                    absent[entry] = None
                for case in cases:
                    before, source = where.setdefault(case, (split, table.path))
                    if before != split:
                        places = f"{source} and {table.path}" if source != table.path else f"{source}"
                        raise DataError(
                            f"{case} is in the splits {before} and {split}; keep one of them ({places})."
                        )
    if absent and needed:
        raise DataError(
            f"{root}: the splits name {len(absent)} cases without {needed}, first {next(iter(absent))}."
        )
    origin = Origin(root, tuple(table.path for table in tables), len(absent))
    return Assigned({case: split for case, (split, _) in where.items()}, origin)


def _unread_words(origin: Origin) -> str:
    """What to do with files that may hold the splits that are looked for; empty where there are none."""
    if not origin.unread:
        return ""
    names = some([_shown(path, origin.root) for path in origin.unread])
    return f' Not read: {names}; write such lists as splits.json: {{"train": [...], "val": [...], ...}}.'


def _shown(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
