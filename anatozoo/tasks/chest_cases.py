"""A radiograph's result and its reference on one grid, and the metrics that compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anatozoo.frames.geometry import Geometry
from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case, Measures, Row, case_row
from anatozoo.metrics.chest import FRAME, comparable, draw_masks, scale_points, to_frame

if TYPE_CHECKING:
    from anatozoo.io.chest import ChestCase
    from anatozoo.results.segmentation import SegmentationResult


def case_metrics(
    case: ChestCase,
    result: SegmentationResult,
    spacing_mm: float | None,
    measures: Measures,
    *,
    cut: bool = False,
) -> Row:
    """The metrics of one prediction, see `anatozoo.metrics.cases.case_row`.

    Args:
        case: the reference: its landmarks or else its masks.
        result: the prediction.
        spacing_mm: millimetres per pixel at 1024 pixels along the longer side; None takes the case's own.
        measures: what to measure.
        cut: draw organs without overlap, see `anatozoo.metrics.chest.exclusive`.
    """
    prediction, reference = case_sides(case, result, spacing_mm)
    return case_row(Case(*comparable(prediction, reference, measures.rounding, cut=cut)), measures)


def case_sides(
    case: ChestCase, result: SegmentationResult, spacing_mm: float | None
) -> tuple[Annotation, Annotation]:
    """Prediction and reference on one grid.

    Landmarks are compared with landmarks at 1024 x 1024, label maps with landmarks on the image. If the
    reference is masks, both lie on the masks' grid: predicted contours are drawn there, predicted label maps
    resampled by the nearest pixel.
    """

    def spacing(size: tuple[int, int]) -> tuple[float, float] | None:
        """Spacing of the case in an image of this size."""
        if spacing_mm is not None:
            return (spacing_mm * FRAME / max(size),) * 2
        if case.spacing_mm is None:
            return None
        x, y = (s * full / own for s, full, own in zip(case.spacing_mm, case.size, size, strict=True))
        return x, y

    if case.landmarks and result.landmarks:
        frame, points = (FRAME, FRAME), to_frame(result.landmarks, result.size)
        reference = Annotation(frame, to_frame(case.landmarks, case.size), spacing_mm=spacing(frame))
        return Annotation(frame, points), reference
    if case.landmarks:
        reference = Annotation(result.size, scale_points(case.landmarks, case.size, result.size))
        return Annotation(result.size, masks=result.masks, spacing_mm=spacing(result.size)), reference
    masks = {organ: case.read_mask(organ) for organ in case.masks}
    height, width = next(iter(masks.values())).shape
    size = (width, height)
    reference = Annotation(size, masks=masks, spacing_mm=spacing(size))
    if result.landmarks:
        drawn = draw_masks(result.landmarks, result.size, size)
        return Annotation(size, scale_points(result.landmarks, result.size, size), drawn), reference
    to_size = Geometry.fit(result.size, size, mode="stretch").mask_to_target
    return Annotation(size, masks={organ: to_size(m) for organ, m in result.masks.items()}), reference
