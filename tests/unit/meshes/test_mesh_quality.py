"""The quality of triangles is Verdict's, and surfaces that cut themselves are found."""

import numpy as np
import pytest

from anatozoo.meshes.quality import aspect_ratio, crossings, scaled_jacobian, surface_quality

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_an_equilateral_triangle_is_perfect_and_a_flat_one_is_not() -> None:
    places = np.array([[0.0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0], [2, 0, 0]])
    faces = np.array([[0, 1, 2], [0, 1, 3]])
    np.testing.assert_allclose(scaled_jacobian(places, faces), [1, 0], atol=1e-12)
    np.testing.assert_allclose(aspect_ratio(places, faces), [1, np.inf])


def test_a_tetrahedron_is_closed_until_a_face_is_missing() -> None:
    whole, holed = surface_quality(CORNERS, TETRAHEDRON), surface_quality(CORNERS, TETRAHEDRON[1:])
    assert whole.closed
    assert whole.crossings == 0
    assert not holed.closed
    assert holed.open_edges == 3


@pytest.mark.parametrize(("shift", "expected"), [((3, 0, 0), 0), ((0.2, 0.21, 0.22), 6), ((0, 0, 1), 0)])
def test_two_tetrahedra_cross_only_where_they_overlap(shift: tuple[float, ...], expected: int) -> None:
    places = np.vstack([CORNERS, CORNERS + shift])
    found = crossings(places, np.vstack([TETRAHEDRON, TETRAHEDRON + 4]))
    assert bool(found) == bool(expected)


def test_a_sphere_of_many_triangles_does_not_cross_and_one_pushed_through_does() -> None:
    rings, angles = 12, 16
    polar, turn = np.meshgrid(
        np.linspace(0.2, 2.9, rings), np.linspace(0, 2 * np.pi, angles, endpoint=False), indexing="ij"
    )
    places = np.stack(
        [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1
    ).reshape(-1, 3)
    ring, angle = np.mgrid[: rings - 1, :angles]
    a, b = ring * angles + angle, ring * angles + (angle + 1) % angles
    faces = np.stack([a, b, b + angles, a, b + angles, a + angles], -1).reshape(-1, 3)
    assert crossings(places, faces) == 0
    places[5 * angles] *= -2
    assert crossings(places, faces) > 0


def test_shapes_of_triangles_agree_with_pyvista() -> None:
    pyvista = pytest.importorskip("pyvista")
    random = np.random.default_rng(0)
    places, faces = (
        random.normal(size=(60, 3)),
        random.permuted(np.tile(np.arange(60), (40, 1)), axis=1)[:, :3],
    )
    mesh = pyvista.PolyData.from_regular_faces(places, faces)
    found = mesh.cell_quality(["scaled_jacobian", "aspect_ratio"])
    np.testing.assert_allclose(scaled_jacobian(places, faces), found["scaled_jacobian"], rtol=1e-5)
    np.testing.assert_allclose(aspect_ratio(places, faces), found["aspect_ratio"], rtol=1e-5)
