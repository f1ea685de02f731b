from typing import Any

import numpy as np
import pytest

from anatozoo.errors import DataError, GeometryError
from anatozoo.io.grid import Grid
from anatozoo.metrics.cardiac import cardiac_function, myocardial_mass_g
from anatozoo.results.volume import VolumeResult

CLASSES = ("right_ventricle", "myocardium", "left_ventricle")


def phase(counts: tuple[int, int, int], spacing: Any = (2.0, 2.5, 10.0), size: int = 20) -> VolumeResult:
    """A result with this many voxels of each class."""
    labels = np.zeros((4, size, size), np.uint8)
    flat, start = labels.reshape(-1), 0
    for value, count in enumerate(counts, start=1):
        flat[start : start + count] = value
        start += count
    return VolumeResult("m", "1", "heart", Grid((size, size, 4), spacing), CLASSES, labels)


def test_volumes_ejection_fraction_and_mass() -> None:
    found = cardiac_function(phase((200, 300, 400)), phase((100, 320, 160)))
    left, right = (found.ventricles[f"{side}_ventricle"] for side in ("left", "right"))
    voxel = 2 * 2.5 * 10 / 1000
    assert left.end_diastolic_ml == pytest.approx(400 * voxel)
    assert left.end_systolic_ml == pytest.approx(160 * voxel)
    assert left.stroke_ml == pytest.approx(240 * voxel)
    assert left.ejection_percent == pytest.approx(60)
    assert right.ejection_percent == pytest.approx(50)
    assert found.myocardial_mass_g == pytest.approx(1.05 * 300 * voxel)
    assert found.flags == ()
    assert found.to_dict()["ventricles"]["left_ventricle"]["ejection_percent"] == 60


def test_without_a_spacing_only_ratios_are_known() -> None:
    found = cardiac_function(phase((0, 300, 400), None), phase((0, 320, 160), None))
    assert list(found.ventricles) == ["left_ventricle"]
    left = found.ventricles["left_ventricle"]
    assert (left.end_diastolic_ml, left.end_systolic_ml, left.stroke_ml) == (None, None, None)
    assert left.ejection_percent == pytest.approx(60)
    assert found.myocardial_mass_g is None
    assert found.to_dict()["myocardial_mass_g"] is None


def test_voxels_of_other_sizes_are_converted() -> None:
    found = cardiac_function(phase((1, 1, 400)), phase((1, 1, 400), (1.0, 2.5, 10.0)))
    assert found.ventricles["left_ventricle"].ejection_percent == pytest.approx(50)


def test_exchanged_phases_are_flagged() -> None:
    found = cardiac_function(phase((100, 1, 160)), phase((50, 1, 400)))
    assert found.flags == ("negative_ejection_left_ventricle",)
    assert found.ventricles["left_ventricle"].ejection_percent < 0


def test_what_cannot_be_compared_is_refused() -> None:
    one = phase((1, 1, 1))
    with pytest.raises(GeometryError, match="spacing of one phase"):
        cardiac_function(one, phase((1, 1, 1), None))
    with pytest.raises(GeometryError, match="same size"):
        cardiac_function(phase((1, 1, 1), None), phase((1, 1, 1), None, 30))
    with pytest.raises(DataError, match="no ventricle"):
        cardiac_function(phase((0, 5, 0)), one)
    assert myocardial_mass_g(phase((1, 0, 1))) is None
