"""One prediction beside its reference, and the row of numbers that compares them.

Whatever is evaluated, a folder of files, a checkpoint on a data set, or a validation epoch, ends here, so
that the same two masks give the same numbers everywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError, GeometryError
from anatozoo.io.annotation import Annotation, join_pairs
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.metrics.contours import self_intersections
from anatozoo.metrics.functional import (
    Missing,
    SurfaceDistances,
    dice,
    landmark_distances,
    landmark_error_px,
    landmark_mse_px2,
    surface_distances,
)
from anatozoo.metrics.plausibility import components, holes

Rounding = Literal["truncate", "nearest"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Measures:
    """What is measured, and how.

    Attributes:
        missing: distance where an organ is in one of the two only: ``"worst"`` is the image's diagonal,
            ``"nan"`` leaves the case out, a number is taken as it is (in the column's unit).
        tolerance: of the normalised surface Dice, in millimetres where the spacing is known, else in pixels;
            None leaves that metric out.
        rounding: how contours meet the pixel grid: ``"truncate"`` towards zero, as in the published
            evaluations, or to the ``"nearest"`` pixel, as results are drawn.
        plausibility: count parts and holes of the predicted masks, and loops of the contours.
        distances: measure how far surfaces are apart, which takes most of the time.
    """

    missing: Missing = "worst"
    tolerance: float | None = None
    rounding: Rounding = "truncate"
    plausibility: bool = True
    distances: bool = True


OVERLAP = Measures(plausibility=False, distances=False)
"""Overlap of masks and errors of landmarks alone: what is quick enough for every validation of a fit."""


@dataclass(frozen=True, eq=False)
class Case:
    """A prediction beside its reference.

    Attributes:
        prediction: what was found.
        reference: what is there.
        image: grey values, (H, W) or (D, H, W), for pictures; None where there are none.
        numbers: further columns of the row, such as ``folding_percent``.
    """

    prediction: Annotation
    reference: Annotation
    image: npt.NDArray[Any] | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def case_row(case: Case, measures: Measures | None = None) -> Row:
    """The numbers of one case.

    Organs that both sides know are compared; an empty mask is known to be empty, an organ without mask and
    landmarks is not known. Where both sides have the landmarks of an organ, these are compared, and masks
    drawn from them.

    Returns:
        Columns ``METRIC/ORGAN`` and, for landmarks of all organs together, ``METRIC``:

        * ``dice``; ``hd_px``, ``hd95_px``, ``assd_px``, and the same in ``_mm`` where the spacing is known;
          ``nsd`` with a tolerance. NaN where the organ is in neither. Without `Measures.distances`, ``dice``
          alone.
        * ``missed``: 1 where the reference has the organ and the prediction has not, else 0; ``invented``:
          the reverse.
        * ``components``, ``holes`` of the predicted mask, NaN where it is empty, and ``self_intersections``
          of the predicted contour.
        * ``mse_px2``, its parts ``mse_px2/along`` the true contour, which leaves the outline as it is, and
          ``mse_px2/across`` it, ``mse_px2/lungs_heart`` without clavicles, ``error_px``, ``error95_px``.

        Where both lungs are known, they are compared together too, as ``lungs``; ``clavicles`` likewise.

    Raises:
        DataError: the two sides share no organ.
        GeometryError: they differ in size or in the number of an organ's landmarks.
    """
    how = measures or Measures()
    prediction, reference = case.prediction, case.reference
    if prediction.size != reference.size:
        raise GeometryError(
            f"prediction of {' x '.join(map(str, prediction.size))} pixels against a reference of "
            f"{' x '.join(map(str, reference.size))}; bring one to the other's grid first."
        )
    shared = [organ for organ in prediction.organs if organ in reference.organs]
    if not shared:
        raise DataError(
            f"the prediction has {', '.join(prediction.organs) or 'nothing'}, the reference "
            f"{', '.join(reference.organs) or 'nothing'}: no organ in common."
        )
    row: Row = {}
    marked = [organ for organ in shared if organ in prediction.landmarks and organ in reference.landmarks]
    if marked:
        row |= _landmark_columns(prediction.landmarks, reference.landmarks, marked)
    ours, truth = (_masks(side, shared, how.rounding) for side in (prediction, reference))
    spacing = reference.spacing_mm if reference.spacing_mm is not None else prediction.spacing_mm
    for organ in ours:
        row |= _mask_columns(organ, ours[organ], truth[organ], spacing, how)
        if how.plausibility:
            # An organ that was not found has no parts to count: 0 beside a 2 would look like a perfect 1.
            found = ours[organ].any()
            row[f"components/{organ}"] = components(ours[organ]) if found else math.nan
            row[f"holes/{organ}"] = holes(ours[organ]) if found else math.nan
    if how.plausibility:
        for organ in shared:
            if organ in prediction.landmarks:
                row[f"self_intersections/{organ}"] = self_intersections(prediction.landmarks[organ])
    return row | dict(case.numbers)


def case_numbers(case: Case, measures: Measures | None = None) -> Row:
    """`case_row`, or where the two sides share no organ, the case's other numbers alone.

    Raises:
        GeometryError: see `case_row`.
    """
    if set(case.prediction.organs) & set(case.reference.organs):
        return case_row(case, measures)
    return dict(case.numbers)


def mean_dice(
    prediction: Mapping[str, npt.NDArray[np.bool_]], reference: Mapping[str, npt.NDArray[np.bool_]]
) -> float:
    """Mean Dice of the organs whose masks both sides have; NaN where none of them is in either."""
    values = [dice(mask, reference[organ]) for organ, mask in prediction.items() if organ in reference]
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _landmark_columns(
    prediction: Mapping[str, npt.NDArray[np.float64]],
    reference: Mapping[str, npt.NDArray[np.float64]],
    organs: Sequence[str],
) -> Row:
    a, b = (np.concatenate([side[organ] for organ in organs]) for side in (prediction, reference))
    row = {
        "mse_px2": landmark_mse_px2(a, b),
        "error_px": landmark_error_px(a, b),
        "error95_px": float(np.percentile(landmark_distances(a, b), 95)),
    }
    # The squared error of a point is the sum of both parts; the published mean is over its two coordinates.
    along = np.concatenate([_along(prediction[organ], reference[organ]) for organ in organs])
    row["mse_px2/along"] = float(np.mean(along**2)) / 2
    row["mse_px2/across"] = row["mse_px2"] - row["mse_px2/along"]
    core = [organ for organ in organs if not organ.startswith("clavicle")]
    if core and core != list(organs):
        row["mse_px2/lungs_heart"] = landmark_mse_px2(
            *(np.concatenate([side[organ] for organ in core]) for side in (prediction, reference))
        )
    return row


def _along(points: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far landmarks (N, 2) slid along the true closed contour, (N,)."""
    tangent = np.roll(truth, -1, axis=0) - np.roll(truth, 1, axis=0)
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    return ((points - truth) * tangent / np.maximum(length, 1e-12)).sum(1)


def _masks(side: Annotation, organs: Sequence[str], rounding: Rounding) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of organs, drawn where there is only a contour, and of the pairs that they make up."""
    to_grid = np.trunc if rounding == "truncate" else np.rint
    masks = {
        organ: side.masks[organ]
        if organ in side.masks
        else draw_organ_mask(to_grid(side.landmarks[organ]), (side.size[0], side.size[1]))
        for organ in organs
    }
    return join_pairs(masks)


def _mask_columns(
    organ: str,
    prediction: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.bool_],
    spacing_mm: tuple[float, ...] | None,
    how: Measures,
) -> Row:
    row: Row = {f"dice/{organ}": dice(prediction, reference)}
    if how.distances:
        row |= _surface_columns(organ, surface_distances(prediction, reference), spacing_mm, how)
    here, there = bool(prediction.any()), bool(reference.any())
    return row | {f"missed/{organ}": int(there and not here), f"invented/{organ}": int(here and not there)}


def _surface_columns(
    organ: str, in_px: SurfaceDistances, spacing_mm: tuple[float, ...] | None, how: Measures
) -> Row:
    row: Row = {}
    units = {"px": in_px}
    if spacing_mm is not None:
        units["mm"] = in_px.in_mm(spacing_mm)
    for unit, distances in units.items():
        row[f"hd_{unit}/{organ}"] = distances.hausdorff(missing=how.missing)
        row[f"hd95_{unit}/{organ}"] = distances.hausdorff(95, missing=how.missing)
        row[f"assd_{unit}/{organ}"] = distances.assd(missing=how.missing)
    if how.tolerance is not None:
        # An organ that was not found has no surface within any tolerance, whatever its distance is taken for.
        row[f"nsd/{organ}"] = list(units.values())[-1].nsd(how.tolerance)
    return row
