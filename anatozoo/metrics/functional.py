"""Pure functions that measure a prediction, all in one place.

Overlap, surfaces, landmarks, contours, plausibility, calibration, and of displacement fields folding,
smoothness and errors; these last need torch, which is imported when one of them is asked for.

Masks are (H, W) or (D, H, W), booleans or 0 and 1, as arrays or tensors; `per_class` applies any metric of
masks to two label maps. Units stand in names: ``_px`` needs no spacing, and ``_mm`` (``_mm2``, ``_ml``)
refuses to work without one, since an unknown spacing is not 1.

Where **both** masks are empty every metric is NaN: there is nothing to measure, and the image belongs in no
mean. Where **one** is empty, overlap is 0 and a distance follows ``missing``: ``"worst"``, the default, is
the image's diagonal, so that finding less never scores better; ``"nan"`` and any number are accepted.

Several surface metrics of one pair cost as much as one: ask `surface_distances` once and read them from it,
in pixels and by `SurfaceDistances.in_mm` in millimetres.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from anatozoo.errors import GeometryError
from anatozoo.metrics.calibration import brier, ece, nll
from anatozoo.metrics.contours import (
    ContourDistances,
    contour_distance_mm,
    contour_distance_px,
    contour_distances,
    contour_hausdorff_mm,
    contour_hausdorff_px,
    self_intersections,
)
from anatozoo.metrics.landmarks import (
    landmark_distances,
    landmark_error_mm,
    landmark_error_px,
    landmark_mse_mm2,
    landmark_mse_px2,
    landmark_percentile_mm,
    landmark_percentile_px,
)
from anatozoo.metrics.overlap import (
    area_error_mm2,
    dice,
    iou,
    per_class,
    precision,
    relative_size_error,
    sensitivity,
    size_error_px,
    volume_error_ml,
)
from anatozoo.metrics.plausibility import (
    area_ratio,
    border_px,
    cardiothoracic_lines,
    cardiothoracic_ratio,
    centroid,
    components,
    enclosure,
    holes,
    organ_masks,
    organ_order,
    shared_border_px,
    touching,
)
from anatozoo.metrics.surface import (
    Missing,
    Spacing,
    SurfaceDistances,
    Unit,
    known_spacing,
    surface_distances,
)

REGISTRATION = (
    "folding_fraction",
    "inverse_consistency_error_mm",
    "inverse_consistency_error_px",
    "log_jacobian_sd",
    "moved_landmarks",
    "smoothness",
    "target_registration_error_mm",
    "target_registration_error_px",
)

__all__ = [
    "ContourDistances",
    "Missing",
    "Spacing",
    "SurfaceDistances",
    "Unit",
    "area_error_mm2",
    "area_ratio",
    "assd_mm",
    "assd_px",
    "border_px",
    "brier",
    "cardiothoracic_lines",
    "cardiothoracic_ratio",
    "centroid",
    "components",
    "contour_distance_mm",
    "contour_distance_px",
    "contour_distances",
    "contour_hausdorff_mm",
    "contour_hausdorff_px",
    "dice",
    "ece",
    "enclosure",
    "hausdorff_mm",
    "hausdorff_px",
    "holes",
    "iou",
    "landmark_distances",
    "landmark_error_mm",
    "landmark_error_px",
    "landmark_mse_mm2",
    "landmark_mse_px2",
    "landmark_percentile_mm",
    "landmark_percentile_px",
    "nll",
    "nsd",
    "organ_masks",
    "organ_order",
    "per_class",
    "precision",
    "relative_size_error",
    "self_intersections",
    "sensitivity",
    "shared_border_px",
    "size_error_px",
    "surface_distances",
    "touching",
    "volume_error_ml",
]


def __getattr__(name: str) -> Any:
    if name not in REGISTRATION:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from anatozoo.metrics import registration

    return getattr(registration, name)


def hausdorff_px(
    prediction: ArrayLike, reference: ArrayLike, *, percentile: float = 100.0, missing: Missing = "worst"
) -> float:
    """Hausdorff distance between masks' surfaces in pixels; the larger of the two directions' percentiles.

    Args:
        prediction: mask.
        reference: mask of the same shape.
        percentile: 100 for the maximum, 95 for HD95.
        missing: value where exactly one mask is empty.

    Raises:
        GeometryError: shapes differ, a value is neither 0 nor 1, a percentile is not in 0..100.
    """
    return surface_distances(prediction, reference).hausdorff(percentile, missing)


def hausdorff_mm(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing_mm: Spacing,
    *,
    percentile: float = 100.0,
    missing: Missing = "worst",
) -> float:
    """`hausdorff_px` in millimetres.

    Args:
        prediction: mask.
        reference: mask of the same shape.
        spacing_mm: millimetres per pixel, one number or (x, y[, z]).
        percentile: 100 for the maximum, 95 for HD95.
        missing: value where exactly one mask is empty; a number is in millimetres.

    Raises:
        GeometryError: as `hausdorff_px`, or the spacing is None or not positive.
    """
    return _in_mm(prediction, reference, spacing_mm).hausdorff(percentile, missing)


def assd_px(prediction: ArrayLike, reference: ArrayLike, *, missing: Missing = "worst") -> float:
    """Average symmetric surface distance in pixels, over all surface pixels of both; see `hausdorff_px`."""
    return surface_distances(prediction, reference).assd(missing)


def assd_mm(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing, *, missing: Missing = "worst"
) -> float:
    """`assd_px` in millimetres; arguments and errors as `hausdorff_mm`."""
    return _in_mm(prediction, reference, spacing_mm).assd(missing)


def nsd(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    tolerance_px: float | None = None,
    tolerance_mm: float | None = None,
    spacing_mm: Spacing = None,
    missing: Missing = "worst",
) -> float:
    """Normalised surface Dice: share of the surface pixels of both masks within a tolerance of the other's.

    Counts pixels, as MONAI does without sub-voxels, not surface area. In 0..1, without unit; the worst is 0.

    Args:
        prediction: mask.
        reference: mask of the same shape.
        tolerance_px: in pixels, at least 0; or
        tolerance_mm: in millimetres, at least 0.
        spacing_mm: one number or (x, y[, z]), with a tolerance in millimetres.
        missing: value where exactly one mask is empty.

    Raises:
        GeometryError: shapes differ, a value is neither 0 nor 1, not exactly one tolerance is given, the
            spacing is missing, not positive, or beside a tolerance in pixels.
    """
    if tolerance_mm is not None and tolerance_px is None:
        return _in_mm(prediction, reference, spacing_mm).nsd(tolerance_mm, missing)
    if tolerance_px is None or tolerance_mm is not None:
        raise GeometryError("give one tolerance, tolerance_px or tolerance_mm.")
    if spacing_mm is not None:
        raise GeometryError("a tolerance in pixels takes no spacing; give tolerance_mm with it.")
    return surface_distances(prediction, reference).nsd(tolerance_px, missing)


def _in_mm(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing) -> SurfaceDistances:
    known_spacing(spacing_mm, np.ndim(prediction))
    return surface_distances(prediction, reference, spacing_mm)
