"""Metrics collected image by image, by one process or several, with pictures of some cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from anatozoo.errors import DataError
from anatozoo.metrics.cases import Case, Row
from anatozoo.organs import PAIRS

if TYPE_CHECKING:
    from anatozoo.results.draw.cases import CasePicture


@dataclass(frozen=True, eq=False)
class Seen:
    """Record of one image.

    Attributes:
        identity: identity of the image, ``id`` first.
        numbers: its metrics.
        score: name and value by which pictures are chosen, see `score_of`.
        picture: picture of one of the worst or best cases, else None.
    """

    identity: Row
    numbers: Row
    score: tuple[str, float] | None
    picture: CasePicture | None = None


class Collection:
    """Images keyed by their index in the data set, each once.

    Args:
        pictures: number of worst and of best cases whose pictures are kept.
    """

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self.seen: dict[int, Seen] = {}
        self._drawn: dict[int, Seen] = {}

    def __len__(self) -> int:
        return len(self.seen)

    def add(self, index: int, identity: Row, case: Case, numbers: Row) -> None:
        """Keep the numbers of a case, unless it is there."""
        if index in self.seen:
            return
        item = Seen(identity, numbers, score_of(numbers))
        self.seen[index] = item
        if self.pictures and item.score is not None:
            # Only the worst and best so far are kept, so that memory and time do not grow with the data.
            worst, best = extremes(self._drawn | {index: item}, self.pictures)
            self._drawn = {i: self._drawn.get(i, item) for i in (*worst, *best)}
            if index in self._drawn:
                from anatozoo.results.draw.cases import case_picture

                self._drawn[index] = replace(item, picture=case_picture(case))

    def gather(self, processes: int) -> None:
        """Add the images of the other processes; all processes must call this.

        Distributed samplers repeat some images; the result of the first process counts.
        """
        if processes > 1:
            shares: list[Any] = [None] * processes
            torch.distributed.all_gather_object(shares, (self.seen, self._drawn))
            self.seen, self._drawn = {}, {}
            for seen, drawn in reversed(shares):
                self.seen |= seen
                self._drawn |= drawn
        self.seen = dict(sorted(self.seen.items()))

    def rows(self, when: Row) -> list[Row]:
        """One row per image in the order of the data: identity, then `when`, then metrics."""
        who = dict.fromkeys(name for item in self.seen.values() for name in item.identity)
        return [{k: item.identity.get(k) for k in who} | when | item.numbers for item in self.seen.values()]

    def drawn(self) -> dict[str, list[tuple[str, str, CasePicture]]]:
        """``worst`` and ``best`` cases, each with id, score in words and picture."""
        worst, best = extremes(self._drawn, self.pictures)
        return {
            title: [_panel(self._drawn[index]) for index in group]
            for title, group in (("worst", worst), ("best", best))
        }


def identity_of(dataset: Any, index: int) -> Row:
    """Identity of an item, also through a ``Subset`` or a repetition of its data set.

    Args:
        dataset: a data set with a method ``identity``, or a ``Subset`` or ``ConcatDataset`` of one.
        index: the item's ``index``, its position in the innermost data set.

    Returns:
        ``id`` first, then further facts; a data set without ``identity`` gives the index alone.

    Raises:
        DataError: different data sets are joined, so that an index is ambiguous.
    """
    if hasattr(dataset, "identity"):
        found: Row = dataset.identity(index)
        return found
    if isinstance(dataset, Subset):
        return identity_of(dataset.dataset, index)
    if isinstance(dataset, ConcatDataset):
        first, *others = dataset.datasets
        if any(other is not first for other in others):
            raise DataError(
                "different data sets are joined and each counts its items from 0, so that rows cannot be "
                "told apart; make one data set of all cases, as the data modules do for several layouts."
            )
        return identity_of(first, index)
    return {"id": str(index)}


def score_of(numbers: Row) -> tuple[str, float] | None:
    """The score that ranks cases: mean Dice of the organs, else the landmarks' error, else None."""
    dice = {name.removeprefix("dice/"): value for name, value in numbers.items() if name.startswith("dice/")}
    # A pair of organs beside its two sides would count them twice.
    for pair, parts in PAIRS.items():
        if all(part in dice for part in parts):
            dice.pop(pair, None)
    known = [value for value in dice.values() if not np.isnan(value)]
    if known:
        return "dice", float(np.mean(known))
    error = float(numbers.get("mse_px2", np.nan))
    return None if np.isnan(error) else ("mse_px2", error)


def extremes(seen: Mapping[int, Seen], count: int) -> tuple[list[int], list[int]]:
    """Indices of the worst cases, worst first, and of the best among the others, best first."""

    def badness(index: int) -> tuple[float, int]:
        name, value = seen[index].score or ("", 0.0)
        return (-value if name == "dice" else value), -index

    order = sorted(seen, key=badness, reverse=True)
    others: Sequence[int] = order[count:]
    return order[:count], list(reversed(others[-count:]))


def _panel(item: Seen) -> tuple[str, str, CasePicture]:
    if item.picture is None or item.score is None:
        raise TypeError("only cases with a picture are drawn.")
    name, value = item.score
    shown = f"{value:.3f}" if name == "dice" else f"{value:.1f}"
    return str(item.identity["id"]), f"{name} {shown}", item.picture
