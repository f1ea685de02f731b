"""Label maps of one side that are coded in several ways, and sides whose background is not 0.

One file of 0, 127 and 255 among files of 0, 1 and 2 shares no value with them. So does a file that shows
another organ, which is why files are taken together: those of one coding share values, if by way of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from anatozoo.errors import DataError
from anatozoo.io.label_codes import BACKGROUND, WHITE, Survey
from anatozoo.text import some

_WHITES = (128, WHITE, 2**16 - 1)
_FAR = 100
"""From which value on a mask of two is not of class 1 and of another class."""


@dataclass(frozen=True)
class _Group:
    """Values that files hold together.

    Attributes:
        values: all of them, on either side.
        own: those of the side in question.
        files: how many of its label maps hold them.
        example: the name of the first.
    """

    values: frozenset[int]
    own: tuple[int, ...]
    files: int
    example: str

    def words(self) -> str:
        """The group for a message."""
        example = f", as {self.example}" if self.example else ""
        return f"{some(self.own)} (label maps: {self.files}{example})"


def check_background(prediction: Survey, reference: Survey) -> None:
    """Refuse a side without a single 0, where the other has some: its background has another value.

    Raises:
        DataError: so it is.
    """
    for side, other in ((prediction, reference), (reference, prediction)):
        if not side.files or side.zeros or not other.zeros:
            continue
        first, *rest = sorted(side.values)
        named = _labels(BACKGROUND, first, 0, side is prediction)
        for index, value in enumerate(rest, 1):
            named += "," + _labels(f"class_{index}", value, index, side is prediction)
        raise DataError(
            f"no label map of the {side.side} holds 0, which is background; it holds {side.words()}, the "
            f"{other.side} 0 and {other.words()}. Say which value is the background by --labels, the "
            f"prediction's first, as --labels {named}. Where organs fill the whole image, name each value as "
            f"one, as --labels class_1={first}."
        )


def _labels(name: str, own: int, other: int, first: bool) -> str:
    return f"{name}={own}:{other}" if first else f"{name}={other}:{own}"


def check_mixed(prediction: Survey, reference: Survey) -> None:
    """Refuse a side some of whose label maps are coded differently from its others.

    Files that share a value, directly or by way of further files of either side, are coded alike. Files that
    share none may show other organs. They are refused where the other side has none of their values, though
    it has those of the side's other files, and where their values are those of others times a factor.

    Raises:
        DataError: so it is, with the values and an example of both codings.
    """
    for side, other in ((prediction, reference), (reference, prediction)):
        groups = _groups(side, other)
        strange = [group for group in groups if not group.values & set(other.values)]
        usual = [group for group in groups if group not in strange]
        if strange and usual:
            one, two = usual[0], strange[0]
            reason = f"which neither those nor the {other.side} hold"
        else:
            numbered = {*side.values, *other.values}
            pairs = [
                (one, two)
                for pair in combinations(groups, 2)
                for one, two in (sorted(pair, key=lambda group: group.own),)
                if numbered != set(range(1, len(numbered) + 1))
                and _scaled(one.own, two.own, only=len(side.values) == 2)
            ]
            if not pairs:
                continue
            one, two = pairs[0]
            reason = "which look like the same classes by other values"
        raise DataError(
            f"the label maps of the {side.side} are not coded alike: some hold {one.words()}, others "
            f"{two.words()}, {reason}. Code them alike, or say what all values are by --labels, as --labels "
            f"{_example(one.own, two.own, side is prediction)}."
        )


def _groups(side: Survey, other: Survey) -> list[_Group]:
    """The label maps of a side by what values they share, that with most files first."""
    parts: list[frozenset[int]] = []
    for values in (*side.held, *other.held):
        joined = [part for part in parts if part & values]
        parts = [part for part in parts if not part & values] + [values.union(*joined)]
    groups = []
    for part in parts:
        if held := {values: seen for values, seen in side.held.items() if values <= part}:
            own = tuple(sorted(frozenset[int]().union(*held)))
            files, examples = zip(*held.values(), strict=True)
            groups.append(_Group(part, own, sum(files), examples[0]))
    return sorted(groups, key=lambda group: -group.files)


def _scaled(one: Sequence[int], two: Sequence[int], only: bool) -> bool:
    """Whether `two` are the values of `one` times a factor, or the greys that stand for 1, ..., max(`one`).

    Args:
        one: values, ascending, beginning with the smaller.
        two: others, ascending.
        only: whether there are no further values on this side.
    """
    if len(one) == len(two) > 1:
        factor = two[-1] / one[-1]
        if all(abs(b - a * factor) < 1 for a, b in zip(one, two, strict=True)) and factor >= 2:
            return True
    if only and tuple(one) == (1,) and two[0] >= _FAR:
        return True
    classes = one[-1]
    return any(
        # Of more classes, the numbers and the greys are not far enough apart to be told from each other.
        classes * classes < white and two[-1] == white and set(two) <= _greys(classes, white)
        for white in _WHITES
    )


def _greys(classes: int, white: int) -> set[int]:
    steps: Iterable[int] = range(1, classes + 1)
    return {grey for step in steps for grey in (step * white // classes, -(-step * white // classes))}


def _example(one: Sequence[int], two: Sequence[int], first: bool) -> str:
    """What could be said by `--labels` of two codings; the other side is taken to be as the first."""
    if len(one) != len(two) or not _scaled(one, two, only=True):
        return ",".join(f"class_{index}={value}" for index, value in enumerate((*one, *two), 1))
    pairs = enumerate(zip(one, two, strict=True), 1)
    return ",".join(
        f"class_{index}=" + (f"{value}+{also}:{value}" if first else f"{value}:{value}+{also}")
        for index, (value, also) in pairs
    )
