"""Files of LabelMe, COCO, CVAT and 3D Slicer, as their programs write them and as nobody should."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anatozoo.errors import DataError
from anatozoo.io.coco import coco_marks, is_coco
from anatozoo.io.cvat import read_cvat
from anatozoo.io.grid import Grid
from anatozoo.io.labelme import is_labelme, labelme_marks
from anatozoo.io.marks import organ_named
from anatozoo.io.markups import read_markups
from anatozoo.io.untrusted import read_json

HERE = Path("file.json")
SQUARE = [[2.0, 1.0], [6.0, 1.0], [6.0, 5.0], [2.0, 5.0]]
CENTRED = np.array(SQUARE) - 0.5
"""The square from the centre of the first pixel on, not from its corner."""


def labelme(**changes: Any) -> dict[str, Any]:
    shapes = [
        {"label": "Heart", "points": SQUARE, "shape_type": "polygon"},
        {"label": "tip", "points": [[3, 4]], "shape_type": "point"},
        {"label": "tip", "points": [[5, 4]], "shape_type": "point"},
        {"label": "Right Lung", "points": [[1, 2], [4, 6]], "shape_type": "rectangle"},
    ]
    value = {"version": "5.4", "shapes": shapes, "imagePath": "../../etc/passwd", "imageData": None}
    return value | {"imageHeight": 8, "imageWidth": 10} | changes


def coco() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 7, "name": "heart"}, {"id": 8, "name": "Lungs"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [[1, 1, 3, 1, 3, 2]]},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 8,
                "segmentation": {"size": [3, 4], "counts": [3, 2, 7]},
                "iscrowd": 1,
            },
            {"id": 3, "image_id": 2, "category_id": 7, "keypoints": [1, 2, 2, 3, 4, 1], "num_keypoints": 2},
            {"id": 4, "image_id": 2, "category_id": 8, "keypoints": [0, 0, 0, 3, 4, 1], "num_keypoints": 1},
        ],
    }


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>t</name></task></meta>
<image id="0" name="site/a.png" width="10" height="8">
<polygon label="heart" source="manual" occluded="0" points="2.0,1.0;6.0,1.0;6.0,5.0;2.0,5.0" z_order="0"/>
<box label="clavicle_left" xtl="2" ytl="1" xbr="6" ybr="5"/>
<points label="tip" points="3.0,4.0;5.0,4.0"/>
<skeleton label="spine"><points label="1" outside="0" points="1,1"/>
<points label="2" points="2,3"/></skeleton>
<mask label="lungs" rle="1, 2, 3" left="4" top="2" width="3" height="2"/>
<tag label="frontal"/>
</image>
<image id="1" name="b.png" width="10" height="8"></image>
</annotations>"""


def markups(kind: str = "ClosedCurve", system: Any = "LPS", **changes: Any) -> dict[str, Any]:
    points = [[10.0, 20.0, 0.0], [14.0, 20.0, 0.0], [14.0, 26.0, 0.0]]
    signs = np.array([1, 1, 1] if system in ("LPS", 1) else [-1, -1, 1])
    controls = [
        {"id": str(i), "label": f"heart-{i}", "position": (np.array(p) * signs).tolist()}
        for i, p in enumerate(points, 1)
    ]
    one = {"type": kind, "coordinateSystem": system, "coordinateUnits": "mm", "controlPoints": controls}
    return {"@schema": "markups-schema-v1.0.3", "markups": [one | changes]}


def save(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_shapes_of_labelme() -> None:
    assert is_labelme(labelme())
    assert not is_labelme({"landmarks": {}})
    marks = labelme_marks(labelme(), HERE, ["Heart"])
    assert marks.size == (10, 8)
    [square] = marks.outlines["Heart"]
    np.testing.assert_array_equal(square, CENTRED)
    [box] = marks.outlines["lung_right"]
    assert box.tolist() == [[0.5, 1.5], [3.5, 1.5], [3.5, 5.5], [0.5, 5.5]]
    assert marks.points["tip"].tolist() == [[2.5, 3.5], [4.5, 3.5]]
    circle = labelme(shapes=[{"label": "c", "points": [[5, 5], [5, 8]], "shape_type": "circle"}])
    [drawn] = labelme_marks(circle, HERE).outlines["c"]
    np.testing.assert_allclose(np.linalg.norm(drawn - 4.5, axis=1), 3)


def test_annotations_of_coco() -> None:
    assert is_coco(coco())
    assert not is_coco(labelme())
    found = coco_marks(coco(), HERE, ["heart"])
    assert list(found) == ["a.png", "b.png"]
    assert found["a.png"].outlines["heart"][0].tolist() == [[0.5, 0.5], [2.5, 0.5], [2.5, 1.5]]
    # Down the columns: three off, two on.
    assert np.argwhere(found["a.png"].masks["lungs"]).tolist() == [[0, 1], [1, 1]]
    assert found["b.png"].points["heart"].tolist() == [[0.5, 1.5], [2.5, 3.5]]
    assert found["b.png"].names == ["heart"]  # of the lungs one point was not set


def test_compressed_run_lengths_of_coco_are_those_of_the_list() -> None:
    """The text is what pycocotools writes of a mask of 30 x 20 with a box in it."""
    mask = np.zeros((20, 30), bool)
    mask[4:15, 6:21] = True
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    value = coco()
    value["images"][0] |= {"width": 30, "height": 20}
    for written in (counts, compressed(counts)):
        value["annotations"][1]["segmentation"] = {"size": [20, 30], "counts": written}
        assert np.array_equal(coco_marks(value, HERE)["a.png"].masks["lungs"], mask)


def compressed(counts: list[int]) -> str:
    """COCO's own way, written from the description of its format."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr((group | 32 if more else group) + 48)
    return text


def test_shapes_of_cvat(tmp_path: Path) -> None:
    found = read_cvat(save(tmp_path / "a.xml", CVAT), ["heart"])
    assert list(found) == ["site/a.png"]
    marks = found["site/a.png"]
    assert marks.size == (10, 8)
    np.testing.assert_array_equal(marks.outlines["heart"][0], CENTRED)
    np.testing.assert_array_equal(marks.outlines["clavicle_left"][0], CENTRED)
    assert marks.points["tip"].tolist() == [[2.5, 3.5], [4.5, 3.5]]
    assert marks.points["spine"].tolist() == [[0.5, 0.5], [1.5, 2.5]]
    assert np.argwhere(marks.masks["lungs"]).tolist() == [[2, 5], [2, 6]]


@pytest.mark.parametrize("system", ["LPS", "RAS", 0, 1])
def test_curves_of_slicer_in_either_system(tmp_path: Path, system: Any) -> None:
    path = save(tmp_path / "a.mrk.json", markups(system=system))
    grid = Grid((40, 40), (0.5, 2.0), origin=(6.0, 10.0))
    marks = read_markups(path, grid, "heart")
    [curve] = marks.outlines["heart"]
    np.testing.assert_allclose(curve, [[8, 5], [16, 5], [16, 8]])
    # Without a spacing a pixel is a millimetre, as it is in Slicer.
    plain = read_markups(path, Grid((40, 40)), None, ["heart"])
    np.testing.assert_allclose(plain.outlines["heart"][0][0], [10, 20])
    points = read_markups(save(path, markups("Fiducial", system)), Grid((40, 40)), None, ["heart"])
    np.testing.assert_allclose(points.points["heart"][2], [14, 26])


def test_labels_of_people_become_names_of_organs() -> None:
    assert organ_named(" Right  Lung ") == "lung_right"
    assert organ_named("left-clavicle") == "clavicle_left"
    assert organ_named("LIVER", ["Liver"]) == "Liver"
    assert organ_named("Gallen-Blase") == "gallen_blase"


def _changed(value: dict[str, Any], where: str, new: Any) -> dict[str, Any]:
    changed = copy.deepcopy(value)
    *path, last = where.split(".")
    inside: Any = changed
    for key in path:
        inside = inside[int(key) if key.isdigit() else key]
    inside[int(last) if last.isdigit() else last] = new
    return changed


@pytest.mark.parametrize(
    ("where", "new", "error"),
    [
        ("shapes.0.points", [[1, float("nan")], [2, 2], [3, 1]], "not finite"),
        ("shapes.0.points", [[1, 1], [2, 2]], "2 points"),
        ("shapes.0.points", [["1", "2"], ["3", "4"], ["5", "6"]], "not pairs of numbers"),
        ("shapes.0.points", [[1, 2, 3], [1, 2, 3], [2, 2, 2]], "3 numbers each|not pairs"),
        ("shapes.0.points", [[1, 2], [3]], "not pairs of numbers"),
        ("shapes.0.points", [[1e300, 2], [3, 4], [5, 6]], "far outside"),
        ("shapes.0.points", [[10**400, 2], [3, 4], [5, 6]], "not pairs of numbers"),
        ("shapes.0.points", None, "not pairs of numbers|points"),
        ("shapes.0.points", {"x": 1}, "not pairs of numbers"),
        ("shapes.0.label", 3, "no label"),
        ("shapes.0", "polygon", "no label"),
        ("shapes.0.shape_type", "linestrip", "linestrip"),
        ("shapes.3.points", [[1, 2], [3, 4], [5, 6]], "rectangle of 3"),
        ("imageWidth", "10", "size"),
        ("imageWidth", 10**9, "size"),
        ("imageHeight", None, "size"),
        ("imageHeight", -8, "size"),
    ],
)
def test_damaged_shapes_of_labelme_are_refused(where: str, new: Any, error: str) -> None:
    with pytest.raises(DataError, match=error):
        labelme_marks(_changed(labelme(), where, new), HERE)


@pytest.mark.parametrize(
    ("where", "new", "error"),
    [
        ("annotations.0.image_id", 99, "image_id 99"),
        ("annotations.0.category_id", None, "category_id None"),
        ("annotations.0.category_id", [7], "category_id"),
        ("annotations.0", 5, "image_id None"),
        ("annotations.0.segmentation", [[1, 2, 3]], "not pairs"),
        ("annotations.0.segmentation", "text", "neither polygons"),
        ("annotations.1.segmentation.counts", [3, 2, 8], "fill 13"),
        ("annotations.1.segmentation.counts", [3, -2, 11], "whole numbers"),
        ("annotations.1.segmentation.counts", [2**62, 2**62], "within the mask"),
        ("annotations.1.segmentation.counts", [1.5, 10.5], "whole numbers"),
        ("annotations.1.segmentation.counts", "P" * 40, "cut short"),
        ("annotations.1.segmentation.counts", "a\x00", "never writes|cut short"),
        ("annotations.1.segmentation.counts", None, "neither a list nor a text"),
        ("annotations.1.segmentation.size", [3, 5], "has the size"),
        ("annotations.1.segmentation.size", [2**40, 2**40], "size"),
        ("annotations.2.keypoints", [1, 2, 2, 3], "not numbers x, y, v"),
        ("annotations.2.keypoints", [[1, 2, 2]], "not numbers x, y, v"),
        ("images.1.id", 1, "twice"),
        ("images.1.file_name", "a.png", "twice"),
        ("images.1", 5, "no id"),
        ("categories.0.name", 5, "no name"),
    ],
)
def test_damaged_annotations_of_coco_are_refused(where: str, new: Any, error: str) -> None:
    with pytest.raises(DataError, match=error):
        coco_marks(_changed(coco(), where, new), HERE)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: text.replace("2.0,1.0;", "2.0,nan;"), "not finite"),
        (lambda text: text.replace("2.0,1.0;", "2.0;"), "not pairs"),
        (lambda text: text.replace("2.0,1.0;", "2.0,x;"), "not numbers"),
        (lambda text: text.replace('label="heart"', 'label=""'), "no label"),
        (lambda text: text.replace("<polygon", "<polyline"), "polyline"),
        (lambda text: text.replace("1, 2, 3", "1, 2, 4"), "fill 7"),
        (lambda text: text.replace("1, 2, 3", "1, x, 3"), "not whole numbers"),
        (lambda text: text.replace('left="4"', 'left="9"'), "reaches beyond"),
        (lambda text: text.replace('width="10"', 'width="1e9"', 1), "size"),
        (lambda text: text.replace('name="b.png"', 'name="site/a.png"'), "twice"),
        (lambda text: text.replace("annotations>", "other>"), "not an export of CVAT"),
        (lambda text: text[:200], "cannot be read as XML"),
        (lambda text: '<!DOCTYPE x [<!ENTITY e "e">]>' + text, "document type"),
        (lambda text: "<a>" * 100 + "</a>" * 100, "nested deeper"),
        (lambda text: "<a>" * 100_000, "nested deeper|cannot be read"),
    ],
)
def test_damaged_exports_of_cvat_are_refused(
    tmp_path: Path, change: Callable[[str], str], error: str
) -> None:
    with pytest.raises(DataError, match=error):
        read_cvat(save(tmp_path / "a.xml", change(CVAT)))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([], "no markups"),
        ({"markups": "x"}, "no markups"),
        ({"markups": [3]}, "no markups"),
        (markups("Line"), "'Line'"),
        (markups(coordinateUnits="cm"), "millimetres"),
        (markups(coordinateSystem="ijk"), "neither LPS nor RAS"),
        (markups(controlPoints=None), "no list of control points"),
        (markups(controlPoints=[1]), "not a point"),
        (markups(controlPoints=[{"position": [1, 2]}]), "three"),
        (markups(controlPoints=[{"position": [1, 2, float("inf")]}]), "finite"),
        (markups(controlPoints=[{"position": "abc"}]), "three"),
        (markups(controlPoints=[{"position": [1, 2, 3], "positionStatus": "undefined"}]), "no position"),
        (markups(controlPoints=[{"position": [1, 2, 3]}]), "has 1 points"),
        (markups(controlPoints=[{"position": [i, i, 9 * i]} for i in range(4)]), "one plane"),
    ],
)
def test_damaged_markups_are_refused(tmp_path: Path, value: Any, error: str) -> None:
    path = save(tmp_path / "a.mrk.json", value)
    with pytest.raises(DataError, match=error):
        read_markups(path, Grid((40, 40)), "heart")


def test_markups_say_which_organ_they_mark(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mrk.json", markups())
    with pytest.raises(DataError, match="nothing says which organ"):
        read_markups(path, Grid((40, 40)), None, ["liver"])
    with pytest.raises(DataError, match="marks a volume"):
        read_markups(path, Grid((40, 40, 4)), "heart")


def test_files_that_nest_without_end_are_refused(tmp_path: Path) -> None:
    deep = save(tmp_path / "deep.json", "[" * 200_000)
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_json(deep)
    nested: Any = [1, 2]
    for _ in range(200):
        nested = [nested]
    with pytest.raises(DataError, match="not pairs of numbers"):
        labelme_marks(_changed(labelme(), "shapes.0.points", nested), HERE)
