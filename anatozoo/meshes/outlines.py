"""Contours of what a slice shows, with as many points for every slice, at places that correspond."""

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported where they are used first: predictions of images need none
from contourpy import contour_generator

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def largest_part(mask: Mask) -> Mask:
    """The largest connected part of a mask."""
    parts, count = scipy.ndimage.label(mask)
    if count < 2:
        return mask
    found: Mask = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return found


def outline(mask: Mask) -> Points:
    """The outer contour of the largest part of a mask, half way between pixels, by marching squares.

    Args:
        mask: (H, W), not empty.

    Returns:
        (n, 2) x, y, where pixel centres are whole numbers; the first point is not repeated, and x turns
        towards y.
    """
    filled = scipy.ndimage.binary_fill_holes(largest_part(mask))
    lines = contour_generator(z=np.pad(filled, 1).astype(float)).lines(0.5)
    longest = max((np.asarray(line) for line in lines), key=len)
    points: Points = longest[:-1] - 1
    return points if signed_area(points) > 0 else points[::-1]


def signed_area(points: Points) -> float:
    """Area of a polygon (n, 2), positive where x turns towards y."""
    x, y = points.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def at_angles(points: Points, centre: Points, start: float, count: int) -> tuple[Points, int]:
    """Where rays from a centre leave a contour, at equal angles.

    Args:
        points: (n, 2), a contour around the centre.
        centre: (2,).
        start: angle of the first ray, from x towards y.
        count: of rays.

    Returns:
        (count, 2), and how many rays do not meet the contour just once. Of several places the farthest
        counts, of none the centre.
    """
    a = points - centre
    b = np.roll(a, -1, axis=0)
    angles = start + 2 * np.pi * np.arange(count) / count
    rays = np.column_stack([np.cos(angles), np.sin(angles)])
    # Which side of each ray's line a point lies on; an edge that changes sides is cut.
    side_a, side_b = (np.outer(rays[:, 0], p[:, 1]) - np.outer(rays[:, 1], p[:, 0]) for p in (a, b))
    cut = (side_a <= 0) != (side_b <= 0)
    share = np.where(cut, side_a / np.where(cut, side_a - side_b, 1), 0)
    along_a, along_b = rays @ a.T, rays @ b.T
    radius = np.where(cut, along_a + share * (along_b - along_a), 0)
    wrong = int(((radius > 0).sum(axis=1) != 1).sum())
    return centre + rays * radius.max(axis=1)[:, None], wrong


def between_ends(points: Points, across: float, count: int) -> Points:
    """A contour by arc length, from its end in a direction to the opposite end and back.

    This is for crescents, which no ray from one centre describes: half of the points lie on either side.

    Args:
        points: (n, 2), a contour in which x turns towards y.
        across: angle from x towards y; the first point is the farthest in this direction.
        count: of points, even.

    Returns:
        (count, 2); point ``count // 2`` is the opposite end.
    """
    away = points @ np.array([np.cos(across), np.sin(across)])
    points = np.roll(points, -int(np.argmax(away)), axis=0)
    opposite = int(np.argmin(np.roll(away, -int(np.argmax(away)))))
    there, back = points[: opposite + 1], np.vstack([points[opposite:], points[:1]])
    half = count // 2
    return np.vstack([_spread(there, half), _spread(back, count - half)])


def _spread(line: Points, count: int) -> Points:
    """Points at equal steps along a line, without its end."""
    steps = np.r_[0, np.cumsum(np.hypot(*np.diff(line, axis=0).T))]
    at = np.arange(count) / count * steps[-1]
    return np.column_stack([np.interp(at, steps, line[:, 0]), np.interp(at, steps, line[:, 1])])
