"""Landmarks from contours that people drew."""

import numpy as np
import pytest

from anatozoo.data.contours import STARTS, resampled
from anatozoo.errors import DataError
from anatozoo.io.landmarks import Points
from anatozoo.organs import CHEST_ORGANS
from tests.support.phantoms import make_chest_phantom


def ellipse(count: int = 400) -> Points:
    angle = np.arange(count) * 2 * np.pi / count
    return np.stack([30 + 20 * np.cos(angle), 50 + 10 * np.sin(angle)], 1)


def test_other_organs_begin_at_the_top_and_run_clockwise() -> None:
    found = resampled(ellipse(), 40)
    np.testing.assert_allclose(found[0], [30, 40], atol=0.2)
    assert found[1, 0] > found[0, 0]  # to the right in the picture
    np.testing.assert_allclose(found[20], [30, 60], atol=0.2)
    steps = np.linalg.norm(np.diff(found, axis=0, append=found[:1]), axis=1)
    assert steps.max() / steps.min() < 1.01


@pytest.mark.parametrize("organ", ["heart", "lung_right", "spleen"])
def test_neither_the_first_point_nor_the_direction_matters(organ: str) -> None:
    expected = resampled(ellipse(), 26, organ)
    for changed in (np.roll(ellipse(), 123, axis=0), ellipse()[::-1], np.repeat(ellipse(), 2, axis=0)):
        np.testing.assert_allclose(resampled(changed, 26, organ), expected, atol=1e-9)
    closed = np.concatenate([ellipse(), ellipse()[:1]])
    np.testing.assert_allclose(resampled(closed, 26, organ), expected, atol=1e-9)


def test_the_chest_organs_begin_where_the_public_landmarks_do() -> None:
    drawn = make_chest_phantom().landmarks
    for organ, count in CHEST_ORGANS.items():
        found = resampled(drawn[organ], count, organ)
        low, high = drawn[organ].min(0), drawn[organ].max(0)
        (x, y), clockwise = STARTS[organ]
        wanted = low + np.array([x, y]) * (high - low)
        gaps = np.linalg.norm(drawn[organ] - wanted, axis=1)
        assert np.linalg.norm(found[0] - wanted) <= gaps.min() + 1e-9
        ahead = np.roll(found, -1, axis=0)
        area = (found[:, 0] * ahead[:, 1] - ahead[:, 0] * found[:, 1]).sum()
        assert (area > 0) == clockwise


@pytest.mark.parametrize("points", [[[1, 1], [2, 2], [3, 3]], [[1, 1]] * 5, [[1, 1], [2, 1]]])
def test_a_contour_that_encloses_nothing_is_refused(points: list[list[float]]) -> None:
    with pytest.raises(DataError, match="encloses nothing"):
        resampled(np.array(points, float), 10, "heart")
