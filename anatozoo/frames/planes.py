"""Label maps as planes of shares in a network's frame, and the network's output back on their grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.frames.frame import Frame
from anatozoo.frames.geometry import Geometry

Planes = npt.NDArray[np.float32]


def organ_planes(labels: npt.NDArray[np.uint8], organs: int, frame: Frame) -> Planes:
    """Share of each cell of the frame that each organ covers.

    Args:
        labels: (H, W) or (D, H, W), 0 for background, 1 … `organs`.
        organs: number of organs.
        frame: frame on the label map's grid.

    Returns:
        ``(organs, *frame shape)`` float32 in [0, 1]; the rest to 1 is background.
    """
    # Resizing bytes takes a quarter of the time of floating-point numbers.
    masks = [np.uint8(255) * (labels == value).view(np.uint8) for value in range(1, organs + 1)]
    planes = to_frame(masks, frame)
    planes *= np.float32(1 / 255)
    return planes


def to_frame(planes: Sequence[npt.NDArray[Any]], frame: Frame) -> Planes:
    """Planes in the frame: averaged if they are finer, interpolated if coarser, 0 around them.

    Args:
        planes: (H, W) or (D, H, W) each, on the frame's grid.
        frame: frame on that grid.

    Returns:
        ``(planes, *frame shape)`` float32.
    """
    if frame.grid.dims == 3:
        return np.stack([frame.shares(np.asarray(plane, np.float32)) for plane in planes])
    geometry = frame.geometry
    canvas = _canvas(geometry)
    if canvas is None:
        return np.stack([geometry.image_to_target(np.asarray(plane, np.float32)) for plane in planes])
    return np.stack([_shrunk(plane, geometry, *canvas) for plane in planes]).astype(np.float32)


def in_one_part(probability: Planes, behind: Sequence[tuple[int, Sequence[int]]]) -> Planes:
    """Keep only the largest connected component of organs; other parts get the next most probable label.

    Args:
        probability: ``(1 + organs, *frame shape)``, background first.
        behind: label of each such organ, and the labels of the organs that may cover it: parts that are
            connected behind those count as one.

    Returns:
        The same array if each organ has one part, else a copy with a probability of 0 in the other parts.
    """
    from scipy.ndimage import binary_dilation, label

    corners = np.ones((3,) * (probability.ndim - 1))
    found, labels = probability, largest_plane(list(probability)) if behind else None
    for organ, covers in behind:
        own = labels == organ
        parts, count = label(np.logical_or.reduce([own, *(labels == cover for cover in covers)]), corners)
        if count < 2:
            continue
        apart = own & (parts != np.bincount(parts[own], minlength=1).argmax())
        if not apart.any():
            continue
        # Dilated by one cell: interpolated between cells, the organ would still win there.
        around = binary_dilation(apart, corners) & (apart | ~own)
        found = found.copy() if found is probability else found
        found[organ][around] = 0
        labels = largest_plane(list(found))
    return found


def labels_on_grid(probability: Planes, frame: Frame) -> npt.NDArray[np.uint8]:
    """The most probable label of each pixel of the frame's grid.

    Probabilities are interpolated linearly and then compared, so that borders run between the cells. Beyond
    the frame is background.

    Args:
        probability: ``(1 + organs, *frame shape)``, background first.
        frame: from the grid to the frame.

    Returns:
        uint8 of the grid's shape.
    """
    if frame.grid.dims == 3:
        return largest_plane([frame.to_source(plane) for plane in probability])
    small = largest_plane(list(probability))
    (ys, xs), (height, width) = _positions(frame), frame.shape
    rows = np.clip(np.floor(ys).astype(np.intp), 0, height - 2)
    columns = np.clip(np.floor(xs).astype(np.intp), 0, width - 2)
    # Between four cells of one label, that label stays the largest after interpolation.
    corner = small[:-1, :-1]
    mixed = (small[:-1, 1:] != corner) | (small[1:, :-1] != corner) | (small[1:, 1:] != corner)
    result: npt.NDArray[np.uint8] = _enlarged(corner, rows, columns)
    # Along one axis and in rows of memory, several times as fast as along two.
    y, x = np.divmod(np.flatnonzero(_enlarged(mixed, rows, columns).ravel()), result.shape[1])
    weight_y = np.clip(ys - rows, 0, 1).astype(np.float32)[y]
    weight_x = np.clip(xs - columns, 0, 1).astype(np.float32)[x]
    first = rows[y] * width + columns[x]
    flat = probability.reshape(len(probability), -1)
    upper = _between(flat[:, first], flat[:, first + 1], weight_x)
    lower = _between(flat[:, first + width], flat[:, first + width + 1], weight_x)
    result[y, x] = largest_plane(list(_between(upper, lower, weight_y)))
    result[(ys < -0.5) | (ys > height - 0.5)] = 0
    result[:, (xs < -0.5) | (xs > width - 0.5)] = 0
    return result


def largest_plane(planes: Sequence[Planes]) -> npt.NDArray[np.uint8]:
    """Index of the largest plane at each position, the first of equals, uint8."""
    best = planes[0].copy()
    labels = np.zeros(best.shape, np.uint8)
    for value, plane in enumerate(planes[1:], start=1):
        labels[plane > best] = value
        np.maximum(best, plane, out=best)
    return labels


def _enlarged(
    cells: npt.NDArray[Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> npt.NDArray[Any]:
    return cells.take(columns, axis=1).take(rows, axis=0)


def _between(a: Planes, b: Planes, weight: Planes) -> Planes:
    return a + weight * (b - a)


def _positions(frame: Frame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Row and column in a 2-D frame of each row and column of its grid."""
    width, height = frame.grid.size
    (sx, sy), (ox, oy) = np.diag(frame.matrix), frame.offset
    return np.arange(height) * sy + oy, np.arange(width) * sx + ox


def _canvas(geometry: Geometry) -> tuple[int, int, int, int] | None:
    """Left, top, width and height of the frame in whole pixels of an image that is at least as fine.

    None if the frame's edges cut pixels, or the image is coarser.
    """
    if max(geometry.scale) > 1:
        return None
    scale = np.asarray(geometry.scale)
    numbers = np.concatenate([-np.asarray(geometry.offset) / scale, geometry.target_size / scale])
    whole = np.rint(numbers)
    if np.abs(numbers - whole).max() > 1e-6:
        return None
    left, top, width, height = (int(value) for value in whole)
    return left, top, width, height


def _shrunk(
    plane: npt.NDArray[Any], geometry: Geometry, left: int, top: int, width: int, height: int
) -> npt.NDArray[Any]:
    import cv2

    source = np.asarray(plane)
    if (left, top) != (0, 0) or source.shape != (height, width):
        y0, x0 = max(top, 0), max(left, 0)
        part = source[y0 : top + height, x0 : left + width]
        source = np.zeros((height, width), part.dtype)
        source[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    result: npt.NDArray[Any] = cv2.resize(source, geometry.target_size, interpolation=cv2.INTER_AREA)
    return result
