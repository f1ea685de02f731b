"""Distances between the surfaces of two masks, computed once: Hausdorff, mean distance, surface Dice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from anatozoo.errors import GeometryError

Missing = Literal["worst", "nan"] | float
Spacing = float | tuple[float, ...] | None


def as_array(x: ArrayLike) -> np.ndarray:
    """Array from an array, nested list or torch tensor on any device."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def as_mask(x: ArrayLike) -> np.ndarray:
    """Boolean array from a mask of booleans or zeros and ones.

    Raises:
        GeometryError: no pixels' axis, or a value other than 0 and 1 (a label map or a probability).
    """
    array = as_array(x)
    if array.ndim == 0 or array.size == 0:
        raise GeometryError(f"a mask of shape {array.shape} has no pixels.")
    if array.dtype == bool:
        return array
    mask = array == 1
    if not (mask | (array == 0)).all():
        raise GeometryError(
            "a mask holds only 0 and 1; compare one organ of a label map as `labels == value`."
        )
    return mask


def pair(prediction: ArrayLike, reference: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as booleans of one shape.

    Raises:
        GeometryError: the shapes differ, or `as_mask` refuses one.
    """
    a, b = as_mask(prediction), as_mask(reference)
    if a.shape != b.shape:
        raise GeometryError(f"masks of different shapes {a.shape} and {b.shape} cannot be compared.")
    return a, b


def axis_spacing(spacing_mm: Spacing, ndim: int) -> np.ndarray:
    """Spacing per axis of the array, which counts them the other way round: (x, y[, z]) -> (…, y, x).

    Returns:
        (ndim,) float64; ones where `spacing_mm` is None, so that distances stay in pixels.

    Raises:
        GeometryError: wrong length, or a value that is not a positive finite number.
    """
    if spacing_mm is None:
        return np.ones(ndim)
    values = np.atleast_1d(np.asarray(spacing_mm, dtype=np.float64))
    if values.size == 1:
        values = np.repeat(values, ndim)
    if values.shape != (ndim,) or not (np.isfinite(values) & (values > 0)).all():
        raise GeometryError(
            f"spacing {spacing_mm!r} must be {ndim} positive numbers (x, y[, z]) or one number."
        )
    return values[::-1]


def surface_points(mask: np.ndarray) -> np.ndarray:
    """Indices (n, ndim) of the pixels of a mask that touch its outside by a face.

    This is the mask without its erosion by the cross of 4 (in 3-D: 6) neighbours, as in medpy and MONAI. What
    lies beyond the image is outside, so that pixels on the image's border belong to the surface.
    """
    occupied = [np.flatnonzero(mask.any(tuple(set(range(mask.ndim)) - {axis}))) for axis in range(mask.ndim)]
    if not occupied[0].size:
        return np.empty((0, mask.ndim), dtype=np.intp)
    box = tuple(slice(index[0], index[-1] + 1) for index in occupied)
    padded = np.pad(mask[box], 1)
    core = (slice(1, -1),) * mask.ndim
    inner = padded[core].copy()
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            inner &= padded[(*core[:axis], shifted, *core[axis + 1 :])]
    return np.argwhere(padded[core] & ~inner) + [part.start for part in box]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between two surfaces, in pixels or, with a spacing, in millimetres.

    Attributes:
        to_reference: (n,) from each surface pixel of the prediction to the nearest of the reference.
        to_prediction: (m,) from each surface pixel of the reference to the nearest of the prediction.
        worst: the image's diagonal, which no distance can exceed.
        missing: one mask is empty and the other is not; the distances do not exist.
        absent: both masks are empty; there is nothing to measure and every metric is NaN.
    """

    to_reference: np.ndarray
    to_prediction: np.ndarray
    worst: float
    missing: bool
    absent: bool

    def hausdorff(self, percentile: float = 100.0, missing: Missing = "worst") -> float:
        """Hausdorff distance: the larger of the two directions' percentiles, as in MONAI.

        Pooling both directions before the percentile, as medpy's ``hd95`` does, gives another number.
        """
        if not 0 <= percentile <= 100:
            raise GeometryError(f"percentile {percentile} must lie in 0..100.")
        return self._read(
            lambda: max(
                np.percentile(self.to_reference, percentile), np.percentile(self.to_prediction, percentile)
            ),
            missing,
        )

    def mean_to_reference(self, missing: Missing = "worst") -> float:
        """Mean distance from the prediction's surface to the reference's."""
        return self._read(lambda: self.to_reference.mean(), missing)

    def mean_to_prediction(self, missing: Missing = "worst") -> float:
        """Mean distance from the reference's surface to the prediction's."""
        return self._read(lambda: self.to_prediction.mean(), missing)

    def assd(self, missing: Missing = "worst") -> float:
        """Average symmetric surface distance: mean over the surface pixels of both masks, as in MONAI."""
        return self._read(lambda: np.concatenate([self.to_reference, self.to_prediction]).mean(), missing)

    def nsd(self, tolerance: float, missing: Missing = "worst") -> float:
        """Normalised surface Dice: share of both surfaces that lies within `tolerance`; the worst is 0."""
        if not tolerance >= 0:
            raise GeometryError(f"tolerance {tolerance} must be at least 0.")
        both = np.concatenate([self.to_reference, self.to_prediction])
        return self._read(lambda: (both <= tolerance).mean(), missing, worst=0.0)

    def _read(self, value: Callable[[], np.floating], missing: Missing, worst: float | None = None) -> float:
        if self.absent:
            return float("nan")
        if not self.missing:
            return float(value())
        if missing == "worst":
            return self.worst if worst is None else worst
        if isinstance(missing, str) and missing != "nan":
            raise GeometryError(f"missing={missing!r} must be 'worst', 'nan' or a number.")
        return float(missing)


def surface_distances(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks; every surface metric reads from the result.

    Distances run between pixel centres. Only the surfaces' pixels enter, through k-d trees, so that the cost
    follows the contours' length and not the image's size.

    Args:
        prediction: mask (H, W) or (D, H, W), booleans or 0 and 1.
        reference: mask of the same shape.
        spacing_mm: millimetres per pixel, one number or (x, y[, z]); None measures in pixels.

    Raises:
        GeometryError: shapes differ, a value is neither 0 nor 1, or the spacing is not positive.
    """
    a, b = pair(prediction, reference)
    spacing = axis_spacing(spacing_mm, a.ndim)
    worst = float(np.linalg.norm(np.array(a.shape) * spacing))
    p, q = surface_points(a) * spacing, surface_points(b) * spacing
    none = np.empty(0)
    if not len(p) or not len(q):
        return SurfaceDistances(
            none, none, worst, missing=bool(len(p) or len(q)), absent=not len(p) and not len(q)
        )
    return SurfaceDistances(_nearest(p, q), _nearest(q, p), worst, missing=False, absent=False)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    # Surfaces are thin: a sliding-midpoint tree is built faster than a balanced one and answers as quickly.
    return cKDTree(others, balanced_tree=False).query(points)[0]
