"""Distances between corresponding landmarks.

Landmarks are (N, 2) or (N, 3) coordinates (x, y[, z]) in pixels, as arrays or tensors; number i of the
prediction belongs to number i of the reference. All raise `GeometryError` where shapes differ, there is no
landmark, or a coordinate is NaN or infinite: leave out what was not annotated on both sides.
"""

import numpy as np
from numpy.typing import ArrayLike

from anatozoo.errors import GeometryError
from anatozoo.metrics.surface import Floats, Spacing, as_array, axis_spacing, known_spacing


def landmark_distances(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None) -> Floats:
    """Distance of each landmark from its reference: (N,) float64, pixels or, with a spacing, millimetres.

    Args:
        prediction: (N, 2) or (N, 3) coordinates (x, y[, z]) in pixels.
        reference: coordinates of the same shape.
        spacing_mm: millimetres per pixel, one number or (x, y[, z]).

    Raises:
        GeometryError: shapes differ, there is no landmark, a coordinate is not finite, or a spacing is not
            positive.
    """
    difference = _difference(prediction, reference)
    distances: Floats = np.linalg.norm(
        difference * axis_spacing(spacing_mm, difference.shape[1])[::-1], axis=1
    )
    return distances


def landmark_error_px(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Mean distance of the landmarks from their references, in pixels."""
    return float(landmark_distances(prediction, reference).mean())


def landmark_error_mm(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing) -> float:
    """Mean distance of the landmarks from their references, in millimetres; the spacing must be known."""
    return float(_in_mm(prediction, reference, spacing_mm).mean())


def landmark_percentile_px(prediction: ArrayLike, reference: ArrayLike, percentile: float) -> float:
    """Percentile, 0..100, of the landmarks' distances in pixels; between two of them linearly."""
    return _percentile(landmark_distances(prediction, reference), percentile)


def landmark_percentile_mm(
    prediction: ArrayLike, reference: ArrayLike, percentile: float, spacing_mm: Spacing
) -> float:
    """Percentile, 0..100, of the landmarks' distances in millimetres; the spacing must be known."""
    return _percentile(_in_mm(prediction, reference, spacing_mm), percentile)


def landmark_mse_px2(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Mean squared difference over all coordinates, in squared pixels: half the mean squared distance in 2-D.

    The number that the HybridGNet papers report, at 1024 x 1024 pixels.
    """
    return float(np.square(_difference(prediction, reference)).mean())


def landmark_mse_mm2(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing) -> float:
    """`landmark_mse_px2` in squared millimetres; the spacing must be known."""
    difference = _difference(prediction, reference)
    return float(np.square(difference * known_spacing(spacing_mm, difference.shape[1])[::-1]).mean())


def _difference(prediction: ArrayLike, reference: ArrayLike) -> Floats:
    a, b = (as_array(x).astype(np.float64) for x in (prediction, reference))
    if a.shape != b.shape or a.ndim != 2 or not len(a) or a.shape[1] not in (2, 3):
        raise GeometryError(
            f"landmarks of shapes {a.shape} and {b.shape}: both must be (N, 2) or both (N, 3)."
        )
    known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    if not known.all():
        odd = ", ".join(map(str, np.flatnonzero(~known)[:8]))
        raise GeometryError(f"landmarks number {odd} are not finite; leave them out on both sides.")
    difference: Floats = a - b
    return difference


def _in_mm(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing) -> Floats:
    known_spacing(spacing_mm, _difference(prediction, reference).shape[1])
    return landmark_distances(prediction, reference, spacing_mm)


def _percentile(distances: Floats, percentile: float) -> float:
    if not 0 <= percentile <= 100:
        raise GeometryError(f"percentile {percentile} must lie in 0..100.")
    return float(np.percentile(distances, percentile))
