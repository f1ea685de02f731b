"""Pure functions that compare a prediction with a reference: overlap, surface distances, landmarks.

Masks are (H, W) or (D, H, W), booleans or 0 and 1, as arrays or tensors. Lengths are in pixels; with a
spacing they are in millimetres. Where **both** masks are empty every metric is NaN: there is nothing to
measure, and the image belongs in no mean. Where **one** is empty, overlap is 0 and a distance follows
``missing``: ``"worst"``, the default, is the image's diagonal, so that finding less never scores better;
``"nan"`` and any number are accepted.

Several surface metrics of one pair cost as much as one: ask `surface_distances` once and read them from it.
"""

import numpy as np
from numpy.typing import ArrayLike

from anatozoo.errors import GeometryError
from anatozoo.metrics.surface import (
    Missing,
    Spacing,
    SurfaceDistances,
    as_array,
    axis_spacing,
    pair,
    surface_distances,
)

__all__ = [
    "Missing",
    "Spacing",
    "SurfaceDistances",
    "assd",
    "dice",
    "hausdorff",
    "iou",
    "landmark_distances",
    "landmark_error",
    "landmark_mse_px2",
    "mean_surface_distance",
    "nsd",
    "surface_distances",
]


def dice(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Dice coefficient ``2|A∩B| / (|A| + |B|)`` in 0..1; NaN where both are empty.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    a, b = pair(prediction, reference)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / total) if total else float("nan")


def iou(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Intersection over union ``|A∩B| / (|A| + |B| − |A∩B|)`` in 0..1; NaN where both are empty.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    a, b = pair(prediction, reference)
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else float("nan")


def hausdorff(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing_mm: Spacing = None,
    *,
    percentile: float = 100.0,
    missing: Missing = "worst",
) -> float:
    """Hausdorff distance between the masks' surfaces; the larger of the two directions' percentiles.

    Args:
        prediction: mask.
        reference: mask of the same shape.
        spacing_mm: one number or (x, y[, z]) gives millimetres; None gives pixels.
        percentile: 100 for the maximum, 95 for HD95.
        missing: value where exactly one mask is empty.

    Raises:
        GeometryError: shapes differ, a value is neither 0 nor 1, a spacing or percentile is out of range.
    """
    return surface_distances(prediction, reference, spacing_mm).hausdorff(percentile, missing)


def assd(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None, *, missing: Missing = "worst"
) -> float:
    """Average symmetric surface distance, over the surface pixels of both masks; arguments as `hausdorff`."""
    return surface_distances(prediction, reference, spacing_mm).assd(missing)


def mean_surface_distance(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None, *, missing: Missing = "worst"
) -> tuple[float, float]:
    """Mean distance from prediction to reference, and from reference to prediction; see `hausdorff`."""
    distances = surface_distances(prediction, reference, spacing_mm)
    return distances.mean_to_reference(missing), distances.mean_to_prediction(missing)


def nsd(
    prediction: ArrayLike,
    reference: ArrayLike,
    tolerance: float,
    spacing_mm: Spacing = None,
    *,
    missing: Missing = "worst",
) -> float:
    """Normalised surface Dice: share of the surface pixels of both masks within `tolerance` of the other's.

    Counts pixels, as MONAI does without sub-voxels, not surface area. The worst value is 0.

    Args:
        prediction: mask.
        reference: mask of the same shape.
        tolerance: in pixels, or in millimetres with a spacing; at least 0.
        spacing_mm: one number or (x, y[, z]).
        missing: value where exactly one mask is empty.

    Raises:
        GeometryError: shapes differ, a value is neither 0 nor 1, a spacing or tolerance is out of range.
    """
    return surface_distances(prediction, reference, spacing_mm).nsd(tolerance, missing)


def landmark_distances(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None) -> np.ndarray:
    """Distance of each landmark from its reference: (N,) float64, pixels or, with a spacing, millimetres.

    Args:
        prediction: (N, 2) or (N, 3) coordinates (x, y[, z]).
        reference: coordinates of the same shape.
        spacing_mm: one number or (x, y[, z]).

    Raises:
        GeometryError: shapes differ, there is no landmark, or a spacing is not positive.
    """
    difference = _landmark_difference(prediction, reference)
    return np.linalg.norm(difference * axis_spacing(spacing_mm, difference.shape[1])[::-1], axis=1)


def landmark_error(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None) -> float:
    """Mean of `landmark_distances`."""
    return float(landmark_distances(prediction, reference, spacing_mm).mean())


def landmark_mse_px2(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Mean squared difference over all coordinates, in squared pixels: half the mean squared distance in 2-D.

    The number that the HybridGNet papers report, at 1024 x 1024 pixels.

    Raises:
        GeometryError: shapes differ or there is no landmark.
    """
    return float(np.square(_landmark_difference(prediction, reference)).mean())


def _landmark_difference(prediction: ArrayLike, reference: ArrayLike) -> np.ndarray:
    a, b = (as_array(x).astype(np.float64) for x in (prediction, reference))
    if a.shape != b.shape or a.ndim != 2 or not len(a) or a.shape[1] not in (2, 3):
        raise GeometryError(
            f"landmarks of shapes {a.shape} and {b.shape}: both must be (N, 2) or both (N, 3)."
        )
    return a - b
