"""What the values of label maps stand for: codes of two sides that must agree, and how to say if not.

A mask of 0 and 255, one of 0 and 1, and classes coded 0, 127, 255 look alike to a person and share no value.
Whether two codings agree is a question to the whole data set: one file without a heart proves nothing.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError
from anatozoo.text import some

BACKGROUND = "background"
WHITE = 255
_LARGEST = 2**31 - 1
_SMALLEST_WHITE = 128
_CODES = re.compile(r"(\d+)(?:-(\d+))?")
_EDGE_SHARE = 0.9
"""Of the pixels of a value, how many lie between a lower and a higher one where it is a soft edge."""

Ranges = tuple[tuple[int, int], ...]
Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class LabelCodes:
    """What values mean in the label maps of one side.

    Attributes:
        ranges: name -> first and last value of each of its ranges; ``background`` is not an organ.
    """

    ranges: Mapping[str, Ranges]

    @classmethod
    def of(cls, classes: Sequence[str] | Mapping[int, str]) -> LabelCodes:
        """The codes of the names of the values 1, 2, ..., or of value -> name; values may share a name."""
        named = classes if isinstance(classes, Mapping) else dict(enumerate(classes, start=1))
        ranges: dict[str, Ranges] = {}
        for value, name in named.items():
            ranges[str(name)] = (*ranges.get(str(name), ()), (int(value), int(value)))
        return cls(ranges)

    @property
    def organs(self) -> tuple[str, ...]:
        """The names but ``background``, in order."""
        return tuple(name for name in self.ranges if name != BACKGROUND)

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Values without a name; 0 is background where it is not named."""
        known = [pair for ranges in self.ranges.values() for pair in ranges]
        return [v for v in values if v and not any(low <= v <= high for low, high in known)]

    def masks(self, labels: Labels, organs: Sequence[str] | None = None) -> dict[str, npt.NDArray[np.bool_]]:
        """Organ -> where it is.

        Raises:
            DataError: a value has no name.
        """
        if unknown := self.unknown(np.unique(labels).tolist()):
            raise DataError(f"the values {some(unknown)} have no name; add them to --labels.")
        found = {}
        for organ in self.organs if organs is None else organs:
            mask = np.zeros(labels.shape, bool)
            for low, high in self.ranges.get(organ, ()):
                mask |= (labels >= low) & (labels <= high)
            found[organ] = mask
        return found


def parse_labels(text: str) -> tuple[LabelCodes, LabelCodes]:
    """What ``--labels`` says of the prediction and of the reference.

    ``lungs=1,heart=2`` is true of both; ``lungs=127:1,heart=255:2`` names the prediction's value first.
    ``lungs=3+4`` takes several values together, ``lungs=128-255`` all from one to the other, and
    ``background=0-127`` what is not an organ; 0 is background unless it is named.

    Raises:
        ConfigError: it is written in another way, or a value of one side has two names.
    """
    sides: tuple[dict[str, Ranges], dict[str, Ranges]] = ({}, {})
    for part in text.split(","):
        name, equals, codes = (word.strip() for word in part.partition("="))
        written = codes.split(":")
        if not name or not equals or not 1 <= len(written) <= 2:
            raise ConfigError(f"--labels: {part!r} must be as lungs=1, lungs=127:1 or background=0-127.")
        for side, value in zip(sides, (written[0], written[-1]), strict=True):
            if name in side:
                raise ConfigError(f"--labels names {name} twice; join its values by +, as {name}=3+4.")
            side[name] = _ranges(value, part)
    for side in sides:
        taken = sorted((low, high, name) for name, ranges in side.items() for low, high in ranges)
        for (_, end, one), (start, _, other) in itertools.pairwise(taken):
            if start <= end:
                raise ConfigError(f"--labels: the value {start} cannot be both {one} and {other}.")
    codes_of = tuple(LabelCodes(side) for side in sides)
    if not codes_of[0].organs:
        raise ConfigError("--labels names no organ.")
    return codes_of[0], codes_of[1]


def _ranges(text: str, part: str) -> Ranges:
    found = []
    for word in text.split("+"):
        match = _CODES.fullmatch(word.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= low <= high <= _LARGEST:
            raise ConfigError(f"--labels: {part!r}: values are whole numbers, ranges as 128-255.")
        found.append((low, high))
    return tuple(found)


@dataclass
class Survey:
    """The values in the label maps of one side of a data set.

    Attributes:
        side: what it is called.
        files: how many label maps were seen.
        zeros: how many of them hold 0.
        values: value above 0 -> number of files that hold it.
        held: values above 0 of a file -> number of files with these and the name of the first.
        edges: value -> number of files in which it lies along soft edges only.
    """

    side: str
    files: int = 0
    zeros: int = 0
    values: Counter[int] = field(default_factory=Counter)
    held: dict[frozenset[int], tuple[int, str]] = field(default_factory=dict)
    edges: Counter[int] = field(default_factory=Counter)

    def add(self, labels: Labels, name: str = "") -> None:
        """Count one label map, which messages call by its name."""
        self.files += 1
        found = frozenset(np.unique(labels).tolist())
        self.zeros += 0 in found
        if values := frozenset(int(value) for value in found if value):
            files, first = self.held.get(values, (0, name))
            self.held[values] = files + 1, first
        self.values.update(values)
        self.edges.update(edge_values(labels))

    @property
    def is_white(self) -> bool:
        """Whether this is a mask of 0 and 255."""
        return set(self.values) == {WHITE}

    @property
    def soft(self) -> list[int]:
        """Values that are soft edges wherever they are."""
        return sorted(value for value, files in self.edges.items() if files == self.values[value])

    def words(self) -> str:
        """The values for a message."""
        return f"{some(sorted(self.values))} (label maps: {self.files})"


def edge_values(labels: Labels) -> list[int]:
    """Values that lie only between a lower and a higher one: what smoothing or JPEG makes of a mask's edges.

    Of maps whose largest value is below 128 there are none, for these are numbers of classes.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    if labels.dtype.kind == "b" or not labels.size or labels.max() < _SMALLEST_WHITE:
        return []
    low, high = minimum_filter(labels, 3), maximum_filter(labels, 3)
    values, counts = np.unique(labels, return_counts=True)
    among = dict(zip(*np.unique(labels[(low < labels) & (labels < high)], return_counts=True), strict=True))
    return [int(v) for v, n in zip(values, counts, strict=True) if among.get(v, 0) >= _EDGE_SHARE * n]


def check_soft(prediction: Survey, reference: Survey) -> None:
    """Refuse a side whose masks have soft edges, with values that the other side does not have.

    Raises:
        DataError: so it is.
    """
    for side, other in ((prediction, reference), (reference, prediction)):
        if soft := [value for value in side.soft if value not in other.values]:
            files = max(side.edges[value] for value in soft)
            raise DataError(soft_words(f"the {side.side}", soft, max(side.values), files))


def check_sides(prediction: Survey, reference: Survey) -> None:
    """Refuse two sides of label maps whose values cannot mean the same.

    One side may lack values of the other, because a class can be missing everywhere. Both may lack some only
    if they share others, and all values together are 1, 2, ... without a gap.

    Raises:
        DataError: the sides are coded differently.
    """
    ours, theirs = set(prediction.values), set(reference.values)
    if not ours or not theirs or (len(ours) == len(theirs) == 1 and {*ours, *theirs} <= {1, WHITE}):
        return
    both = ours | theirs
    if ours <= theirs or theirs <= ours or (ours & theirs and both == set(range(1, len(both) + 1))):
        return
    matched = zip(sorted(ours), sorted(theirs), strict=False)
    example = ",".join(f"class_{index}={a}:{b}" for index, (a, b) in enumerate(matched, 1))
    raise DataError(
        f"the values do not correspond: the prediction holds {prediction.words()}, the reference "
        f"{reference.words()}. Say what they are by --labels, the prediction's value first, as --labels "
        f"{example}."
    )


def check_named(side: Survey, classes: Sequence[str]) -> None:
    """Refuse masks of 0 and 255 where several classes are numbered.

    Raises:
        DataError: which of the classes the value 255 is, nothing says.
    """
    if side.is_white and len(classes) > 1:
        raise DataError(white_words(f"the {side.side}", classes))


def check_known(labels: Labels, classes: Mapping[int, str], what: str, advice: str) -> None:
    """Refuse a label map with values that stand for nothing.

    Args:
        labels: as stored.
        classes: value -> name.
        what: what the label map is called.
        advice: what may be done, in words that end the sentence.

    Raises:
        DataError: a value is none of the classes; masks of 0 and 255 and soft edges are named as such.
    """
    # To count a few values is quicker than to find all.
    if sum(np.count_nonzero(labels == value) for value in {0, *classes}) == labels.size:
        return
    values = [int(value) for value in np.unique(labels) if value]
    unknown = [value for value in values if value not in classes]
    if edges := edge_values(labels):
        raise DataError(soft_words(what, edges, max(values)))
    if values == [WHITE] and len(classes) > 1:
        raise DataError(white_words(what, list(classes.values())))
    known = ", ".join(f"{value} {name}" for value, name in classes.items())
    raise DataError(f"{what} holds the values {some(unknown)}, but the classes are {known}; {advice}.")


def white_words(what: str, classes: Sequence[str]) -> str:
    """What to say of a mask of 0 and 255 where several classes are numbered."""
    return (
        f"{what} holds the value 255 alone, which is a mask of one organ, but there are {len(classes)}: "
        f"{', '.join(classes)}; number the values 1 to {len(classes)}, or give one folder per organ."
    )


def soft_words(what: str, between: Sequence[int], largest: int, files: int | None = None) -> str:
    """What to say of masks whose edges are soft."""
    half = (largest + 1) // 2
    counted = "" if files is None else f" in {files} files"
    return (
        f"{what} holds values between 0 and {largest} along its edges ({some(between)}){counted}: a mask "
        "that was smoothed, resized or saved as JPEG. Export it again with whole values (nearest neighbour, "
        f"PNG). `anatozoo evaluate` also takes --labels mask={half}-{largest},{BACKGROUND}=0-{half - 1}, "
        "which says where it begins."
    )


def one_organ(labels: Labels, what: str, organ: str) -> npt.NDArray[np.bool_]:
    """The mask of a file that marks one organ alone, by whatever value.

    Raises:
        DataError: it holds several values above 0.
    """
    values = [int(value) for value in np.unique(labels) if value]
    if len(values) > 1:
        if between := edge_values(labels):
            raise DataError(soft_words(what, between, max(values)))
        raise DataError(
            f"{what} holds the values {some(values)}; a file in a folder of {organ} marks this organ alone, "
            "by one value."
        )
    return np.asarray(labels != 0)


def looks_inverted(mask: Labels, other: Labels) -> bool:
    """Whether a mask is what another leaves: set in all corners, where that is not, and like its rest."""
    if mask.shape != other.shape or mask.ndim != other.ndim:
        return False
    one, two = mask != 0, other != 0
    corners = np.ix_(*[[0, -1]] * one.ndim)
    if not one[corners].all() or two[corners].any() or one.all() or not two.any():
        return False
    return int((~one & two).sum()) > int((one & two).sum())
