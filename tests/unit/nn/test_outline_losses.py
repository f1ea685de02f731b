import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from anatozoo.nn.outline_losses import (
    annealed,
    chamfer,
    curvature,
    edge_lengths,
    elasticity,
    raster_loss,
    squared_distance,
    uneven_edges,
)


def ring(count: int, radius: float = 0.2, turn: float = 0.0) -> Tensor:
    """One circle around the middle of the frame, (1, count, 2)."""
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count) + turn
    return (0.5 + radius * torch.stack([angles.cos(), angles.sin()], -1))[None]


SQUARE = torch.tensor([[[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]])
TERMS = (uneven_edges, elasticity, curvature)


def test_distances_are_to_edges_not_to_vertices() -> None:
    points = torch.tensor([[[0.5, 0.21], [0.5, 0.2], [0.9, 0.9], [0.1, 0.5]]])
    found = squared_distance(points, SQUARE)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, 200.0, 100.0]]), rtol=1e-4, atol=1e-4)


def test_chamfer_ignores_where_nodes_lie_along_the_outline() -> None:
    between = torch.tensor([[[0.5, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8], [0.2, 0.2]]])
    assert float(chamfer(SQUARE, between)) == pytest.approx(0, abs=1e-5)
    assert float(chamfer(ring(48), ring(48, turn=0.03), delta=1e3)) < 1e-2


def test_chamfer_of_circles_is_their_gap_squared_and_linear_beyond_delta() -> None:
    near, far = ring(400, 0.205), ring(400, 0.25)
    assert float(chamfer(ring(400), near)) == pytest.approx(2 * 0.5**2 / 2, rel=0.01)
    assert float(chamfer(ring(400), far)) == pytest.approx(2 * (5 - 0.5), rel=0.01)
    assert float(chamfer(ring(400), far, delta=100.0)) == pytest.approx(5**2, rel=0.01)


def test_chamfer_sees_an_outline_that_a_small_contour_does_not_reach() -> None:
    # All nodes lie on the outline, and yet half of it is far away.
    bottom = torch.tensor([[[0.2, 0.2], [0.5, 0.2], [0.8, 0.2], [0.5, 0.2]]])
    assert float(squared_distance(bottom, SQUARE).max()) < 1e-4
    assert float(chamfer(bottom, SQUARE)) > 10


def test_descending_chamfer_brings_a_contour_to_the_outline() -> None:
    contour, outline = ring(32, 0.1).requires_grad_(), ring(64, 0.3)
    optimizer = torch.optim.Adam([contour], 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        (chamfer(contour, outline) + uneven_edges(contour)).sum().backward()
        optimizer.step()
    assert float(chamfer(contour, outline).detach()) < 0.1


@pytest.mark.parametrize("term", TERMS)
def test_terms_of_a_circle_are_known_and_no_term_depends_on_place(term: Callable[[Tensor], Tensor]) -> None:
    count, radius = 40, 0.2
    edge = 2 * radius * math.sin(math.pi / count) * 100
    known = {uneven_edges: 0.0, elasticity: edge**2, curvature: (edge * 2 * math.sin(math.pi / count)) ** 2}
    assert float(term(ring(count, radius))) == pytest.approx(known[term], abs=1e-6)
    torch.testing.assert_close(term(ring(count) + 0.1), term(ring(count)))
    assert float(term(torch.cat([ring(count), SQUARE.double().repeat_interleave(10, 1)]))[1]) > known[term]


def test_uneven_edges_do_not_depend_on_size() -> None:
    kite = torch.tensor([[[0.5, 0.1], [0.6, 0.5], [0.5, 0.6], [0.4, 0.5]]])
    torch.testing.assert_close(uneven_edges(kite), uneven_edges(kite / 3))
    assert float(uneven_edges(kite)) > 0.1


def test_raster_loss_is_small_for_the_drawn_region_only() -> None:
    # The square is one of whole cells.
    mask = torch.zeros(1, 40, 40)
    mask[:, 8:32, 8:32] = 1
    same, shifted, nothing = (float(raster_loss(x, mask)) for x in (SQUARE, SQUARE + 0.1, SQUARE * 0.01))
    assert same < 0.05 < 0.5 < shifted < nothing


def test_raster_gradient_moves_the_border_outwards_where_the_mask_is_larger() -> None:
    contour = SQUARE.clone().requires_grad_()
    mask = torch.zeros(1, 40, 40)
    mask[:, 8:32, 8:33] = 1  # one cell more on the right
    [gradient] = torch.autograd.grad(raster_loss(contour, mask).sum(), contour)
    assert bool((gradient[0, 1:3, 0] < 0).all())
    assert gradient[0, 1:3, 0].abs().min() > 10 * gradient[0, [0, 3], 0].abs().max()


@pytest.mark.parametrize("name", ["chamfer", "raster", "edges", "elasticity", "curvature"])
def test_gradients_are_finite_for_a_contour_in_one_point(name: str) -> None:
    contour = torch.full((1, 8, 2), 0.5, requires_grad=True)
    value = {
        "chamfer": lambda: chamfer(contour, SQUARE),
        "raster": lambda: raster_loss(contour, torch.ones(1, 16, 16)),
        "edges": lambda: uneven_edges(contour),
        "elasticity": lambda: elasticity(contour),
        "curvature": lambda: curvature(contour),
    }[name]().sum()
    value.backward()
    assert contour.grad is not None
    assert bool(value.isfinite())
    assert bool(contour.grad.isfinite().all())


def test_each_image_has_its_own_value() -> None:
    both = torch.cat([ring(16), ring(16, 0.3)])
    for term in (lambda x: chamfer(x, ring(64).expand(len(x), -1, -1)), *TERMS):
        torch.testing.assert_close(term(both), torch.cat([term(both[:1]), term(both[1:])]))
    assert edge_lengths(both).shape == (2, 16)


@pytest.mark.parametrize(
    ("first", "last", "share", "expected"),
    [
        (1.0, 0.01, 0.0, 1.0),
        (1.0, 0.01, 0.5, 0.1),
        (1.0, 0.01, 3.0, 0.01),
        (0.0, 2.0, 0.25, 0.5),
        (2.0, 0.0, 0.5, 1.0),
        (0.3, 0.3, 0.7, 0.3),
    ],
)
def test_weights_change_by_equal_factors(first: float, last: float, share: float, expected: float) -> None:
    assert annealed(first, last, share) == pytest.approx(expected)
