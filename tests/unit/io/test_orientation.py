"""Orders of axes: every voxel stays where it is in space, and one place has one index."""

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk

from anatozoo.io.grid import Grid, grid_of_itk, itk_image
from anatozoo.io.orientation import APEX, Orientation, axis_across, coarsest_axis, tells_apex
from tests.support.orders import OBLIQUE, SHORT_AXIS, all_orders, rotation

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def grids() -> Iterator[Grid]:
    """Volumes along the patient's axes, oblique, at 45 degrees, sheared, and without some of it."""
    yield Grid((5, 6, 4), (1.0, 1.5, 3.0), (7.0, -8.0, 9.0), IDENTITY)
    yield Grid((5, 6, 4), (1.0, 1.5, 3.0), (7.0, -8.0, 9.0), OBLIQUE)
    yield Grid((5, 6, 4), (1.0, 1.5, 8.0), (7.0, -8.0, 9.0), SHORT_AXIS)
    yield Grid((5, 6, 4), None, None, tuple(rotation(0, 0, 45).ravel()))
    yield Grid((5, 6, 4), (1.0, 1.0, 1.0), None, tuple(rotation(45, 45, 45).ravel()))
    yield Grid((5, 6, 4), (2.0, 1.0, 1.0), None, (1, 0.2, 0, 0, 1, 0.1, 0, 0, 1))


@pytest.mark.parametrize("grid", [*grids()])
@pytest.mark.parametrize("kind", ["to_patient", "of_slices", "of_heart"])
def test_all_48_orders_of_a_volume_become_one(grid: Grid, kind: str) -> None:
    values = np.arange(np.prod(grid.size)).reshape(grid.shape)
    first = getattr(Orientation, kind)(grid)
    expected = first.apply(values)
    for order in all_orders():
        stored, there = order.apply(values), order.grid(grid)
        turn = getattr(Orientation, kind)(there)
        np.testing.assert_array_equal(turn.apply(stored), expected)
        np.testing.assert_array_equal(turn.undo(turn.apply(stored)), stored)
        again, one = turn.grid(there), first.grid(grid)
        assert again.size == one.size
        assert again.spacing_mm == one.spacing_mm
        index = np.array([[0, 0, 0], [1, 2, 1], [2, 0, 3]])
        np.testing.assert_allclose(again.to_physical(index), one.to_physical(index), atol=1e-9)


def test_orders_are_those_of_itk() -> None:
    grid = Grid((5, 6, 4), (1.0, 1.5, 3.0), (7.0, -8.0, 9.0), OBLIQUE)
    image = itk_image(np.arange(120, dtype=np.int16).reshape(4, 6, 5), grid)
    for axes, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turned = sitk.Flip(sitk.PermuteAxes(image, axes), flips)
        order = Orientation(axes, flips)
        np.testing.assert_array_equal(
            order.apply(sitk.GetArrayFromImage(image)), sitk.GetArrayFromImage(turned)
        )
        assert order.grid(grid).differs_from(grid_of_itk(turned)) is None
    oriented = sitk.DICOMOrient(image, "LPS")
    turn = Orientation.to_patient(grid)
    np.testing.assert_array_equal(turn.apply(sitk.GetArrayFromImage(image)), sitk.GetArrayFromImage(oriented))
    assert turn.grid(grid).differs_from(grid_of_itk(oriented)) is None


def test_positions_and_vectors_follow_their_voxels() -> None:
    grid = Grid((5, 6, 4), (1.0, 1.5, 3.0), (7.0, -8.0, 9.0), OBLIQUE)
    points = np.random.default_rng(0).random((7, 3)) * 4
    for order in all_orders():
        moved = order.points(points, grid.size)
        np.testing.assert_allclose(order.grid(grid).to_physical(moved), grid.to_physical(points))
        np.testing.assert_allclose(order.inverse.points(moved, order.size(grid.size)), points)
        steps = order.vectors(points[1:] - points[:-1])
        np.testing.assert_allclose(steps, moved[1:] - moved[:-1], atol=1e-12)
        assert order.inverse.inverse == order
        assert Orientation.of_turn(3 * order.turn) == order


def test_channels_ahead_stay_where_they_are() -> None:
    values = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    for order in all_orders():
        turned = order.apply(values)
        np.testing.assert_array_equal(turned[1, 2], order.apply(values[1, 2]))
        np.testing.assert_array_equal(order.undo(turned), values)
        assert turned.flags.c_contiguous


def test_planes_and_volumes_without_directions_stay_as_they_are() -> None:
    for grid in (
        Grid((5, 6), (1.0, 2.0), None, (-1, 0, 0, 1)),
        Grid((5, 6, 4), (1.0, 1.0, 1.0)),
        Grid((5, 6, 4)),
    ):
        assert Orientation.to_patient(grid).is_unchanged
        assert Orientation.to_patient(grid).grid(grid) is grid
    # The axis across the slices comes first all the same, where its spacing tells.
    grid = Grid((4, 30, 20), (8.0, 1.0, 1.0))
    turn = Orientation.of_slices(grid)
    assert (turn.axes, turn.flips) == ((1, 2, 0), (False, False, False))
    assert turn.grid(grid).size == (30, 20, 4)


def test_the_axis_across_slices() -> None:
    assert axis_across(Grid((20, 20, 20), (1.0, 8.0, 1.2))) == 1
    assert axis_across(Grid((5, 20, 20), (1.0, 8.0, 1.2))) == 1  # spacings tell more than numbers
    assert axis_across(Grid((20, 20, 8), (1.0, 1.4, 1.2))) == 2
    assert axis_across(Grid((8, 20, 20), (1.0, 1.0, 1.0))) == 0
    assert axis_across(Grid((8, 20, 20))) == 0
    assert axis_across(Grid((8, 9, 20))) is None
    assert coarsest_axis(Grid((8, 20, 20), (2.0, 2.0, 1.0))) is None
    assert coarsest_axis(Grid((8, 20, 20))) is None


def test_only_oblique_slices_tell_base_from_apex() -> None:
    for order in all_orders():
        assert not tells_apex(order.grid(Grid((20, 20, 5), (1.0, 1.0, 8.0), None, IDENTITY)))
        assert tells_apex(order.grid(Grid((20, 20, 5), (1.0, 1.0, 8.0), None, SHORT_AXIS)))
    # A long-axis view: the apex lies within its slices.
    normal = np.cross(APEX, (0.0, 0.6, 0.8))
    across = np.stack([APEX, np.cross(normal, APEX), normal], 1)
    across /= np.linalg.norm(across, axis=0)
    assert not tells_apex(Grid((20, 20, 5), (1.0, 1.0, 8.0), None, tuple(across.ravel())))
    assert not tells_apex(Grid((20, 20, 5), (1.0, 1.0, 8.0)))


def test_a_heart_runs_from_base_to_apex_and_lies_as_on_a_screen() -> None:
    grid = Grid((20, 20, 5), (1.0, 1.0, 8.0), None, SHORT_AXIS)
    for order in all_orders():
        stored = order.grid(grid)
        x, y, z = Orientation.of_heart(stored).axes_of(stored).T
        assert z @ APEX > 0.9
        assert x[0] > 0.5  # to the left
        assert y[1] - y[2] > 1  # to the back and feet
        np.testing.assert_allclose(np.cross(x, y), -z, atol=1e-9)  # seen from the apex


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (IDENTITY, IDENTITY),  # axial
        ((1, 0, 0, 0, 0, 1, 0, -1, 0), (1, 0, 0, 0, 0, 1, 0, -1, 0)),  # coronal: left, feet, back
        ((0, 0, 1, 1, 0, 0, 0, -1, 0), (0, 0, 1, 1, 0, 0, 0, -1, 0)),  # sagittal: back, feet, left
    ],
)
def test_slices_of_any_plane_lie_as_on_a_screen(
    direction: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    grid = Grid((20, 20, 5), (1.0, 1.0, 8.0), None, direction)
    for order in all_orders():
        stored = order.grid(grid)
        assert Orientation.of_slices(stored).axes_of(stored).ravel().tolist() == list(expected)
