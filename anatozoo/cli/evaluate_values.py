"""What the values of label maps mean, found out over all files before two sides are compared."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from anatozoo.cli.output import error_console
from anatozoo.errors import AnatozooError, DataError

if TYPE_CHECKING:
    from anatozoo.io.annotation_files import Stored
    from anatozoo.io.annotations import Entry
    from anatozoo.io.label_codes import LabelCodes

SIDES = ("prediction", "reference")
_MOST_BYTES, _OTHER_BYTES = 2**29, 2**16


class Readings:
    """The annotations of all pairs, kept in memory while there is room, else read again.

    Args:
        pairs: name -> prediction and reference.
        codes: what the values of the two sides mean, see `--labels`; None where nobody said.
    """

    def __init__(
        self, pairs: Mapping[str, tuple[Entry, Entry]], codes: tuple[LabelCodes, LabelCodes] | None
    ) -> None:
        self.pairs, self.codes = pairs, codes
        self.white = {side: True for side in SIDES}
        self._kept: dict[str, tuple[Stored, Stored]] = {}
        self._room = _MOST_BYTES

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, name: str) -> tuple[Stored, Stored]:
        """Both sides of a pair.

        Raises:
            AnatozooError: a file cannot be read.
        """
        if name not in self._kept:
            codes = self.codes or (None, None)
            one, two = (e.read(c) for e, c in zip(self.pairs[name], codes, strict=True))
            size = _bytes_of(one) + _bytes_of(two)
            if size > self._room or self.codes:
                return one, two
            self._room -= size
            self._kept[name] = one, two
        return self._kept[name]

    def named(self, name: str) -> tuple[Stored, Stored]:
        """The same with 255 for 1 where masks of the side hold other values too."""
        one, two = (
            stored if self.white[side] else stored.as_stored()
            for side, stored in zip(SIDES, self.read(name), strict=True)
        )
        return one, two


def _bytes_of(stored: Stored) -> int:
    """What an annotation takes in memory, about."""
    arrays = [*stored.masks.values(), *([] if stored.labels is None else [stored.labels])]
    return _OTHER_BYTES + sum(array.nbytes for array in arrays)


def check_values(readings: Readings, classes: Sequence[str] | None) -> list[str]:
    """Refuse label maps of the two sides whose values cannot mean the same, by all files together.

    Args:
        readings: the pairs; told whether 255 stands for 1 in the masks of a side.
        classes: names of the values 1, 2, ..., where they are given.

    Returns:
        What is worth a remark.

    Raises:
        DataError: the sides or the files of one are coded differently, a mask has soft edges, a side has no
            background, or one is the other's background.
    """
    from anatozoo.io.label_codes import Survey, check_named, check_sides, check_soft, looks_inverted
    from anatozoo.io.mixed_codes import check_background, check_mixed

    if readings.codes is not None:
        return []  # what has no name is refused where it is read
    surveys = [Survey(side) for side in SIDES]
    binary: list[bool] = []
    for name in shown(readings, "looking"):
        try:
            sides = readings.read(name)
        except AnatozooError:
            continue  # said where it is compared
        if any(side.labels is None for side in sides):
            continue
        for survey, side in zip(surveys, sides, strict=True):
            stored = side.as_stored().labels
            if stored is not None:
                survey.add(stored, name)
        if all(len(side.values) == 1 for side in sides):
            one, two = (side.labels for side in sides)
            binary.append(looks_inverted(one, two) or looks_inverted(two, one))  # type: ignore[arg-type]
    for survey in surveys:
        readings.white[survey.side] = survey.is_white
        if classes:
            check_named(survey, classes)
    check_soft(*surveys)
    check_background(*surveys)
    if not classes:
        check_mixed(*surveys)
        check_sides(*surveys)
    if binary and all(binary) and len(binary) == surveys[0].files:
        raise DataError(
            "one side is what the other leaves out, in all files: set in every corner of the image, where "
            "the other is not. Say which value is the organ by --labels, the prediction's first, as --labels "
            "mask=0:255,background=255:0."
        )
    return [
        f"values that only the {survey.side} holds: {', '.join(map(str, missing))}"
        for survey, other in (surveys, surveys[::-1])
        if (missing := sorted(set(survey.values) - set(other.values)))
        and not (survey.is_white or other.is_white)
    ]


def shown(readings: Readings, doing: str) -> Iterable[str]:
    """The names of the pairs, with a bar on a terminal."""
    from rich.progress import track

    return track(
        readings.pairs,
        doing,
        len(readings),
        console=error_console(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
