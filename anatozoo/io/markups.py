"""Read the markups of 3D Slicer, ``.mrk.json``: closed curves and lists of points in millimetres."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.io.grid import Grid
from anatozoo.io.landmarks import Points
from anatozoo.io.marks import Marks, organ_named
from anatozoo.io.untrusted import read_json

SUFFIX = ".mrk.json"
_MOST_BYTES = 2**24
_SYSTEMS = {"LPS": (1, 1, 1), "RAS": (-1, -1, 1), "1": (1, 1, 1), "0": (-1, -1, 1)}
"""From what a file calls its axes, older ones by a number, to LPS."""
_CURVES = ("ClosedCurve",)
_LISTS = ("Fiducial", "PointList", "Curve")
_NUMBERED = re.compile(r"(.+?)[-_ ]*\d+")
_MOST_POINTS = 2**16
_OFF_PLANE = 1.0
"""Pixels that a point may lie before or behind a 2-D image."""


def read_markups(path: Path, grid: Grid, organ: str | None = None, organs: Collection[str] = ()) -> Marks:
    """Closed curves as outlines and lists of points as landmarks, on an image.

    Args:
        path: the file.
        grid: the image's, 2-D. Where its spacing is unknown, a pixel counts as a millimetre, as it does in
            Slicer.
        organ: what the file marks. None takes it from the labels of the points, as in ``heart-1``.
        organs: see `anatozoo.io.marks.organ_named`.

    Raises:
        DataError: it cannot be read, marks something else, or a point does not lie on the image.
    """
    value = read_json(path, DataError, _MOST_BYTES)
    markups = value.get("markups") if isinstance(value, Mapping) else None
    if not isinstance(markups, list) or not all(isinstance(one, Mapping) for one in markups):
        raise DataError(f"{path} holds no markups of 3D Slicer; save the node as .mrk.json again.")
    outlines: dict[str, list[Points]] = {}
    points: dict[str, list[Points]] = {}
    for markup in markups:
        kind = markup.get("type")
        if kind not in (*_CURVES, *_LISTS):
            raise DataError(f"{path} holds a {kind!r}; draw organs as closed curves or lists of points.")
        if markup.get("coordinateUnits", "mm") not in ("mm", ["mm"] * 3):
            raise DataError(f"{path} is in {markup['coordinateUnits']!r}; millimetres are needed.")
        for name, found in _by_organ(markup, path, organ, organs).items():
            placed = _on_image(found, grid, path)
            if kind in _CURVES:
                if len(placed) < 3:
                    raise DataError(
                        f"{path}: the curve of {name} has {len(placed)} points; three are needed."
                    )
                outlines.setdefault(name, []).append(placed)
            else:
                points.setdefault(name, []).append(placed)
    return Marks(None, outlines, {name: np.concatenate(parts) for name, parts in points.items()})


def _by_organ(
    markup: Mapping[str, Any], path: Path, organ: str | None, organs: Collection[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Organ -> (N, 3) positions in LPS."""
    signs = _SYSTEMS.get(str(markup.get("coordinateSystem", "LPS")))
    if signs is None:
        raise DataError(
            f"{path}: its coordinate system {markup['coordinateSystem']!r} is neither LPS nor RAS."
        )
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    controls = markup.get("controlPoints")
    if not isinstance(controls, list) or len(controls) > _MOST_POINTS:
        raise DataError(f"{path} has no list of control points, or one of over {_MOST_POINTS}.")
    for number, point in enumerate(controls, start=1):
        if not isinstance(point, Mapping):
            raise DataError(f"{path}: control point {number} is not a point; save the node again.")
        if point.get("positionStatus", "defined") != "defined":
            raise DataError(f"{path}: control point {number} has no position; place it, or delete it.")
        try:
            position = np.asarray(point.get("position"))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path}: control point {number} has no three numbers.") from error
        if position.dtype.kind not in "iuf" or position.shape != (3,) or not np.isfinite(position).all():
            raise DataError(f"{path}: control point {number} has no three finite numbers.")
        name = organ or _organ_of(point.get("label"), path, organs)
        found.setdefault(name, []).append(position.astype(np.float64) * signs)
    return {name: np.stack(positions) for name, positions in found.items()}


def _organ_of(label: Any, path: Path, organs: Collection[str]) -> str:
    match = _NUMBERED.fullmatch(label) if isinstance(label, str) else None
    name = organ_named(match[1] if match else str(label or ""), organs)
    if name not in organs:
        raise DataError(
            f"{path}: nothing says which organ it marks. Name the file NAME_ORGAN{SUFFIX}, put it into a "
            f"folder of the organ, or label its points as {next(iter(organs), 'heart')}-1, not {label!r}."
        )
    return name


def _on_image(positions: npt.NDArray[np.float64], grid: Grid, path: Path) -> Points:
    if grid.dims != 2:
        raise DataError(f"{path} marks a volume; export a segmentation as .nii.gz or .nrrd instead.")
    depth = positions[:, 2]
    if np.ptp(depth) > _OFF_PLANE:
        raise DataError(f"{path}: its points do not lie in one plane; draw them on the radiograph.")
    flat = positions[:, :2] - (0.0 if grid.origin is None else np.asarray(grid.origin))
    return np.linalg.solve(grid.steps, flat.T).T.astype(np.float64)
