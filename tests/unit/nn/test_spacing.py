import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.nn.spacing import Spacing, spacing_matrix, way_along

ORGANS = {"ring": 12, "other": 5}
ANCHORS = {"ring": [0, 3, 8]}


def on_circle(turns: Tensor) -> Tensor:
    """Points at these shares of a turn, (..., N) -> (..., N, 2)."""
    angle = turns * 2 * torch.pi
    return 0.5 + 0.3 * torch.stack([angle.cos(), angle.sin()], -1)


def shape() -> Tensor:
    """A ring with stretches of unequal spacing, and another organ, (1, 17, 2)."""
    turns = torch.tensor([0, 0.05, 0.12, 0.2, 0.3, 0.38, 0.44, 0.5, 0.6, 0.7, 0.8, 0.9])
    return torch.cat([on_circle(turns), on_circle(torch.arange(5) / 5) * 0.2], 0)[None]


def spacing() -> Spacing:
    layer = Spacing(ORGANS, ANCHORS)
    layer.take_from(shape()[0])
    return layer


def test_way_along_a_square() -> None:
    square = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    torch.testing.assert_close(way_along(square), torch.tensor([0.0, 2, 4, 6, 8]))


def test_the_reference_shape_stays_wherever_and_however_large_it_is() -> None:
    layer, points = spacing(), shape()
    torch.testing.assert_close(layer(points), points, rtol=0, atol=1e-5)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    moved = 0.4 * points @ turn + torch.tensor([0.3, -0.2])
    torch.testing.assert_close(layer(moved), moved, rtol=0, atol=1e-5)


def test_landmarks_between_anchors_are_spaced_as_in_the_reference() -> None:
    layer = spacing()
    turns = torch.tensor([0.01, 0.09, 0.1, 0.22, 0.25, 0.4, 0.46, 0.47, 0.61, 0.66, 0.84, 0.93])
    spaced = layer(torch.cat([on_circle(turns)[None], shape()[:, 12:]], 1))[:, :12]
    # Shares of the stretches, measured along the polygon that the given landmarks form.
    polygon = torch.cat([on_circle(turns), on_circle(turns[:1])])
    fine = torch.lerp(polygon[:-1, None], polygon[1:, None], torch.linspace(0, 1, 2001)[:-1, None]).flatten(
        0, 1
    )
    way = way_along(fine)[:-1]
    place = way[torch.cdist(spaced[0], fine).argmin(1)]
    expected = way_along(shape()[0, :12])
    for first, last in ((0, 3), (3, 8)):
        share = (place[first:last] - place[first]) / (place[last] - place[first])
        reference = (expected[first:last] - expected[first]) / (expected[last] - expected[first])
        torch.testing.assert_close(share, reference, rtol=0, atol=2e-3)


def test_every_landmark_of_a_stretch_votes_for_its_ends() -> None:
    layer, points = spacing(), shape()
    dense = torch.cat([on_circle(torch.arange(360) / 360)[None], points[:, 12:]], 1)
    assert dense.shape[1] == 365
    # All slide by the same way: a shift along the contour is no error of spacing and stays.
    slid = torch.cat(
        [
            on_circle(
                torch.tensor([0.02])
                + torch.tensor([0, 0.05, 0.12, 0.2, 0.3, 0.38, 0.44, 0.5, 0.6, 0.7, 0.8, 0.9])
            ),
            points[0, 12:],
        ]
    )[None]
    torch.testing.assert_close(layer(slid), slid, rtol=0, atol=1e-5)
    # One alone slides: it is drawn back, and its neighbours follow it a little.
    alone = points.clone()
    alone[0, 5] = on_circle(torch.tensor(0.40))
    back = layer(alone)
    error = (back - points)[0, :12].norm(dim=-1)
    before = float((alone - points)[0, 5].norm())
    assert float(error.max()) < 0.75 * before
    assert float(error[5]) > 0


def test_a_matrix_projects() -> None:
    projection, wrap = spacing_matrix(shape()[0, :12], [0, 3, 8])
    torch.testing.assert_close(projection @ projection, projection, rtol=0, atol=1e-5)
    torch.testing.assert_close(wrap[8:], torch.tensor([0, 0.25, 0.5, 0.75]), rtol=0, atol=0.02)
    assert not wrap[:8].any()


def test_organs_without_anchors_stay() -> None:
    torch.manual_seed(0)
    points = torch.rand(2, 17, 2)
    result = spacing()(points)
    assert torch.equal(result[:, 12:], points[:, 12:])
    assert not torch.equal(result[:, :12], points[:, :12])
    assert torch.equal(Spacing(ORGANS, {"unknown": [0, 2]})(points), points)


def test_an_organ_without_a_shape_keeps_its_spacing() -> None:
    layer = spacing()
    known = layer.projection.clone()
    layer.take_from(torch.full((17, 2), 0.5))
    assert torch.equal(layer.projection, known)


def test_gradients_are_those_of_finite_differences_and_finite_where_points_coincide() -> None:
    torch.manual_seed(0)
    layer = spacing().double()
    points = (shape().double() + 0.004 * torch.randn(1, 17, 2)).requires_grad_()
    assert torch.autograd.gradcheck(layer, (points,), eps=1e-7, atol=1e-4)
    together = torch.full((1, 17, 2), 0.5, requires_grad=True)
    result = spacing()(together)
    torch.testing.assert_close(result, together.detach(), rtol=0, atol=1e-5)
    result.sum().backward()
    assert together.grad is not None
    assert bool(together.grad.isfinite().all())


@pytest.mark.parametrize("anchors", [[], [1, 3], [0, 3, 3], [0, 12], [0, 5, 2], [0, -1]])
def test_impossible_anchors_are_refused(anchors: list[int]) -> None:
    with pytest.raises(ConfigError, match="anchors of ring must start with 0"):
        Spacing(ORGANS, {"ring": anchors})
