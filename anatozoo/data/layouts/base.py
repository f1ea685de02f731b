"""The interface of a layout: it recognises a folder, and lists the cases in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anatozoo.data.case import Case
from anatozoo.errors import ConfigError, DataError


@dataclass(frozen=True)
class Wanted:
    """A request for cases.

    Attributes:
        root: folder of the data.
        organs: names in the order of their labels; empty if annotations are not needed, None for all.
        dims: 2 for images, 3 for volumes.
        label_values: values of the organs in label maps: a list in the order of the organs, or text such as
            ``"lungs=1,heart=2+3"``; None reads ``dataset.json`` or ``labels.json``, else takes 1, 2, ...
            Text and files may leave out organs, which the label maps then do not annotate.
        subject_pattern: regular expression whose first group is the subject in a case's name; None takes the
            whole name.
        seen: what `Layout.recognises` gave for this folder; None if it was not asked.
    """

    root: Path
    organs: tuple[str, ...] | None = ()
    dims: int = 2
    label_values: Sequence[int] | str | None = None
    subject_pattern: str | None = None
    seen: Any = None


@dataclass(frozen=True, eq=False)
class Listing:
    """The result of a layout.

    Attributes:
        cases: the cases, sorted by name.
        left_out: reason -> names of files that belong to no case, or are not used in one.
        remarks: what was taken for granted, such as how images and annotations were matched.
        layout: name of the layout, which `anatozoo.data.layouts.registry.find_cases` adds.
    """

    cases: list[Case]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    layout: str = ""

    def complete(self, organs: Sequence[str], split: str | None = None) -> list[Case]:
        """The cases with an image and all these organs, of one split or of all."""
        return [
            case
            for case in self.cases
            if case.image is not None and all(map(case.has, organs)) and split in (None, case.split)
        ]


@dataclass(frozen=True)
class Layout:
    """One layout of data in folders.

    Attributes:
        name: name in ``--data.layout``.
        words: short description, for messages.
        dims: 2 for images, 3 for volumes, or both.
        recognises: quick check whether a folder has this layout; gives what is true if so, such as the files
            that it found, which `find` gets as `Wanted.seen`.
        find: function that lists the cases.
        takes_label_values: whether it uses `Wanted.label_values`.
    """

    name: str
    words: str
    dims: tuple[int, ...]
    recognises: Callable[[Path], Any]
    find: Callable[[Wanted], Listing]
    takes_label_values: bool = True


def subject_rule(pattern: str | None) -> Callable[[str], str]:
    """The function from a case's name to its subject: the first group of the pattern, or the whole name.

    Raises:
        ConfigError: the pattern is not a regular expression with a group; a name that does not fit is a
            `DataError`.
    """
    if pattern is None:
        return str
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"subject_pattern={pattern!r} is not a regular expression: {error}.") from error
    if expression.groups < 1:
        raise ConfigError(f"subject_pattern={pattern!r} needs a group, such as '(patient\\d+)_.*'.")

    def subject(name: str) -> str:
        match = expression.match(name)
        if match is None:
            raise DataError(f"subject_pattern={pattern!r} does not fit the name {name!r}.")
        return match[1]

    return subject


def shown(names: Sequence[str], most: int = 3) -> str:
    """The first names, and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def unused(cases: Sequence[Case], usable: Sequence[Case], organs: Sequence[str]) -> dict[str, list[str]]:
    """Reason why cases are not used -> their names.

    Args:
        cases: all cases.
        usable: those of them that are used.
        organs: the organs that are needed.
    """
    kept = {id(case) for case in usable}
    reasons: dict[str, list[str]] = {}
    for case in cases:
        if id(case) not in kept:
            why = ", ".join(organ for organ in organs if not case.has(organ)) or "an organ"
            if case.image is None:
                why = "an image"
            elif not case.labelled:
                why = "an annotation"
            reasons.setdefault(f"cases are not used, they lack {why}", []).append(case.id)
    return reasons
