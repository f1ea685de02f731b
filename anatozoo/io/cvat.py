"""Read annotations of CVAT, "CVAT for images 1.1": one XML file for many images.

CVAT exports COCO too, see `anatozoo.io.coco`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.io.landmarks import Points
from anatozoo.io.marks import CORNER_PX, Marks, joined, mask_of_runs, organ_named, points_of, size_of
from anatozoo.io.untrusted import read_xml

_OUTLINES, _POINTS, _MASK, _SKELETON = "polygon", "points", "mask", "skeleton"


def read_cvat(path: Path, organs: Collection[str] = ()) -> dict[str, Marks]:
    """The shapes of each image, by the name of its file.

    Polygons and boxes are outlines, points and skeletons landmarks in their order. Images without a shape are
    not among the results.

    Args:
        path: the XML file.
        organs: see `anatozoo.io.marks.organ_named`.

    Raises:
        DataError: it cannot be read, is of another kind, or a shape is damaged.
    """
    found: dict[str, Marks] = {}
    for number, image in enumerate(_root(path).iter("image"), start=1):
        name = image.get("name")
        if not name:
            raise DataError(f"{path}: image {number} has no name; export it again.")
        if name in found:
            raise DataError(f"{path}: {name} is there twice; export it again.")
        marks = _marks(image, f"{path}: {name}", organs)
        if marks.names:
            found[name] = marks
    return found


def _root(path: Path) -> ElementTree.Element:
    root = read_xml(path)
    if root.tag != "annotations":
        raise DataError(f"{path} is not an export of CVAT; choose the format 'CVAT for images 1.1' or COCO.")
    return root


def _marks(image: ElementTree.Element, what: str, organs: Collection[str]) -> Marks:
    size = size_of(_whole(image.get("width")), _whole(image.get("height")), what)
    outlines: dict[str, list[Points]] = {}
    points: dict[str, list[Points]] = {}
    masks: dict[str, list[npt.NDArray[np.bool_]]] = {}
    for shape in image:
        if shape.tag == "tag":  # says something of the whole image
            continue
        organ = organ_named(shape.get("label") or "", organs)
        where = f"{what}: {shape.tag} {shape.get('label')!r}"
        if not organ:
            raise DataError(f"{where} has no label; name the organ in CVAT.")
        if shape.tag == _OUTLINES:
            outlines.setdefault(organ, []).append(_points(shape, where, 3))
        elif shape.tag == "box":
            corners = [[shape.get(x), shape.get(y)] for x, y in _CORNERS]
            outlines.setdefault(organ, []).append(_floats(corners, where, 3))
        elif shape.tag == _POINTS:
            points.setdefault(organ, []).append(_points(shape, where, 1))
        elif shape.tag == _SKELETON:
            placed = [_points(joint, where, 1) for joint in shape if joint.tag == _POINTS]
            if not any(joint.get("outside") == "1" for joint in shape):
                points.setdefault(organ, []).extend(placed)
        elif shape.tag == _MASK:
            if size is None:
                raise DataError(f"{where}: the image has no size; export it again.")
            masks.setdefault(organ, []).append(_mask(shape, size, where))
        else:
            raise DataError(f"{where}: draw organs as polygons or masks, or landmarks as points.")
    return Marks(
        size,
        outlines,
        {organ: np.concatenate(parts) for organ, parts in points.items()},
        {organ: joined(parts) for organ, parts in masks.items()},
    )


_CORNERS = (("xtl", "ytl"), ("xbr", "ytl"), ("xbr", "ybr"), ("xtl", "ybr"))


def _points(shape: ElementTree.Element, what: str, fewest: int) -> Points:
    return _floats([pair.split(",") for pair in (shape.get("points") or "").split(";")], what, fewest)


def _floats(pairs: list[list[str]] | list[list[str | None]], what: str, fewest: int) -> Points:
    try:
        numbers = [[float(number or "") for number in pair] for pair in pairs]
    except ValueError as error:
        raise DataError(f"{what}: its points are not numbers ({error}).") from error
    return points_of(numbers, what, fewest) - CORNER_PX


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _mask(shape: ElementTree.Element, size: tuple[int, int], what: str) -> npt.NDArray[np.bool_]:
    left, top, width, height = (_whole(shape.get(name)) for name in ("left", "top", "width", "height"))
    if left is None or top is None or not width or not height:
        raise DataError(f"{what}: its box is not four whole numbers; export it again.")
    if left + width > size[0] or top + height > size[1]:
        raise DataError(f"{what} reaches beyond its image of {size[0]} x {size[1]} pixels.")
    counts = [_whole(word.strip()) for word in (shape.get("rle") or "").split(",")]
    if None in counts:
        raise DataError(f"{what}: its run lengths are not whole numbers.")
    mask = np.zeros(size[::-1], bool)
    inside = mask_of_runs([count for count in counts if count is not None], (height, width), what)
    mask[top : top + height, left : left + width] = inside
    return mask
