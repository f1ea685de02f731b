"""Annotations that can be read and yet cannot be meant: empty, exchanged sides, background as an organ."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from anatozoo.data.case import Case, Drawn
from anatozoo.errors import AnatozooError
from anatozoo.io.annotation import exchanged_sides, middle_x
from anatozoo.io.grid import Grid
from anatozoo.organs import PAIRS

SAMPLED = 6
"""Cases that are read: reading all of a data set takes long."""
SECONDS = 3.0
"""After which no further case is read."""


@dataclass
class Doubts:
    """What the annotations of some cases have in common.

    A doubt needs all cases alike, because one image without a heart, or turned, proves nothing.

    Attributes:
        organs: what is wanted; empty for whatever there is.
        read: cases seen.
        unread: further annotated cases, of which nothing is known.
        seen: organ -> cases with pixels or a contour of it.
        absent: organ -> cases in which its mask is empty, and nothing else shows it.
        corners: organ -> cases in which it fills every corner and most of the image.
        sided: name of a pair, such as ``"lungs"`` -> cases with both sides, in 2-D.
        exchanged: name of a pair -> those whose right one lies on the right of the image.
    """

    organs: Sequence[str] = ()
    read: int = 0
    unread: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    corners: Counter[str] = field(default_factory=Counter)
    sided: Counter[str] = field(default_factory=Counter)
    exchanged: Counter[str] = field(default_factory=Counter)

    @classmethod
    def together(cls, parts: Sequence[Doubts]) -> Doubts:
        """The counts of several parts of a data set added up."""
        found = cls(list(dict.fromkeys(organ for part in parts for organ in part.organs)))
        for part in parts:
            found.read, found.unread = found.read + part.read, found.unread + part.unread
            for name in ("seen", "absent", "corners", "sided", "exchanged"):
                getattr(found, name).update(getattr(part, name))
        return found

    def add(self, drawn: Drawn) -> None:
        """Look at the annotation of one case."""
        self.read += 1
        for organ in drawn.organs:
            mask = drawn.masks.get(organ)
            if mask is None:
                self.seen[organ] += len(drawn.landmarks[organ]) > 0
                continue
            self.seen[organ] += bool(mask.any())
            if organ not in drawn.landmarks and not mask.any():
                self.absent[organ] += 1
            filled = mask[np.ix_(*[[0, -1]] * mask.ndim)].all() and mask.mean() > 1 / 2
            self.corners[organ] += bool(filled)
        for pair, exchanged in exchanged_sides(_middles(drawn)).items():
            self.sided[pair] += 1
            self.exchanged[pair] += exchanged

    def sentences(self, *, of_source: bool = False) -> list[str]:
        """The doubts, a sentence each, with what to do.

        Args:
            of_source: whether the cases are one source of several, which need not annotate every organ.
        """
        if not self.read:
            return []
        found = []
        wanted = {part: None for organ in self.organs for part in self.parts(organ)}
        undrawn = [organ for organ in wanted if organ not in self.seen]
        if undrawn and not of_source and not self.unread:
            found.append(f"{', '.join(undrawn)}: in none of the {self.read} annotated cases.")
        if empty := [organ for organ in wanted if organ in self.seen and not self.seen[organ]]:
            advice = (
                "if its label maps do not mark this organ, a labels.json of this source that names what they "
                "mark says so."
                if of_source
                else "see whether these are the right masks, or which values the label maps hold, and say "
                "by label_values what they are."
            )
            found.append(
                f"{', '.join(empty)}: not a pixel in any of the {self.read} annotated cases that were read, "
                f"so it counts as absent there; {advice}"
            )
        for organ in [organ for organ, count in self.corners.items() if count == self.read]:
            found.append(
                f"{organ} fills all corners and most of the image in all {self.read} annotated cases that "
                "were read, as background does; say by label_values which value is the background, such as "
                f"background=3,{organ}=1."
            )
        for pair in [pair for pair, count in self.exchanged.items() if count == self.sided[pair] > 0]:
            right, left = PAIRS[pair]
            found.append(
                f"sides look exchanged: {right} lies right of {left} in the image in all "
                f"{self.sided[pair]} cases with both that were read, but a radiograph shows the patient's "
                "right on the left; exchange the names, or turn the images."
            )
        return found

    def parts(self, organ: str) -> tuple[str, ...]:
        """The names under which an organ is drawn: its own, or those of its two sides."""
        return (organ,) if organ in self.seen else PAIRS.get(organ, (organ,))


def _middles(drawn: Drawn) -> dict[str, float]:
    """Organ -> where it lies from left to right, as a share of the width; empty in 3-D."""
    if drawn.grid.dims != 2:
        return {}
    points = {organ: each[:, 0] for organ, each in drawn.landmarks.items() if len(each)}
    drawn_by_points = {organ: float(x.mean()) / drawn.grid.size[0] for organ, x in points.items()}
    return drawn_by_points | {organ: middle_x(mask) / mask.shape[1] for organ, mask in drawn.masks.items()}


def read_some(
    cases: Sequence[Case], organs: Sequence[str], dims: int, until: float | None = None
) -> Iterator[tuple[Case, Grid | None, Drawn | AnatozooError | None]]:
    """Read a few cases from all of a data set, and begin none after a moment.

    Annotated ones come first: in them more can be wrong.

    Args:
        cases: the cases.
        organs: the organs that are read; empty for all of a case.
        dims: 2 for images, 3 for volumes.
        until: the moment, in seconds of `time.monotonic`; None is `SECONDS` from now.

    Yields:
        A case, the grid of its image, and its annotation, or why it cannot be read. Without an image the
        grid is None, without an annotation that.
    """
    step = max(1, len(cases) // SAMPLED)
    ordered = sorted(cases, key=lambda case: (not case.labelled, case.image is None))
    until = time.monotonic() + SECONDS if until is None else until
    for case in ordered[::step][:SAMPLED]:
        if time.monotonic() > until:
            return
        grid, drawn = None, None
        try:
            grid = None if case.image is None else case.read_image(dims).grid
            drawn = case.read_drawn(list(organs or case.organs), grid) if case.labelled else None
        except AnatozooError as error:
            yield case, grid, error
        else:
            yield case, grid, drawn


def doubts_of(cases: Sequence[Case], organs: Sequence[str], dims: int, until: float) -> Doubts:
    """The doubts about a few of these cases, see `read_some`.

    Args:
        cases: the cases, of which annotated ones are read.
        organs: the organs that are needed.
        dims: 2 for images, 3 for volumes.
        until: moment after which no case is read.
    """
    labelled = [case for case in cases if case.labelled]
    found = Doubts(organs)
    for _, _, drawn in read_some(labelled, organs, dims, until):
        if isinstance(drawn, Drawn):  # an error is said by whoever reads the case to use it
            found.add(drawn)
    found.unread = len(labelled) - found.read
    return found
