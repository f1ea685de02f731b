import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.results.shapes import ShapeSet

ORGANS = {"heart": 4, "aorta": 5}
SQUARE = [[10, 10], [50, 10], [50, 60], [10, 60]]
BOW = [[10, 10], [50, 60], [50, 10], [10, 60]]
OTHER = [[70, 70], [80, 70], [85, 75], [80, 80], [70, 80]]


def shapes(**values: Any) -> ShapeSet:
    points = np.array([SQUARE + OTHER, BOW + OTHER], float)
    wanted: dict[str, Any] = {"organs": ORGANS, "points": points, "captions": ("one", "two")}
    return ShapeSet("toy", "1.0.0", (100, 120), **wanted | values)


def test_each_shape_has_its_organs() -> None:
    found = shapes()
    assert len(found) == len(list(found)) == 2
    assert found[0]["heart"].tolist() == SQUARE
    assert found[1]["aorta"].tolist() == OTHER
    assert found.clean.tolist() == [True, False]
    with pytest.raises(ValueError, match="read-only"):
        found.points[0, 0, 0] = 1


def test_all_formats_are_written(tmp_path: Path) -> None:
    paths = {path.name: path for path in shapes().save(tmp_path, ["png", "json", "csv"])}
    assert set(paths) == {"toy_shapes.png", "toy.json", "toy_shapes.csv"}
    stored = json.loads(paths["toy.json"].read_text())
    assert stored["clean"] == [True, False]
    assert stored["captions"] == ["one", "two"]
    assert stored["shapes"][1]["heart"] == BOW
    rows = list(csv.reader(paths["toy_shapes.csv"].read_text().splitlines()))
    assert len(rows) == 1 + 2 * 9
    assert rows[1] == ["0", "heart", "0", "10.0", "10.0"]
    assert paths["toy_shapes.png"].read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="sets of shapes have no format nifti"):
        shapes().save(tmp_path, ["nifti"])


def test_the_picture_says_which_shapes_cross_and_how_many_are_left_out() -> None:
    titles = [ax.get_title() for ax in shapes().plot().axes]
    assert titles == ["one", "two, crossed"]
    many = shapes(points=np.repeat(shapes().points[:1], 41, 0), captions=("x",) * 41).plot()
    assert sum(bool(ax.patches) for ax in many.axes) == 40
    assert many.legends[0].get_title().get_text() == "the first 40 of 41"


@pytest.mark.parametrize(
    "values",
    [
        {"captions": ("one",)},
        {"organs": {"heart": 4}},
        {"points": np.full((2, 9, 2), np.nan)},
        {"points": np.zeros((0, 9, 2)), "captions": ()},
    ],
)
def test_other_points_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(GeometryError, match="points must be finite"):
        shapes(**values)
