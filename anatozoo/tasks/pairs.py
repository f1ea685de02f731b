"""Pairs of a data set's images, which are registered, and whose label maps judge the registration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.io.grid import Grid, GridImage
from anatozoo.tasks.cases import label_dice
from anatozoo.tasks.trials import Trial, identity_of, labels_beside, numbers_case, read_volume

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.metrics.cases import Case
    from anatozoo.results.field import RegistrationResult
    from anatozoo.tasks.trials import Conditions, Judge

KEPT = 8
"""Images kept in memory at most: volumes of a large split would fill it."""
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Subject:
    """An image with its label map, on the grid on which registrations are judged.

    Attributes:
        id: name of the case.
        image: the image.
        labels: its label map; None where no organs are asked for.
    """

    id: str
    image: GridImage
    labels: npt.NDArray[np.uint8] | None


def read_subject(case: DataCase, organs: Sequence[str], dims: int, how: Conditions) -> Subject:
    """Image and label map of a case, where `Conditions.side` says so brought to a square.

    Images become area averages and keep their field of view, label maps take the nearest pixel.

    Raises:
        DataError: an image that is to become a square is none, or a file is damaged.
        ImageError: the image cannot be read.
    """
    image = read_volume(case, how, dims)
    labels = case.read_labels(organs, image.grid)[0] if organs else None
    if how.side is None:
        return Subject(case.id, image, labels)
    if len(set(image.grid.size)) != 1 or dims != 2:
        size = " x ".join(map(str, image.grid.size))
        raise DataError(f"case {case.id} is {size} pixels; only a square is brought to {how.side}.")
    full, side = image.grid.size[0], how.side
    geometry = Geometry.fit((full, full), (side, side))
    spacing = image.grid.spacing_mm and tuple(step * full / side for step in image.grid.spacing_mm)
    small = GridImage(geometry.image_to_target(image.pixels), Grid((side, side), spacing), case.id)
    return Subject(case.id, small, None if labels is None else geometry.mask_to_target(labels))


def choose_pairs(pairs: Sequence[Pair], count: int | None) -> list[Pair]:
    """A fixed random part of the pairs, in their order; all of them where `count` is None or too many."""
    if count is None or count >= len(pairs):
        return list(pairs)
    chosen = np.random.default_rng(0).choice(len(pairs), count, replace=False)
    return [pairs[index] for index in sorted(chosen)]


def ordered_pairs(count: int) -> list[Pair]:
    """All ordered pairs of two different numbers below `count`: moving and fixed."""
    return [(moving, fixed) for moving in range(count) for fixed in range(count) if moving != fixed]


def pair_case(result: RegistrationResult, moving: Subject, fixed: Subject, organs: Sequence[str]) -> Case:
    """A registration's case: the moving label map, warped by nearest neighbour, beside the fixed one.

    Numbers are ``dice``, ``dice_before``, where the images lie centre on centre in the model's frame, and
    ``folding_percent``.
    """
    spacing, folding = fixed.image.grid.spacing_mm, {"folding_percent": 100 * result.folding_fraction}
    if moving.labels is None or fixed.labels is None:
        return numbers_case(folding)
    way = result.displacement_px - result.deformation_px @ result.alignment.T
    still = replace(result, displacement_px=way.astype(np.float32))
    after, before = (each.warp(moving.labels, "labels") for each in (result, still))
    dice = {
        name: label_dice(labels, fixed.labels, len(organs))
        for name, labels in (("dice", after), ("dice_before", before))
    }
    return labels_beside(after, fixed.labels, organs, spacing, dice | folding)


def pair_trials(cases: Sequence[DataCase], organs: Sequence[str], dims: int, how: Conditions) -> list[Trial]:
    """A trial for each pair, ordered by the moving image; the images used last are kept in memory.

    Raises:
        DataError: there are less than two cases.
    """
    if len(cases) < 2:
        raise DataError(f"a registration takes two cases, and the split has {len(cases)}; choose another.")
    read = lru_cache(KEPT)(lambda index: read_subject(cases[index], organs, dims, how))
    pairs = choose_pairs(ordered_pairs(len(cases)), how.pairs)
    return [Trial(_identity(cases[m], cases[f]), partial(_trial, read, m, f, organs)) for m, f in pairs]


def _identity(moving: DataCase, fixed: DataCase) -> dict[str, Any]:
    """That of the fixed case, on whose grid is judged, and both names."""
    both = {"moving": moving.id, "fixed": fixed.id, "moving_patient": moving.subject}
    return identity_of(fixed) | {"id": f"{moving.id}->{fixed.id}"} | both


def _trial(read: Any, moving: int, fixed: int, organs: Sequence[str]) -> tuple[Any, Judge]:
    a, b = read(moving), read(fixed)
    return (a.image, b.image), lambda result: pair_case(result, a, b, organs)
