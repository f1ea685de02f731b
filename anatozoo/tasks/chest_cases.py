"""A radiograph's result beside what its data set says, on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from anatozoo.data.case import METADATA
from anatozoo.errors import ConfigError
from anatozoo.frames.geometry import Geometry
from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case, Row
from anatozoo.metrics.chest import FRAME, comparable, draw_masks, scale_points, to_frame
from anatozoo.metrics.tables import with_facts
from anatozoo.results.contours import ContourResult
from anatozoo.results.votes import Votes
from anatozoo.tasks.trials import Judge, Trial

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.data.case import Drawn
    from anatozoo.results.segmentation import SegmentationResult
    from anatozoo.tasks.trials import Conditions


def identity_of(case: DataCase) -> Row:
    """``id``, ``patient``, ``split``, ``dataset``, ``sex``, ``age`` and ``view``, None where unknown.

    Then the case's other facts, such as the further columns of a manifest.
    """
    known = {"id": case.id, "patient": case.subject, "split": case.split, "dataset": case.domain}
    known |= {name: case.facts.get(name) for name in METADATA}
    return with_facts(known, {name: fact for name, fact in case.facts.items() if name not in METADATA})


def chest_trials(
    cases: Sequence[DataCase],
    how: Conditions,
    read: Callable[[DataCase, Conditions], tuple[Any, Judge]],
) -> list[Trial]:
    """A trial for each radiograph.

    Args:
        cases: the radiographs.
        how: conditions of the evaluation.
        read: reads what the model is given of a case, and says what makes a case of its answer.

    Raises:
        ConfigError: the spacing of the conditions is more than one number.
    """
    if how.spacing_mm is not None and len(how.spacing_mm) > 1:
        raise ConfigError("the spacing of radiographs is one number, that at 1024 x 1024.")
    return [Trial(identity_of(case), partial(read, case, how)) for case in cases]


def compared(drawn: Drawn, result: SegmentationResult, how: Conditions) -> Case:
    """Prediction and reference by the same rules, see `anatozoo.metrics.chest.comparable`.

    Args:
        drawn: the reference: its landmarks or else its masks.
        result: the prediction.
        how: a spacing is that where the longer side has 1024 pixels, None takes the case's own; whether
            organs are drawn without overlap.
    """
    spacing_mm = None if how.spacing_mm is None else how.spacing_mm[0]
    prediction, reference = case_sides(drawn, result, spacing_mm)
    numbers = spread_numbers(result, max(prediction.size) / max(result.size))
    sides = comparable(prediction, reference, how.measures.rounding, cut=how.exclusive)
    return Case(*sides, numbers=numbers)


def spread_numbers(result: SegmentationResult, scale: float = 1.0) -> dict[str, float]:
    """``sigma_px``, the mean standard deviation of a result's landmarks, and that of each organ.

    Of ensembles' label maps ``disagreement``, see `anatozoo.results.votes.Votes`.

    Args:
        result: a result; without samples of the latent code or members there are no numbers.
        scale: pixels of the comparison for each pixel of the result.
    """
    if isinstance(result, Votes):
        return result.votes_row()
    if not isinstance(result, ContourResult) or result.sigma_px is None or result.organ_sigma_px is None:
        return {}
    organs = {f"sigma_px/{organ}": value * scale for organ, value in result.organ_sigma_px.items()}
    return {"sigma_px": result.sigma_px * scale} | organs


def case_sides(
    drawn: Drawn, result: SegmentationResult, spacing_mm: float | None
) -> tuple[Annotation, Annotation]:
    """Prediction and reference on one grid.

    Landmarks meet landmarks at 1024 x 1024, label maps meet landmarks on the image, and where the reference
    is masks, or outlines without landmarks, both are on the masks' own grid: predicted contours are drawn
    there to the nearest pixel, predicted label maps are brought there by their nearest pixels.
    """
    full = (drawn.grid.size[0], drawn.grid.size[1])
    points = {organ: each for organ, each in drawn.landmarks.items() if organ not in drawn.free}

    def spacing(size: tuple[int, int]) -> tuple[float, float] | None:
        """Spacing of the case in an image of this size."""
        if spacing_mm is not None:
            return (spacing_mm * FRAME / max(size),) * 2
        if drawn.grid.spacing_mm is None:
            return None
        x, y = (s * whole / own for s, whole, own in zip(drawn.grid.spacing_mm, full, size, strict=True))
        return x, y

    if points and result.landmarks:
        frame, found = (FRAME, FRAME), to_frame(result.landmarks, result.size)
        return Annotation(frame, found), Annotation(frame, to_frame(points, full), spacing_mm=spacing(frame))
    if points:
        reference = Annotation(result.size, scale_points(points, full, result.size))
        return Annotation(result.size, masks=result.masks, spacing_mm=spacing(result.size)), reference
    width, height = drawn.masks_grid().size
    size = (width, height)
    masks = {organ: drawn.mask(organ, size) for organ in (*drawn.masks, *drawn.free)}
    reference = Annotation(size, masks=masks, spacing_mm=spacing(size))
    if result.landmarks:
        found_masks = draw_masks(result.landmarks, result.size, size)
        return Annotation(size, scale_points(result.landmarks, result.size, size), found_masks), reference
    to_size = Geometry.fit(result.size, size, mode="stretch").mask_to_target
    return Annotation(size, masks={organ: to_size(m) for organ, m in result.masks.items()}), reference
