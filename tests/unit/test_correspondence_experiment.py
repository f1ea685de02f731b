"""The measure of whether nodes of contours correspond, on ellipses whose numbering slides or does not."""

from typing import Any

import numpy as np

EXPERIMENT = "node_correspondence"
RNG = np.random.default_rng(0)


def ellipse(first: float, count: int = 40, radii: tuple[float, float] = (30.0, 20.0)) -> np.ndarray:
    """A closed contour whose node 0 lies at this angle."""
    angle = first + 2 * np.pi * np.arange(count) / count
    return np.column_stack([50 + radii[0] * np.cos(angle), 60 + radii[1] * np.sin(angle)])


def patients(slide: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Contours whose numbering slides by up to so many radians, and always the same five landmarks."""
    return [(ellipse(RNG.uniform(-slide, slide)), ellipse(0.3, 5)) for _ in range(30)]


def test_places_and_points_are_inverse_to_each_other(evidence: Any) -> None:
    contour = ellipse(0.2)
    wanted = np.array([0.0, 0.25, 17.5, 39.75])
    places, distance = evidence.places_on(contour, evidence.point_at(contour, wanted))
    np.testing.assert_allclose(places, wanted, atol=1e-9)
    np.testing.assert_allclose(distance, 0, atol=1e-9)


def test_the_usual_place_of_points_on_both_sides_of_the_first_node_is_near_it(evidence: Any) -> None:
    found = evidence.usual_places(np.array([[39.5, 10.0], [0.5, 12.0]]), 40)
    np.testing.assert_allclose([(found[0] + 20) % 40 - 20, found[1]], [0, 11], atol=1e-9)


def test_nodes_that_slide_carry_landmarks_away_and_those_that_correspond_do_not(evidence: Any) -> None:
    fixed, nearest = evidence.distances(patients(0.0), patients(0.0))
    sliding, same = evidence.distances(patients(0.4), patients(0.4))
    assert fixed.max() < 0.3
    assert sliding.mean() > 2
    assert max(nearest.max(), same.max()) < 0.3  # the contours themselves are right in both
