"""Is a shape anatomically plausible? Measures that need no reference.

Masks are (H, W) or (D, H, W), booleans or 0 and 1, as arrays or tensors; several organs are a mapping from
organ to mask, which `organ_masks` makes of a label map. Pixels of a mask hang together by edges and corners
(8 neighbours in 2-D, 26 in 3-D), pixels of the background by faces (4 and 6), so that no closed line leaks.

What is not there has no shape: where a mask is empty, ratios and positions are NaN. Contours that cross
themselves are in `anatozoo.metrics.contours`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.io.annotation import shown_box
from anatozoo.metrics.surface import Mask, Spacing, as_array, as_mask, axis_spacing

Masks = Mapping[str, npt.ArrayLike]
Line = tuple[tuple[float, float], tuple[float, float]]

RELATIONS = {"left of": (-1, -1), "right of": (-1, 1), "above": (-2, -1), "below": (-2, 1)}
"""Relation -> axis of the array, and the sign of (organ - other) along it; as seen in the picture."""


class Order(NamedTuple):
    """Where the centroid of one organ lies, seen from another's; `relation` is a key of `RELATIONS`."""

    organ: str
    relation: str
    other: str


CHEST_ORDER = (
    Order("lung_right", "left of", "lung_left"),
    Order("lung_right", "left of", "heart"),
    Order("heart", "left of", "lung_left"),
    Order("clavicle_right", "left of", "clavicle_left"),
    Order("clavicle_right", "above", "heart"),
    Order("clavicle_left", "above", "heart"),
    Order("clavicle_right", "above", "lung_right"),
    Order("clavicle_left", "above", "lung_left"),
)
"""Organs of a frontal radiograph; the patient's right is on the left of the picture.

In the chest landmark data set no annotation breaks one (911 radiographs, 383 with heart, 246 with clavicles).
"""


def organ_masks(labels: npt.ArrayLike, classes: Sequence[str]) -> dict[str, Mask]:
    """Masks of the organs of a label map.

    Args:
        labels: (H, W) or (D, H, W) whole numbers, 0 for background, i for organ number i from 1.
        classes: names of the organs in the order of their labels.

    Raises:
        GeometryError: another number of axes, or a label that is not a whole number or belongs to no organ.
    """
    array = as_array(labels)
    if array.ndim not in (2, 3) or not array.size:
        raise GeometryError(f"a label map is (H, W) or (D, H, W), not {array.shape}; pass one at a time.")
    # Never cast first: 257 in eight bits is 1, and NaN in any integer is some label or other.
    known = (array >= 0) & (array <= len(classes))
    if np.issubdtype(array.dtype, np.inexact):
        known &= array == np.rint(array)
    if not known.all():
        found = ", ".join(map(str, np.unique(array[~known])[:5]))
        raise GeometryError(
            f"the label map holds {found}, but its labels are 0 to {len(classes)}: background, "
            f"{', '.join(classes)}."
        )
    return {organ: array == value for value, organ in enumerate(classes, start=1)}


def components(mask: npt.ArrayLike) -> int:
    """Number of connected parts of a mask, neighbours sharing a face, edge or corner; 0 where it is empty.

    Raises:
        GeometryError: not 2-D or 3-D, or a value other than 0 and 1.
    """
    return _parts(_cropped(_mask(mask)), corners=True)


def holes(mask: npt.ArrayLike) -> int:
    """Number of enclosed parts of the background, neighbours sharing a face: cavities in 3-D, not tunnels.

    Background that reaches the border of the image is not enclosed.

    Raises:
        GeometryError: not 2-D or 3-D, or a value other than 0 and 1.
    """
    # All that lies around the mask hangs together through the frame, and is not a hole.
    return _parts(~np.pad(_cropped(_mask(mask)), 1), corners=False) - 1


def centroid(mask: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean position of the pixels of a mask, (x, y[, z]) in pixels; NaN where it is empty.

    Raises:
        GeometryError: not 2-D or 3-D, or a value other than 0 and 1.
    """
    array = _mask(mask)
    box = shown_box(array)
    if box is None:
        return np.full(array.ndim, np.nan)
    means = []
    for axis in reversed(range(array.ndim)):
        counts = np.count_nonzero(array[box], axis=tuple(set(range(array.ndim)) - {axis}))
        means.append(box[axis].start + counts @ np.arange(len(counts)) / counts.sum())
    return np.array(means)


def organ_order(masks: Masks, pairs: Sequence[tuple[str, str, str]] | None = None) -> list[Order]:
    """Pairs of organs whose centroids lie the wrong way round.

    Args:
        masks: organ -> mask, all of one shape.
        pairs: (organ, relation, other), e.g. ``("heart", "below", "clavicle_left")``; relations are
            ``"left of"`` and ``"right of"`` along the last axis, ``"above"`` and ``"below"`` along the one
            before it, as one sees a picture. None takes those of `CHEST_ORDER` whose organs are in `masks`.

    Returns:
        The violated ones. Centroids that are level violate a pair; a pair with an empty mask is not judged.

    Raises:
        ConfigError: a pair has no organ of `masks` or no known relation, or none is left of the defaults.
        GeometryError: the shapes differ, or a mask is none.
    """
    if pairs is None:
        chosen = [p for p in CHEST_ORDER if p.organ in masks and p.other in masks]
        if not chosen:
            raise ConfigError(f"no order is known of {', '.join(masks) or 'no organs'}; give `pairs`.")
    else:
        chosen = [Order(*pair) for pair in pairs]
    for pair in chosen:
        unknown = [organ for organ in (pair.organ, pair.other) if organ not in masks]
        if unknown or pair.relation not in RELATIONS:
            raise ConfigError(
                f"{' '.join(pair)}: "
                + (f"no mask of {unknown[0]} is given" if unknown else "no such relation")
                + f"; organs are {', '.join(masks)}, relations {', '.join(RELATIONS)}."
            )
    wanted = dict.fromkeys(organ for pair in chosen for organ in (pair.organ, pair.other))
    arrays = dict(zip(wanted, _same_shape(*(masks[organ] for organ in wanted)), strict=True))
    centres = {organ: centroid(array)[::-1] for organ, array in arrays.items()}
    violated = []
    for pair in chosen:
        axis, sign = RELATIONS[pair.relation]
        if sign * (centres[pair.organ] - centres[pair.other])[axis] <= 0:
            violated.append(pair)
    return violated


def touching(a: npt.ArrayLike, b: npt.ArrayLike) -> bool:
    """Whether two masks overlap or have pixels that share a face, edge or corner.

    Raises:
        GeometryError: the shapes differ, not 2-D or 3-D, or a value other than 0 and 1.
    """
    first, second = _same_shape(a, b)
    box = _near(first, second)
    if box is None:
        return False
    grown = first[box]
    for axis in range(grown.ndim):
        steps = np.pad(grown, [(int(i == axis),) * 2 for i in range(grown.ndim)])
        steps = np.moveaxis(steps, axis, 0)
        grown = np.moveaxis(steps[:-2] | steps[1:-1] | steps[2:], 0, axis)
    return bool((grown & second[box]).any())


def border_px(mask: npt.ArrayLike) -> int:
    """Number of pixel faces along a mask's border: its length in 2-D, its area in 3-D.

    A staircase, and so longer than a smooth outline, in 2-D up to 4 / π times. Along the border of the image
    there is border of the mask too.

    Raises:
        GeometryError: not 2-D or 3-D, or a value other than 0 and 1.
    """
    return int(_border_faces(_mask(mask)).sum())


def shared_border_px(a: npt.ArrayLike, b: npt.ArrayLike) -> int:
    """Number of pixel faces along the border of `a` that have `b` right behind them.

    The same both ways where the masks do not overlap. Where they do, the border of `a` that lies inside `b`
    counts, so that it matters which comes first.

    Raises:
        GeometryError: the shapes differ, not 2-D or 3-D, or a value other than 0 and 1.
    """
    return int(_shared_faces(*_same_shape(a, b)).sum())


def enclosure(inner: npt.ArrayLike, outer: npt.ArrayLike, spacing_mm: Spacing = None) -> float:
    """Share of the inner organ's border that has the outer one right behind it, in 0..1.

    1 for a left ventricle all round in its myocardium; what lies on the border of the image is not enclosed.
    NaN where `inner` is empty, 0 where only `outer` is.

    Args:
        inner: 2-D or 3-D mask.
        outer: mask of the same shape.
        spacing_mm: one number or (x, y[, z]) weighs the faces by their size; None counts them.

    Raises:
        GeometryError: the shapes differ, not 2-D or 3-D, a value other than 0 and 1, or a spacing that is
            not positive.
    """
    first, second = _same_shape(inner, outer)
    spacing = axis_spacing(spacing_mm, first.ndim)
    # The face across an axis is as large as the spacings of the other axes make it.
    weights = spacing.prod() / spacing
    whole = float(_border_faces(first) @ weights)
    return float(_shared_faces(first, second) @ weights) / whole if whole else float("nan")


def area_ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Area of one mask over that of another, in 3-D their volumes; NaN where `b` is empty.

    Raises:
        GeometryError: the shapes differ, not 2-D or 3-D, or a value other than 0 and 1.
    """
    above, below = (np.count_nonzero(array) for array in _same_shape(a, b))
    return above / below if below else float("nan")


@dataclass(frozen=True)
class CardiothoracicLines:
    """The two widths that the cardiothoracic ratio compares, as horizontal lines for pictures.

    A line runs between the outermost points, at the height midway between them.

    Attributes:
        heart: left and right end, (x, y) each, in pixels; pixel centres are whole numbers.
        thorax: the same of both lungs together.
    """

    heart: Line
    thorax: Line

    @property
    def widths_px(self) -> tuple[float, float]:
        """Width of the heart and of the thorax in pixels."""
        return self.heart[1][0] - self.heart[0][0], self.thorax[1][0] - self.thorax[0][0]

    @property
    def ratio(self) -> float:
        """Width of the heart over width of the thorax."""
        heart, thorax = self.widths_px
        return heart / thorax


def cardiothoracic_lines(
    masks: Masks | None = None, *, landmarks: Mapping[str, npt.ArrayLike] | None = None
) -> CardiothoracicLines | None:
    """The outermost points of the heart and of the lungs, whose distances along x the ratio compares.

    Args:
        masks: organ -> mask (H, W); ``heart``, and ``lungs`` or ``lung_right`` and ``lung_left``. Widths run
            between the centres of the outermost pixels.
        landmarks: organ -> (N, 2) pixels (x, y), in place of masks.

    Returns:
        The two lines; None where the heart or a lung is empty, or the thorax has no width.

    Raises:
        ConfigError: both masks and landmarks are given, or neither.
        DataError: an organ is not given.
        GeometryError: the masks differ in shape, are not 2-D, or landmarks are not (N, 2) and finite.
    """
    if (masks is None) == (landmarks is None):
        raise ConfigError("the cardiothoracic ratio takes masks or landmarks, one of the two.")
    given: Masks = masks if masks is not None else landmarks or {}
    lungs = ["lungs"] if "lungs" in given else ["lung_right", "lung_left"]
    absent = [organ for organ in ("heart", *lungs) if organ not in given]
    if absent:
        raise DataError(f"the cardiothoracic ratio needs {absent[0]}; given are {', '.join(given)}.")
    organs = [given[organ] for organ in ("heart", *lungs)]
    if masks is not None:
        points = [_side_pixels(mask) for mask in _same_shape(*organs, dims=(2,))]
    else:
        points = [_points(each) for each in organs]
    if not all(len(each) for each in points):
        return None
    lines = CardiothoracicLines(_line(points[0]), _line(np.concatenate(points[1:])))
    return lines if lines.widths_px[1] > 0 else None


def chest_lines(
    masks: Masks | None = None, *, landmarks: Mapping[str, npt.ArrayLike] | None = None
) -> CardiothoracicLines | None:
    """`cardiothoracic_lines` of any organs; None where the heart or a lung is not among them either."""
    given = masks if masks is not None else landmarks or {}
    lungs = {"lungs"} if "lungs" in given else {"lung_right", "lung_left"}
    return cardiothoracic_lines(masks, landmarks=landmarks) if {"heart", *lungs} <= set(given) else None


def cardiothoracic_ratio(
    masks: Masks | None = None, *, landmarks: Mapping[str, npt.ArrayLike] | None = None
) -> float:
    """Width of the heart over width of the thorax, from the outermost points of heart and lungs.

    On supine and anteroposterior images the heart is magnified, and the usual limit of 0.5 does not hold.

    Args:
        masks: see `cardiothoracic_lines`, which also says where the widths lie.
        landmarks: see there.

    Returns:
        The ratio; NaN where the heart or a lung is empty, or the thorax has no width.

    Raises:
        ConfigError, DataError, GeometryError: see `cardiothoracic_lines`.
    """
    lines = cardiothoracic_lines(masks, landmarks=landmarks)
    return float("nan") if lines is None else lines.ratio


def _side_pixels(mask: Mask) -> npt.NDArray[np.float64]:
    """The pixels (x, y) in the first and in the last column of a mask; (0, 2) where it is empty."""
    columns = np.flatnonzero(mask.any(0))[[0, -1]] if mask.any() else np.zeros(0, int)
    sides = [(x, y) for x in columns for y in np.flatnonzero(mask[:, x])]
    return np.array(sides, np.float64).reshape(-1, 2)


def _line(points: npt.NDArray[np.float64]) -> Line:
    """From the leftmost to the rightmost of points (N, 2); several at one side count by their mean height."""
    ends = (points[:, 0].min(), points[:, 0].max())
    height = float(np.mean([points[points[:, 0] == x, 1].mean() for x in ends]))
    return (float(ends[0]), height), (float(ends[1]), height)


def _mask(mask: npt.ArrayLike, dims: tuple[int, ...] = (2, 3)) -> Mask:
    array = as_mask(mask)
    if array.ndim not in dims:
        raise GeometryError(f"this is measured in {dims[0]}-D, and the mask is {array.shape}.")
    return array


def _same_shape(*masks: npt.ArrayLike, dims: tuple[int, ...] = (2, 3)) -> list[Mask]:
    arrays = [_mask(mask, dims) for mask in masks]
    shapes = dict.fromkeys(array.shape for array in arrays)
    if len(shapes) > 1:
        raise GeometryError(f"masks of one image have one shape, not {' and '.join(map(str, shapes))}.")
    return arrays


def _points(points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = as_array(points).astype(np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise GeometryError(f"landmarks must be finite and (N, 2), not {array.shape}.")
    return array


def _cropped(mask: Mask) -> Mask:
    box = shown_box(mask)
    return mask[(slice(0, 0),) * mask.ndim] if box is None else mask[box]


def _near(a: Mask, b: Mask) -> tuple[slice, ...] | None:
    """Slices around the place where two masks can be neighbours; None where they cannot."""
    first, second = shown_box(a), shown_box(b)
    if first is None or second is None:
        return None
    pairs = list(zip(first, second, strict=True))
    # One pixel more than where the boxes overlap: a neighbour may lie just outside.
    box = tuple(slice(max(p.start, q.start, 1) - 1, min(p.stop, q.stop) + 1) for p, q in pairs)
    return box if all(p.start <= q.stop and q.start <= p.stop for p, q in pairs) else None


def _border_faces(mask: Mask) -> npt.NDArray[np.intp]:
    """Number of faces between a mask and its outside across each axis of the array."""
    padded = np.pad(_cropped(mask), 1)
    return np.array([np.count_nonzero(np.diff(padded, axis=axis)) for axis in range(mask.ndim)])


def _shared_faces(first: Mask, second: Mask) -> npt.NDArray[np.intp]:
    """The same between a mask and what of another lies outside it."""
    faces = np.zeros(first.ndim, dtype=np.intp)
    box = _near(first, second)
    if box is None:
        return faces
    mask, behind = first[box], second[box] & ~first[box]
    for axis in range(mask.ndim):
        here, there = np.moveaxis(mask, axis, 0), np.moveaxis(behind, axis, 0)
        faces[axis] = np.count_nonzero(here[:-1] & there[1:]) + np.count_nonzero(here[1:] & there[:-1])
    return faces


def _parts(mask: Mask, *, corners: bool) -> int:
    if not mask.size:
        return 0
    if mask.ndim == 2:
        image = np.ascontiguousarray(mask).view(np.uint8)
        return int(cv2.connectedComponents(image, connectivity=8 if corners else 4)[0]) - 1
    from scipy import ndimage

    return int(ndimage.label(mask, np.ones((3, 3, 3)) if corners else None)[1])
