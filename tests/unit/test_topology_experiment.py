"""Counting faults of form: what covers a lung is no fault of it, and what lies apart is."""

from typing import Any

import numpy as np

from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult
from anatozoo.results.segmentation import SegmentationResult

EXPERIMENT = "topology_evidence"
ORGANS = ["lung_right", "lung_left", "heart", "clavicle_right"]


def chest() -> np.ndarray:
    """Right lung crossed by a clavicle, left lung with a heart that cuts it, no organ at fault."""
    labels = np.zeros((40, 60), np.uint8)
    labels[4:36, 5:25] = 1
    labels[4:36, 35:55] = 2
    labels[20:30, 22:40] = 3
    labels[8:11, 2:30] = 4
    return labels


def result(labels: np.ndarray, **changes: Any) -> SegmentationResult:
    values: dict[str, Any] = {"checkpoint": "toy", "version": "1.0.0", "image": "a.png", "spacing_mm": None}
    values |= {"size": (60, 40), "flags": (), "pixels": None}
    if not changes:
        return LabelResult(label_map=labels, classes=ORGANS, **values)
    return ContourResult(**(values | changes))


def test_organs_that_cover_one_another_are_whole(evidence: Any) -> None:
    total = evidence.totals(evidence.faults(result(chest())))
    assert total == dict.fromkeys(evidence.COLUMNS, 0) | {"organs": 4, "whole": 4}


def test_parts_holes_and_lost_organs_are_counted(evidence: Any) -> None:
    labels = chest()
    labels[0:2, 50:52] = 1  # an islet of the right lung beside the left one
    labels[24:26, 30:32] = 0  # a hole of the heart
    labels[labels == 4] = 0  # the clavicle is lost, and the right lung really is in two parts
    total = evidence.totals(evidence.faults(result(labels)))
    assert total == {
        "organs": 4,
        "whole": 1,
        "lost": 1,
        "extra_parts": 2,
        "holes": 1,
        "self_intersections": 0,
    }


def test_contours_are_taken_as_they_are(evidence: Any) -> None:
    eight = np.array([[2, 2], [20, 20], [20, 2], [2, 20]], float)
    square = np.array([[30, 2], [50, 2], [50, 20], [30, 20]], float)
    found = result(chest(), landmarks={"lung_right": eight, "heart": square})
    rows = evidence.faults(found)
    assert [row["self_intersections"] for row in rows] == [1, 0]
    assert [row["whole"] for row in rows] == [0.0, 1.0]
