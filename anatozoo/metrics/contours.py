"""Closed contours that are given by landmarks: distances between two of them, and whether one crosses itself.

A contour is (N, 2) vertices (x, y) in pixels, in order, the last joined to the first. Nothing is drawn: the
distances are between the lines themselves, so that they neither depend on an image's size nor stop at half a
pixel, as those between masks do. Two contours may have different numbers of vertices, and vertices need not
correspond.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from anatozoo.errors import GeometryError
from anatozoo.metrics.surface import Floats, Spacing, Unit, as_array, axis_spacing, known_spacing

_MOST_SAMPLES = 1_000_000
_PAIRS_AT_ONCE = 1 << 15


@dataclass(frozen=True, eq=False)
class ContourDistances:
    """Distances between two closed contours.

    Attributes:
        to_reference: (n,) from samples of the predicted contour to the nearest point of the reference.
        to_prediction: (m,) from samples of the reference to the nearest point of the prediction.
        lengths: (n,) and (m,) length of contour that each sample stands for.
        unit: ``"px"`` or ``"mm"``, of all that is read from here.
    """

    to_reference: Floats
    to_prediction: Floats
    lengths: tuple[Floats, Floats]
    unit: Unit

    def mean_to_reference(self) -> float:
        """Mean distance along the predicted contour to the reference."""
        return float(np.average(self.to_reference, weights=self.lengths[0]))

    def mean_to_prediction(self) -> float:
        """Mean distance along the reference to the predicted contour."""
        return float(np.average(self.to_prediction, weights=self.lengths[1]))

    def mean(self) -> float:
        """Mean distance over the length of both contours; what `SurfaceDistances.assd` is for masks."""
        both = np.concatenate([self.to_reference, self.to_prediction])
        return float(np.average(both, weights=np.concatenate(self.lengths)))

    def hausdorff(self, percentile: float = 100.0) -> float:
        """Hausdorff distance: the larger of the two directions' percentiles over length.

        The percentile is the smallest sampled distance that this share of the contour does not exceed.

        Raises:
            GeometryError: `percentile` is not in 0..100.
        """
        if not 0 <= percentile <= 100:
            raise GeometryError(f"percentile {percentile} must lie in 0..100.")
        sides = zip((self.to_reference, self.to_prediction), self.lengths, strict=True)
        return max(_weighted_percentile(distances, lengths, percentile) for distances, lengths in sides)


def contour_distances(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing = None, *, step_px: float = 0.5
) -> ContourDistances:
    """Measure how far two closed contours lie apart; every contour metric reads from the result.

    Each contour is sampled at its vertices and in between, and from each sample the distance to the other
    contour's nearest edge is exact. So the largest distance is too small by at most half a step, and usually
    by far less, since it tends to occur at a vertex; means are integrals by the trapezoidal rule.

    Args:
        prediction: (N, 2) vertices (x, y) in pixels.
        reference: (M, 2) vertices.
        spacing_mm: millimetres per pixel, one number or (x, y); None measures in pixels.
        step_px: largest distance between samples along an edge.

    Raises:
        GeometryError: a contour is not (N, 2) with at least three finite vertices, a spacing or step is not
            positive, or a contour is too long to be sampled at this step.
    """
    if not (np.isfinite(step_px) and step_px > 0):
        raise GeometryError(f"step_px {step_px} must be a positive number.")
    spacing = axis_spacing(spacing_mm, 2)[::-1]
    a, b = _closed_contour(prediction), _closed_contour(reference)
    (p, p_lengths), (q, q_lengths) = (_sampled(contour, spacing, step_px) for contour in (a, b))
    return ContourDistances(
        _to_contour(p, b * spacing),
        _to_contour(q, a * spacing),
        (p_lengths, q_lengths),
        "px" if spacing_mm is None else "mm",
    )


def contour_distance_px(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Mean distance between two closed contours in pixels, over both lengths; see `contour_distances`."""
    return contour_distances(prediction, reference).mean()


def contour_distance_mm(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing) -> float:
    """Mean distance between two closed contours in millimetres; the spacing must be known."""
    known_spacing(spacing_mm, 2)
    return contour_distances(prediction, reference, spacing_mm).mean()


def contour_hausdorff_px(prediction: ArrayLike, reference: ArrayLike, *, percentile: float = 100.0) -> float:
    """Hausdorff distance between two closed contours in pixels; see `contour_distances`."""
    return contour_distances(prediction, reference).hausdorff(percentile)


def contour_hausdorff_mm(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing, *, percentile: float = 100.0
) -> float:
    """Hausdorff distance between two closed contours in millimetres; the spacing must be known."""
    known_spacing(spacing_mm, 2)
    return contour_distances(prediction, reference, spacing_mm).hausdorff(percentile)


def self_intersections(points: ArrayLike) -> int:
    """How often a closed contour crosses itself.

    Args:
        points: (N, 2) vertices x, y in order; the last is joined to the first.

    Returns:
        Number of pairs of edges that cross in their interiors. Edges that share an end do not count, nor do
        edges that only touch.

    Raises:
        GeometryError: `points` are not (N, 2) with at least three finite vertices.
    """
    start = _closed_contour(points)
    end = np.roll(start, -1, axis=0)

    def side(point: Floats) -> npt.NDArray[np.float64]:
        """On which side of edge i (rows) point j (columns) lies."""
        edge, to = (end - start)[:, None], point[None] - start[:, None]
        return np.sign(edge[..., 0] * to[..., 1] - edge[..., 1] * to[..., 0])

    separated = side(start) * side(end) < 0
    return int((separated & separated.T).sum()) // 2


def _closed_contour(points: ArrayLike) -> Floats:
    vertices: Floats = as_array(points).astype(np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) < 3:
        raise GeometryError(f"a closed contour is (N, 2) with at least three points, not {vertices.shape}.")
    if not np.isfinite(vertices).all():
        raise GeometryError("a closed contour has finite coordinates; this one has NaN or infinity.")
    return vertices


def _sampled(contour: Floats, spacing: Floats, step_px: float) -> tuple[Floats, Floats]:
    """Points (n, 2) along a contour, its vertices among them, and the length (n,) each stands for."""
    edges = np.roll(contour, -1, axis=0) - contour
    wanted = np.ceil(np.linalg.norm(edges, axis=1) / step_px)
    if wanted.sum() > _MOST_SAMPLES:
        raise GeometryError(
            f"a contour of {wanted.sum() * step_px:.3g} pixels is too long for steps of {step_px} pixels: "
            "are its coordinates pixels? Give a larger step_px."
        )
    pieces = np.maximum(wanted, 1).astype(np.intp)
    edge = np.repeat(np.arange(len(contour)), pieces)
    along = (np.arange(len(edge)) - (np.cumsum(pieces) - pieces)[edge]) / pieces[edge]
    points = (contour[edge] + along[:, None] * edges[edge]) * spacing
    piece = (np.linalg.norm(edges * spacing, axis=1) / pieces)[edge]
    lengths = (piece + np.roll(piece, 1)) / 2
    # A contour that has shrunk to a point has no length, yet it lies somewhere.
    return points, lengths if lengths.any() else np.ones_like(lengths)


def _to_contour(points: Floats, contour: Floats) -> Floats:
    """Distance of each point (n, 2) to the nearest edge of a closed contour (N, 2)."""
    edges = np.roll(contour, -1, axis=0) - contour
    square = np.square(edges).sum(1)
    square[square == 0] = 1  # an edge without length is its vertex
    (x0, y0), (dx, dy) = contour.T, edges.T
    nearest = np.empty(len(points))
    rows = max(1, _PAIRS_AT_ONCE // len(contour))
    for first in range(0, len(points), rows):
        part = slice(first, first + rows)
        x, y = points[part, :1] - x0, points[part, 1:] - y0
        share = np.clip((x * dx + y * dy) / square, 0, 1)
        nearest[part] = np.hypot(x - share * dx, y - share * dy).min(1)
    return nearest


def _weighted_percentile(values: Floats, weights: Floats, percentile: float) -> float:
    if percentile == 100:  # rounding in the sum of weights must not lose the largest
        return float(values.max())
    return float(np.percentile(values, percentile, method="inverted_cdf", weights=weights))
