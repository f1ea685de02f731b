"""Contours as landmarks: draw them, read them, write them.

Landmarks are ``(N, 2)`` float64, ``(x, y)`` in pixels, whole numbers being centres of pixels.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError, GeometryError
from anatozoo.io.untrusted import read_json, read_npy, read_text
from anatozoo.io.writers import write_bytes, write_csv, write_json
from anatozoo.organs import CHEST_ORGANS

CSV_HEADER = ("organ", "index", "x_px", "y_px", "x_mm", "y_mm")
SIGMA_HEADER = ("sigma_x_px", "sigma_y_px")
"""Columns behind those, where standard deviations are known."""
DECIMALS = 3
SIGMA_DECIMALS = 6
"""Of standard deviations, which may be far below a pixel and still rank images."""

Points = npt.NDArray[np.float64]

# OpenCV keeps coordinates with 16 fractional bits in 64-bit integers; points farther away than this overflow.
_FARTHEST_PX = 2.0**30
_MOST_BYTES = 2**24
"""Of a file of landmarks, which are some thousand numbers."""


def check_points(points: npt.ArrayLike, organ: str) -> Points:
    """Landmarks of one organ as a read-only ``(N, 2)`` float64 copy.

    Raises:
        GeometryError: another shape, no point at all, or a coordinate that is NaN or infinite.
    """
    try:
        if np.iscomplexobj(points):
            raise TypeError("they are complex")
        checked = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise GeometryError(f"landmarks of {organ!r} must be (N, 2) numbers: {error}.") from error
    if checked.ndim != 2 or checked.shape[1] != 2 or len(checked) == 0:
        raise GeometryError(f"landmarks of {organ!r} must be (N, 2) with N > 0, not {checked.shape}.")
    if not np.isfinite(checked).all():
        raise GeometryError(f"landmarks of {organ!r} must be finite; {organ!r} has NaN or infinity.")
    checked.flags.writeable = False
    return checked


def draw_label_map(landmarks: Mapping[str, npt.ArrayLike], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Fill the contours of all organs on one canvas.

    Args:
        landmarks: organ -> ``(N, 2)`` pixels. The first organ gets label 1, the next 2; where organs
            overlap, the later one covers the earlier one.
        size: ``(width, height)`` in pixels.

    Returns:
        ``(H, W)`` uint8, 0 for background.

    Raises:
        GeometryError: more than 255 organs.
    """
    if len(landmarks) > 255:
        raise GeometryError(f"a uint8 label map holds at most 255 organs, not {len(landmarks)}.")
    canvas = np.zeros((size[1], size[0]), dtype=np.uint8)
    for label, points in enumerate(landmarks.values(), start=1):
        _fill(canvas, points, label)
    return canvas


def draw_organ_mask(points: npt.ArrayLike, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Fill one contour, its boundary included.

    Args:
        points: ``(N, 2)`` pixels; rounded to the nearest pixel for drawing.
        size: ``(width, height)`` in pixels.

    Returns:
        ``(H, W)`` bool. Parts of the contour outside the canvas are cut off.
    """
    canvas = np.zeros((size[1], size[0]), dtype=np.uint8)
    _fill(canvas, points, 1)
    return canvas.view(np.bool_)


def _fill(canvas: npt.NDArray[np.uint8], points: npt.ArrayLike, label: int) -> None:
    near = np.clip(np.asarray(points, dtype=np.float64), -_FARTHEST_PX, _FARTHEST_PX)
    contour = np.rint(near).astype(np.int32).reshape(-1, 1, 2)
    cv2.drawContours(canvas, [contour], -1, label, thickness=cv2.FILLED)


def split_landmarks(vector: npt.ArrayLike, organs: Mapping[str, int] | None = None) -> dict[str, Points]:
    """Cut landmarks of all organs in one array into organs.

    Args:
        vector: ``(2 N,)`` as x0, y0, x1, y1, ... or ``(N, 2)``.
        organs: numbers of landmarks per organ, in order. None takes the chest's by N: 94 are the lungs,
            120 lungs and heart, 166 these and the clavicles.

    Raises:
        DataError: the number of points is not that of the organs.
        GeometryError: a coordinate is NaN or infinite.
    """
    points = np.asarray(vector, dtype=np.float64)
    if points.ndim not in (1, 2) or points.size % 2 or (points.ndim == 2 and points.shape[1] != 2):
        raise DataError(f"landmarks of all organs must be (2 N,) or (N, 2), not {points.shape}.")
    points = points.reshape(-1, 2)
    known = _chest_organs(len(points)) if organs is None else dict(organs)
    if sum(known.values()) != len(points):
        raise DataError(f"{len(points)} points do not divide into {known}.")
    ends = np.cumsum(list(known.values()))
    return {
        organ: check_points(points[end - count : end], organ)
        for (organ, count), end in zip(known.items(), ends, strict=True)
    }


def _chest_organs(total: int) -> dict[str, int]:
    chosen: dict[str, int] = {}
    for organ, count in CHEST_ORGANS.items():
        chosen[organ] = count
        if sum(chosen.values()) == total and organ != "lung_right":
            return chosen
    raise DataError(f"{total} points are not a set of chest organs (94, 120, 143, 166); name the organs.")


def write_landmarks(
    path: str | os.PathLike[str],
    landmarks: Mapping[str, npt.ArrayLike],
    spacing_mm: tuple[float, float] | None = None,
    sigma: Mapping[str, npt.ArrayLike] | None = None,
) -> Path:
    """Write landmarks; the suffix chooses the format.

    ``.csv`` has the columns organ, index, x_px, y_px, x_mm, y_mm (the last two empty where the spacing is
    unknown), and with `sigma`, (N, 2) for each organ, sigma_x_px and sigma_y_px; ``.json`` is
    ``{organ: [[x, y], ...]}``, ``.npy`` is one ``(2 N,)`` float64 vector. CSV and JSON round to 3 decimals,
    standard deviations to 6.

    Raises:
        DataError: another suffix.
        GeometryError: landmarks are not ``(N, 2)`` or not finite.
        OutputError: the file cannot be written.
    """
    checked = {organ: check_points(points, organ) for organ, points in landmarks.items()}
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        return _write_csv(Path(path), checked, spacing_mm, sigma)
    if suffix == ".json":
        return write_json(path, {organ: rounded(points) for organ, points in checked.items()})
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate(list(checked.values())).ravel(), allow_pickle=False)
        return write_bytes(path, buffer.getvalue())
    raise DataError(f"{str(path)!r}: landmarks are written as .csv, .json or .npy.")


def rounded(points: Points, decimals: int = DECIMALS) -> list[list[float]]:
    """Points as JSON-ready lists, with 3 decimals at most and without a negative zero."""
    return (np.round(points, decimals) + 0.0).tolist()


def _write_csv(
    path: Path,
    landmarks: Mapping[str, Points],
    spacing_mm: tuple[float, float] | None,
    sigma: Mapping[str, npt.ArrayLike] | None,
) -> Path:
    rows: list[list[object]] = []
    for organ, points in landmarks.items():
        for index, (x, y) in enumerate(rounded(points)):
            rows.append([organ, index, x, y, None, None])
        if spacing_mm is not None:
            for row, in_mm in zip(rows[-len(points) :], rounded(points * spacing_mm), strict=True):
                row[-2:] = in_mm
        if sigma is not None:
            spread = rounded(np.asarray(sigma[organ], dtype=np.float64), SIGMA_DECIMALS)
            for row, values in zip(rows[-len(points) :], spread, strict=True):
                row += values
    return write_csv(path, CSV_HEADER if sigma is None else CSV_HEADER + SIGMA_HEADER, rows)


def read_landmarks(
    path: str | os.PathLike[str], organs: Mapping[str, int] | None = None
) -> dict[str, Points]:
    """Read landmarks that `write_landmarks` or a result's `save` wrote, or a published ``.npy`` vector.

    Args:
        path: ``.csv``, ``.json`` (a result, or ``{organ: [[x, y], ...]}``) or ``.npy``.
        organs: for ``.npy``, see `split_landmarks`.

    Returns:
        organ -> ``(N, 2)`` float64 pixels, in the order of the file.

    Raises:
        DataError: the file is missing, damaged or of another kind.
        GeometryError: landmarks are not ``(N, 2)`` or not finite.
    """
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".csv":
            return _parse_csv(read_text(Path(path), limit=_MOST_BYTES))
        if suffix == ".json":
            return _parse_json(read_json(Path(path), limit=_MOST_BYTES))
        if suffix == ".npy":
            return split_landmarks(read_npy(Path(path)), organs)
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise DataError(f"{str(path)!r} holds no landmarks that can be read: {error!r}.") from error
    raise DataError(f"{str(path)!r}: landmarks are read from .csv, .json or .npy.")


def _parse_csv(text: str) -> dict[str, Points]:
    found: dict[str, list[tuple[int, float, float]]] = {}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        found.setdefault(row["organ"], []).append((int(row["index"]), float(row["x_px"]), float(row["y_px"])))
    if not found:
        raise ValueError("there is no row")
    for organ, rows in found.items():
        numbers = sorted(row[0] for row in rows)
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise ValueError(f"the numbers of {organ}'s landmarks have a gap, or one is there twice")
    return {organ: check_points([row[1:] for row in sorted(rows)], organ) for organ, rows in found.items()}


def _parse_json(value: Any) -> dict[str, Points]:
    landmarks = value.get("landmarks", value) if isinstance(value, dict) else None
    if not isinstance(landmarks, dict) or not landmarks:
        raise ValueError("there is no object of organs")
    return {organ: check_points(points, organ) for organ, points in landmarks.items()}
