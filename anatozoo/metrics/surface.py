"""Distances between the surfaces of two masks, computed once: Hausdorff, mean distance, surface Dice."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from anatozoo.errors import GeometryError
from anatozoo.io.annotation import shown_box

Missing = Literal["worst", "nan"] | float
Spacing = float | tuple[float, ...] | None
Unit = Literal["px", "mm"]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

_PIXELS_PER_POINT = 6
"""Below so many pixels per surface pixel, a distance transform is quicker than k-d trees; it was measured."""


def as_array(x: ArrayLike) -> npt.NDArray[Any]:
    """Array from an array, nested list or torch tensor on any device; bfloat16 becomes float32."""
    if hasattr(x, "detach"):
        tensor = x.detach().cpu()
        return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)
    return np.asarray(x)


def as_mask(x: ArrayLike) -> Mask:
    """Boolean array from a mask of booleans or zeros and ones.

    Raises:
        GeometryError: not (H, W) or (D, H, W), no pixels, or a value other than 0 and 1: a label map, a
            probability or NaN.
    """
    array = as_array(x)
    if array.size == 0:
        raise GeometryError(f"a mask of shape {array.shape} has no pixels.")
    if array.ndim not in (2, 3):
        raise GeometryError(
            f"a mask is (H, W) or (D, H, W), not {array.shape}; compare the images of a batch one by one."
        )
    if array.dtype == bool:
        return array
    if array.dtype.kind in "iu":
        mask, binary = array.astype(bool), array.min() >= 0 and array.max() <= 1
    else:
        mask = array == 1
        binary = bool((mask | (array == 0)).all())
    if not binary:
        raise GeometryError(
            "a mask holds only 0 and 1; compare one organ of a label map as `labels == value`, or all with "
            "`per_class`, and a probability as `probability > 0.5`."
        )
    return mask


def pair(prediction: ArrayLike, reference: ArrayLike) -> tuple[Mask, Mask]:
    """Both masks as booleans of one shape.

    Raises:
        GeometryError: the shapes differ, or `as_mask` refuses one.
    """
    a, b = as_mask(prediction), as_mask(reference)
    if a.shape != b.shape:
        raise GeometryError(f"masks of different shapes {a.shape} and {b.shape} cannot be compared.")
    return a, b


def axis_spacing(spacing_mm: Spacing, ndim: int) -> Floats:
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


def known_spacing(spacing_mm: Spacing, ndim: int) -> Floats:
    """`axis_spacing` for what is asked for in millimetres.

    Raises:
        GeometryError: the spacing is None, or `axis_spacing` refuses it.
    """
    if spacing_mm is None:
        raise GeometryError(
            "millimetres need the spacing of the pixels, which is unknown here: give spacing_mm, or measure "
            "in pixels."
        )
    return axis_spacing(spacing_mm, ndim)


def surface_points(mask: Mask) -> Indices:
    """Indices (n, ndim) of the pixels of a mask that touch its outside by a face.

    This is the mask without its erosion by the cross of 4 (in 3-D: 6) neighbours, as in medpy and MONAI. What
    lies beyond the image is outside, so that pixels on the image's border belong to the surface.
    """
    place = shown_box(mask)
    if place is None:
        return np.empty((0, mask.ndim), dtype=np.intp)
    box, corner = mask[place], np.array([part.start for part in place], dtype=np.intp)
    inner = np.zeros_like(box)
    core = (slice(1, -1),) * mask.ndim
    inner[core] = box[core]
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            inner[core] &= box[(*core[:axis], shifted, *core[axis + 1 :])]
    # `argwhere` needs ten times as long.
    surface = np.unravel_index(np.flatnonzero(box & ~inner), box.shape)
    return np.stack(surface, axis=1) + corner


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between two surfaces, in pixels or in millimetres.

    The surface is the centres of the mask's outermost pixels. Libraries that lay a surface between the pixels
    (DeepMind's surface-distance, MONAI with ``use_subvoxels``) weigh its elements by their area and give
    numbers that differ by fractions of a pixel.

    Attributes:
        to_reference: (n,) from each surface pixel of the prediction to the nearest of the reference.
        to_prediction: (m,) from each surface pixel of the reference to the nearest of the prediction.
        worst: the image's diagonal, which no distance can exceed.
        missing: one mask is empty and the other is not; the distances do not exist.
        absent: both masks are empty; there is nothing to measure and every metric is NaN.
        unit: ``"px"`` or ``"mm"``, of all that is read from here.
        shape: of the masks.
        surfaces: indices (n, ndim) and (m, ndim) of both surfaces' pixels.
    """

    to_reference: Floats
    to_prediction: Floats
    worst: float
    missing: bool
    absent: bool
    unit: Unit
    shape: tuple[int, ...]
    surfaces: tuple[Indices, Indices]

    def hausdorff(self, percentile: float = 100.0, missing: Missing = "worst") -> float:
        """Hausdorff distance: the larger of the two directions' percentiles, as in MONAI.

        Percentiles between two distances are interpolated linearly. Pooling both directions before the
        percentile, as medpy's ``hd95`` does, gives another number, usually a smaller one.

        Raises:
            GeometryError: `percentile` is not in 0..100, or `missing` is unknown.
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
        """Average symmetric surface distance: mean over the surface pixels of both masks, as in MONAI.

        The mean of both directions' means, as in medpy, is another number where the surfaces differ in size.
        """
        return self._read(lambda: np.concatenate([self.to_reference, self.to_prediction]).mean(), missing)

    def nsd(self, tolerance: float, missing: Missing = "worst") -> float:
        """Normalised surface Dice: share of both surfaces that lies within `tolerance`; the worst is 0.

        Nikolov et al., "Clinically applicable segmentation of head and neck anatomy", 2021, with pixels
        counted instead of areas.

        Raises:
            GeometryError: `tolerance`, in `unit`, is negative or NaN, or `missing` is unknown.
        """
        if not tolerance >= 0:
            raise GeometryError(f"tolerance {tolerance} must be at least 0.")
        both = np.concatenate([self.to_reference, self.to_prediction])
        return self._read(lambda: (both <= tolerance).mean(), missing, worst=0.0)

    def in_mm(self, spacing_mm: Spacing) -> "SurfaceDistances":
        """The same surfaces in millimetres; where pixels are square it costs next to nothing.

        Args:
            spacing_mm: millimetres per pixel, one number or (x, y[, z]).

        Raises:
            GeometryError: these are millimetres already, or the spacing is None or not positive.
        """
        if self.unit == "mm":
            raise GeometryError("these distances are in millimetres already.")
        spacing = known_spacing(spacing_mm, len(self.shape))
        if (spacing != spacing[0]).any():
            return _measure(self.surfaces, self.shape, spacing, "mm")
        scale = float(spacing[0])
        return replace(
            self,
            to_reference=self.to_reference * scale,
            to_prediction=self.to_prediction * scale,
            worst=self.worst * scale,
            unit="mm",
        )

    def _read(self, value: Callable[[], np.floating], missing: Missing, worst: float | None = None) -> float:
        if isinstance(missing, str) and missing not in ("worst", "nan"):
            raise GeometryError(f"missing={missing!r} must be 'worst', 'nan' or a number.")
        if self.absent:
            return float("nan")
        if not self.missing:
            return float(value())
        if missing == "worst":
            return self.worst if worst is None else worst
        return float(missing)


def surface_distances(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks; every surface metric reads from the result.

    Distances run between pixel centres. The cost follows the contours' length and not the image's size.

    Args:
        prediction: mask (H, W) or (D, H, W), booleans or 0 and 1.
        reference: mask of the same shape.
        spacing_mm: millimetres per pixel, one number or (x, y[, z]); None measures in pixels. The result's
            `unit` says which it is; for both, measure in pixels and ask that for `in_mm`.

    Raises:
        GeometryError: shapes differ, a value is neither 0 nor 1, or the spacing is not positive.
    """
    a, b = pair(prediction, reference)
    spacing = axis_spacing(spacing_mm, a.ndim)
    surfaces = surface_points(a), surface_points(b)
    return _measure(surfaces, a.shape, spacing, "px" if spacing_mm is None else "mm")


def _measure(
    surfaces: tuple[Indices, Indices], shape: tuple[int, ...], spacing: Floats, unit: Unit
) -> SurfaceDistances:
    found = [bool(len(surface)) for surface in surfaces]
    there, back = _nearest(*surfaces, spacing) if all(found) else (np.empty(0), np.empty(0))
    return SurfaceDistances(
        there,
        back,
        worst=float(np.linalg.norm(np.array(shape) * spacing)),
        missing=any(found) and not all(found),
        absent=not any(found),
        unit=unit,
        shape=shape,
        surfaces=surfaces,
    )


def _nearest(p: Indices, q: Indices, spacing: Floats) -> tuple[Floats, Floats]:
    """Distance of each pixel of either list to the nearest of the other, (n,) and (m,)."""
    low = np.minimum(p.min(0), q.min(0))
    extent = np.maximum(p.max(0), q.max(0)) - low + 1
    if extent.prod() < _PIXELS_PER_POINT * (len(p) + len(q)):
        p, q = p - low, q - low
        return _by_transform(p, q, extent, spacing), _by_transform(q, p, extent, spacing)
    there, back = p * spacing, q * spacing
    return _by_tree(there, back), _by_tree(back, there)


def _by_tree(points: Floats, others: Floats) -> Floats:
    # Surfaces are thin: a sliding-midpoint tree is built faster than a balanced one and answers as quickly.
    from scipy.spatial import cKDTree  # only here: predictions need no distances, and start sooner

    distances: Floats = cKDTree(others, balanced_tree=False).query(points)[0]
    return distances


def _by_transform(points: Indices, others: Indices, extent: Indices, spacing: Floats) -> Floats:
    # Noise fills a mask with surface, and a tree of all its pixels is slow. The transform gives the nearest
    # pixels' places, which need less memory than distances from everywhere.
    free = np.ones(extent, dtype=bool)
    free[tuple(others.T)] = False
    from scipy import ndimage as ndi

    nearest = ndi.distance_transform_edt(free, sampling=spacing, return_distances=False, return_indices=True)
    away = points - nearest[(slice(None), *points.T)].T
    distances: Floats = np.linalg.norm(away * spacing, axis=1)
    return distances
