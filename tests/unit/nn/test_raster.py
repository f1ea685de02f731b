import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Outline

from anatozoo.nn.raster import grid_centres, nearest_edges, polygon_inside, soft_polygon


def star_shaped(nodes: int, seed: int) -> torch.Tensor:
    """A polygon without crossings, partly outside the frame."""
    draw = torch.Generator().manual_seed(seed)
    radius = 0.15 + 0.5 * torch.rand(nodes, generator=draw)
    angle = torch.arange(nodes) * (2 * math.pi / nodes)
    return 0.5 + radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 50), (1, 7)])
def test_inside_agrees_with_matplotlib(height: int, width: int) -> None:
    polygons = torch.stack([star_shaped(17, seed) for seed in range(6)])
    ours = polygon_inside(polygons, height, width)
    centres = grid_centres(height, width, polygons).reshape(-1, 2).numpy()
    for mask, polygon in zip(ours, polygons.numpy(), strict=True):
        expected = Outline(np.vstack([polygon, polygon[:1]])).contains_points(centres).reshape(height, width)
        assert np.array_equal(mask.numpy(), expected)
        assert mask.any()


def test_inside_follows_the_even_odd_rule_where_a_polygon_crosses_itself() -> None:
    angle = torch.arange(5) * (4 * math.pi / 5)  # a pentagram, whose middle is wound around twice
    pentagram = 0.5 + 0.45 * torch.stack([angle.sin(), -angle.cos()], 1)
    mask = polygon_inside(pentagram[None], 21, 21)[0]
    assert not mask[10, 10]
    assert mask[3, 10]


def test_inside_counts_pixels_by_their_centres() -> None:
    box = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.5], [0.25, 0.5]]])
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1, 1:3] = True
    assert torch.equal(polygon_inside(box, 4, 4)[0], expected)
    assert torch.equal(polygon_inside(box.flip(1), 4, 4)[0], expected)  # whichever way around


def test_grid_centres_are_x_then_y() -> None:
    centres = grid_centres(2, 4, torch.zeros(()))
    assert centres[1, 2].tolist() == [0.625, 0.75]


def test_soft_polygon_is_the_hard_one_away_from_the_edge_and_half_on_it() -> None:
    box = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]], dtype=torch.float64)
    soft = soft_polygon(box, 32, 0.01)[0]
    hard = polygon_inside(box, 32, 32)[0].double()
    away = (grid_centres(32, 32, box) - 0.5).abs().amax(-1).sub(0.25).abs() > 0.1
    assert float((soft - hard).abs()[away].max()) < 1e-3
    box[0, 1:3, 0] = 16.5 / 32  # the right side now runs through the centres of column 16
    assert float(soft_polygon(box, 32, 0.01)[0, 16, 16]) == pytest.approx(0.5, abs=1e-3)


def test_soft_polygon_follows_the_distance() -> None:
    box = torch.tensor([[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    row = soft_polygon(box, 16, 0.05)[0, 8]
    distance = torch.tensor([0.5 - (i + 0.5) / 16 for i in range(4, 16)])
    torch.testing.assert_close(row[4:].float(), torch.sigmoid(distance / 0.05), rtol=1e-4, atol=1e-6)


def test_moving_a_vertex_outwards_covers_more() -> None:
    angle = torch.arange(12) * (2 * math.pi / 12)
    outwards = torch.stack([angle.cos(), angle.sin()], 1).double()
    points = (0.5 + 0.3 * outwards)[None].requires_grad_()
    soft_polygon(points, 48, 0.02).sum().backward()
    assert points.grad is not None
    assert bool(((points.grad[0] * outwards).sum(1) > 0).all())


@pytest.mark.parametrize("count", [3, 26, 50])
def test_the_nearest_edges_alone_give_the_same_soft_polygon(count: int) -> None:
    points = torch.stack([star_shaped(count, seed) for seed in (1, 2)]).double().requires_grad_()
    found = [soft_polygon(points, 24, 0.02, edges) for edges in (None, nearest_edges(points, 24))]
    torch.testing.assert_close(*found, rtol=0, atol=1e-7)
    weight = torch.linspace(0, 1, 24)
    grads = [torch.autograd.grad((x * weight).sum(), points)[0] for x in found]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


def test_soft_polygon_gradient_is_the_numerical_one() -> None:
    points = star_shaped(7, 3).double()[None].requires_grad_()
    # Softness is large so that no pixel lies where the nearest edge changes within the step.
    assert torch.autograd.gradcheck(lambda p: soft_polygon(p, 6, 0.2).sum(), points, eps=1e-7, atol=1e-4)


def test_a_collapsed_polygon_has_finite_gradients() -> None:
    points = torch.full((1, 5, 2), 0.5, requires_grad=True)
    soft_polygon(points, 9, 0.05).sum().backward()
    assert points.grad is not None
    assert bool(points.grad.isfinite().all())
