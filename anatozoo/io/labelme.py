"""Read what LabelMe writes beside an image: a JSON file with shapes.

Nothing else is opened: the path of the image in the file, and the copy of the image that it may hold, are
passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.errors import DataError
from anatozoo.io.landmarks import Points
from anatozoo.io.marks import CORNER_PX, Marks, organ_named, points_of, size_of

_CIRCLE_POINTS = 64


def is_labelme(value: Any) -> bool:
    """Whether the content of a JSON file is LabelMe's."""
    return isinstance(value, Mapping) and isinstance(value.get("shapes"), list)


def labelme_marks(value: Mapping[str, Any], path: Path, organs: Collection[str] = ()) -> Marks:
    """The shapes of a file.

    Polygons, rectangles and circles are outlines. Points of one label are landmarks in their order.

    Args:
        value: content of the file.
        path: what messages call it.
        organs: see `anatozoo.io.marks.organ_named`.

    Raises:
        DataError: a shape is of another kind, or damaged.
    """
    outlines: dict[str, list[Points]] = {}
    points: dict[str, list[Points]] = {}
    for number, shape in enumerate(value["shapes"], start=1):
        label = shape.get("label") if isinstance(shape, Mapping) else None
        if not isinstance(label, str) or not label.strip():
            raise DataError(f"{path}: shape {number} has no label; name the organ in LabelMe.")
        organ, what = organ_named(label, organs), f"{path}: shape {number} ({label})"
        kind = shape.get("shape_type", "polygon")
        if kind == "point":
            points.setdefault(organ, []).append(points_of(shape.get("points"), what) - CORNER_PX)
        elif kind in ("polygon", "rectangle", "circle"):
            drawn = points_of(shape.get("points"), what, 3 if kind == "polygon" else 2)
            outlines.setdefault(organ, []).append(_outline(kind, drawn, what) - CORNER_PX)
        else:
            raise DataError(f"{what} is a {kind!r}; draw organs as polygons, or landmarks as points.")
    size = size_of(value.get("imageWidth"), value.get("imageHeight"), str(path))
    return Marks(size, outlines, {organ: np.concatenate(parts) for organ, parts in points.items()})


def _outline(kind: str, points: Points, what: str) -> Points:
    if kind == "polygon":
        return points
    if len(points) != 2:
        raise DataError(f"{what} is a {kind} of {len(points)} points; it has two.")
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    angle = np.arange(_CIRCLE_POINTS) * 2 * np.pi / _CIRCLE_POINTS
    radius = np.hypot(*(points[1] - points[0]))
    return points[0] + radius * np.stack([np.sin(angle), -np.cos(angle)], 1)
