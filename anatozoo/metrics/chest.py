"""Bring annotations of chest radiographs onto one frame and to one set of organs before they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from anatozoo.io.annotation import Annotation
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.metrics.cases import Rounding
from anatozoo.organs import PAIRS, parts_of

FRAME = 1024
Points = Mapping[str, npt.NDArray[np.float64]]
Masks = dict[str, npt.NDArray[np.bool_]]


def to_frame(points: Points, size: tuple[int, int]) -> dict[str, npt.NDArray[np.float64]]:
    """Landmarks from pixels of a square image of `size` to pixels of the 1024 x 1024 frame, (N, 2) each."""
    return scale_points(points, size, (FRAME, FRAME))


def scale_points(
    points: Points, size: tuple[int, int], target: tuple[int, int]
) -> dict[str, npt.NDArray[np.float64]]:
    """Landmarks from pixels of an image of (width, height) to those of the same view at another size."""
    scale = np.array(target) / size
    return {organ: (p + 0.5) * scale - 0.5 for organ, p in points.items()}


def draw_masks(points: Points, size: tuple[int, int], target: tuple[int, int]) -> Masks:
    """Fill contours on another grid of the same view.

    Args:
        points: organ -> (N, 2) pixels of an image of `size`.
        size: (width, height) of that image.
        target: (width, height) of the masks.

    Returns:
        organ -> (H, W) bool.
    """
    scaled = scale_points(points, size, target)
    return {organ: draw_organ_mask(p, target) for organ, p in scaled.items()}


def with_pairs(annotation: Annotation, other: Annotation, rounding: Rounding = "truncate") -> Annotation:
    """Add what two organs make up together where only the other side knows it as one.

    A model that labels ``lungs`` is compared with data that tells right from left by both lungs on one
    canvas.

    Args:
        annotation: one side of a comparison.
        other: the other side.
        rounding: how contours meet the pixel grid, see `anatozoo.metrics.cases.Measures`.
    """
    known = annotation.organs
    added: Masks = {}
    for both, parts in PAIRS.items():
        if both in other.organs and both not in known and all(part in known for part in parts):
            one, two = (_mask(annotation, part, rounding) for part in parts)
            added[both] = one | two
    return replace(annotation, masks=dict(annotation.masks) | added) if added else annotation


def exclusive(annotation: Annotation, rounding: Rounding = "truncate") -> Annotation:
    """Draw the organs as one label map: later organs cover earlier ones, so that the heart cuts the lungs.

    Args:
        annotation: contours, masks, or both; contours are kept for measures of landmarks.
        rounding: how contours meet the pixel grid.

    Returns:
        The same with masks that do not overlap; those of pairs are left out where both organs are there.
    """
    known = annotation.organs
    organs = [o for o in known if o not in PAIRS or not all(part in known for part in PAIRS[o])]
    free = np.ones(annotation.size[::-1], dtype=bool)
    masks: Masks = {}
    for organ in reversed(organs):
        masks[organ] = _mask(annotation, organ, rounding) & free
        free &= ~masks[organ]
    return replace(annotation, masks={organ: masks[organ] for organ in organs})


def comparable(
    prediction: Annotation, reference: Annotation, rounding: Rounding = "truncate", *, cut: bool = False
) -> tuple[Annotation, Annotation]:
    """Both sides by the same rules: where `cut` is true drawn by `exclusive`, then completed by `with_pairs`.

    Organs that only one side knows cut no other.
    """
    if cut:
        both = _parts(prediction) & _parts(reference)
        prediction, reference = (exclusive(_only(a, both), rounding) for a in (prediction, reference))
    return with_pairs(prediction, reference, rounding), with_pairs(reference, prediction, rounding)


def _parts(annotation: Annotation) -> set[str]:
    """Organs of an annotation, those that come as a pair as both of its parts."""
    return {part for organ in annotation.organs for part in parts_of(organ)}


def _only(annotation: Annotation, parts: set[str]) -> Annotation:
    """An annotation without the organs that have none of the parts."""

    def kept(organ: str) -> bool:
        return not parts.isdisjoint(parts_of(organ))

    return replace(
        annotation,
        landmarks={organ: p for organ, p in annotation.landmarks.items() if kept(organ)},
        masks={organ: m for organ, m in annotation.masks.items() if kept(organ)},
    )


def drawn(annotation: Annotation, other: Annotation, rounding: Rounding = "truncate") -> Annotation:
    """Add the masks of contours of which another annotation has the organ, so that none is drawn twice.

    Args:
        annotation: one side of a comparison.
        other: the other side.
        rounding: how contours meet the pixel grid.
    """
    shared = [organ for organ in annotation.landmarks if organ in other.organs]
    masks = {organ: _mask(annotation, organ, rounding) for organ in shared}
    return replace(annotation, masks=dict(annotation.masks) | masks)


def crosswise(one: Annotation, two: Annotation) -> list[str]:
    """Pairs, such as ``"lungs"``, of which each side lies on the other annotation's other side, not its own.

    Args:
        one: an annotation, see `drawn`.
        two: another of the same image and size, drawn likewise.
    """
    found = []
    for pair, sides in PAIRS.items():
        if not all(side in each.masks for side in sides for each in (one, two)):
            continue
        (right, left), (other_right, other_left) = (
            [each.masks[side] for side in sides] for each in (one, two)
        )
        exchanged = (
            np.count_nonzero(right & other_left) > np.count_nonzero(right & other_right),
            np.count_nonzero(left & other_right) > np.count_nonzero(left & other_left),
        )
        if all(exchanged):
            found.append(pair)
    return found


def _mask(annotation: Annotation, organ: str, rounding: Rounding) -> npt.NDArray[np.bool_]:
    if organ in annotation.masks:
        return annotation.masks[organ]
    to_grid = np.trunc if rounding == "truncate" else np.rint
    size = (annotation.size[0], annotation.size[1])
    return draw_organ_mask(to_grid(annotation.landmarks[organ]), size)
