"""Read annotations in the format of COCO, one JSON file for many images; CVAT exports it too."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.io.landmarks import Points
from anatozoo.io.marks import CORNER_PX, Marks, joined, mask_of_runs, organ_named, points_of, size_of


def is_coco(value: Any) -> bool:
    """Whether the content of a JSON file is COCO's."""
    lists = ("images", "annotations", "categories")
    return isinstance(value, Mapping) and all(isinstance(value.get(name), list) for name in lists)


def coco_marks(value: Mapping[str, Any], path: Path, organs: Collection[str] = ()) -> dict[str, Marks]:
    """The annotations of each image, by the name of its file.

    Polygons are outlines, keypoints landmarks in their order, run lengths masks. Keypoints are left out
    with their organ where one of them is not set. Images without an annotation are not among the results.

    Args:
        value: content of the file.
        path: what messages call it.
        organs: see `anatozoo.io.marks.organ_named`.

    Raises:
        DataError: an annotation is damaged, or names no image or category of the file.
    """
    images = _by_id(value["images"], "file_name", path)
    categories = _by_id(value["categories"], "name", path)
    outlines: dict[Any, dict[str, list[Points]]] = {}
    points: dict[Any, dict[str, Points]] = {}
    masks: dict[Any, dict[str, list[npt.NDArray[np.bool_]]]] = {}
    for number, found in enumerate(value["annotations"], start=1):
        what = f"{path}: annotation {number}"
        image = _entry(images, found, "image_id", what)
        organ = organ_named(_entry(categories, found, "category_id", what)["name"], organs)
        key, what = image["file_name"], f"{what} ({organ} of {image['file_name']})"
        size = size_of(image.get("width"), image.get("height"), what)
        segmentation, keypoints = found.get("segmentation"), found.get("keypoints")
        if isinstance(segmentation, Mapping):
            masks.setdefault(key, {}).setdefault(organ, []).append(_mask(segmentation, size, what))
        elif segmentation:
            if not isinstance(segmentation, list):
                raise DataError(f"{what}: its segmentation is neither polygons nor run lengths.")
            drawn = [points_of(polygon, what, 3) - CORNER_PX for polygon in segmentation]
            outlines.setdefault(key, {}).setdefault(organ, []).extend(drawn)
        if keypoints and (placed := _keypoints(keypoints, what)) is not None:
            if organ in points.setdefault(key, {}):
                raise DataError(f"{what}: the keypoints of {organ} are there twice; keep one.")
            points[key][organ] = placed
    return {
        image["file_name"]: Marks(
            size_of(image.get("width"), image.get("height"), f"{path}: {image['file_name']}"),
            outlines.get(image["file_name"], {}),
            points.get(image["file_name"], {}),
            {organ: joined(parts) for organ, parts in masks.get(image["file_name"], {}).items()},
        )
        for image in images.values()
        if image["file_name"] in {*outlines, *points, *masks}
    }


def _by_id(entries: Sequence[Any], name: str, path: Path) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    named: set[str] = set()
    for entry in entries:
        plain = isinstance(entry, Mapping) and isinstance(entry.get(name), str)
        if not plain or not isinstance(entry.get("id"), int | str):
            raise DataError(f"{path}: an image or category has no id, or no {name}; export it again.")
        if entry["id"] in found or (name == "file_name" and entry[name] in named):
            raise DataError(f"{path}: {entry[name]!r}, or its id {entry['id']!r}, is there twice; keep one.")
        found[entry["id"]] = entry
        named.add(entry[name])
    return found


def _entry(known: Mapping[Any, Mapping[str, Any]], found: Any, key: str, what: str) -> Mapping[str, Any]:
    given = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(given, int | str) or given not in known:
        raise DataError(f"{what}: its {key} {given!r} is in no list of the file; export it again.")
    return known[given]


def _keypoints(keypoints: Any, what: str) -> Points | None:
    try:
        array = np.asarray(keypoints)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{what}: its keypoints are not numbers.") from error
    if array.dtype.kind not in "iuf" or array.ndim != 1 or array.size % 3:
        raise DataError(f"{what}: its keypoints are not numbers x, y, v, x, y, v, ...; export it again.")
    triples = array.reshape(-1, 3)
    placed = points_of(triples[:, :2], what) - CORNER_PX
    # v is 0 where a point is not labelled; a contour that lacks one is none.
    return placed if (triples[:, 2] > 0).all() else None


def _mask(runs: Mapping[str, Any], size: tuple[int, int] | None, what: str) -> npt.NDArray[np.bool_]:
    stated = runs.get("size")
    if not isinstance(stated, list) or len(stated) != 2:
        raise DataError(f"{what}: its run lengths state no size [height, width].")
    own = size_of(stated[1], stated[0], what)
    if own is None or (size is not None and own != size):
        raise DataError(f"{what}: its mask has the size {stated}, the image {size}; export it again.")
    counts = runs.get("counts")
    lengths = _decompressed(counts, what) if isinstance(counts, str) else counts
    if not isinstance(lengths, list):
        raise DataError(f"{what}: its run lengths are neither a list nor a text.")
    # COCO counts down the columns.
    return np.ascontiguousarray(mask_of_runs(lengths, own, what).T)


def _decompressed(text: str, what: str) -> list[int]:
    """Run lengths of COCO's text: groups of five bits, the lowest first, from the third on as differences."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(text) or shift > 60:
                raise DataError(f"{what}: its run lengths are cut short or damaged.")
            group = ord(text[at]) - 48
            if not 0 <= group < 64:
                raise DataError(f"{what}: its run lengths hold {text[at]!r}, which COCO never writes.")
            value |= (group & 31) << shift
            more, at, shift = bool(group & 32), at + 1, shift + 5
            if not more and group & 16:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
