import pytest
import torch
from torch import Tensor

from anatozoo.metrics.contours import self_intersections
from anatozoo.nn.contours import open_loops, untangled

SQUARE = torch.tensor([[[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]])


def ring(count: int = 12) -> Tensor:
    angle = torch.arange(count) * 2 * torch.pi / count
    return (0.5 + 0.2 * torch.stack([angle.cos(), angle.sin()], -1))[None]


@pytest.mark.parametrize("swap", [(3, 4), (0, 11), (10, 11), (0, 1)])
def test_nodes_of_a_loop_are_spread_over_its_gap(swap: tuple[int, int]) -> None:
    crossed = ring()
    crossed[:, list(swap)] = crossed[:, list(swap[::-1])]
    assert self_intersections(crossed[0]) == 1
    straight = untangled(crossed)
    assert self_intersections(straight[0]) == 0
    moved = (straight != crossed).any(-1)[0].nonzero()[:, 0].tolist()
    assert moved == sorted(swap)
    first = 11 if swap == (0, 11) else min(swap)
    before, after = crossed[0, first - 1], crossed[0, (first + 2) % 12]
    torch.testing.assert_close(straight[0, first], torch.lerp(before, after, 1 / 3))
    torch.testing.assert_close(straight[0, (first + 1) % 12], torch.lerp(before, after, 2 / 3))


def test_untangling_leaves_simple_contours_alone() -> None:
    assert torch.equal(untangled(ring()), ring())
    assert torch.equal(untangled(SQUARE), SQUARE)
    degenerate = torch.full((1, 6, 2), 0.5)
    assert torch.equal(untangled(degenerate), degenerate)


def test_small_loops_are_opened_and_large_ones_stay() -> None:
    small, large = ring(20), ring(20)
    small[:, [3, 4]] = small[:, [4, 3]]
    small[:, [10, 11]] = small[:, [11, 10]]
    large[:, 0:10] = large[:, 0:10].flip(1)
    assert [self_intersections(x[0]) for x in (small, large)] == [2, 1]
    opened = open_loops(torch.cat([small, large]))
    assert self_intersections(opened[0]) == 0
    assert torch.equal(opened[0, 5:10], small[0, 5:10])
    assert torch.equal(opened[1], large[0])


def test_a_tangle_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    tangle = torch.rand(3, 30, 2, dtype=torch.float64)
    assert self_intersections(tangle[0]) > 4
    assert torch.equal(open_loops(tangle), tangle)


@pytest.mark.parametrize("seed", range(10))
def test_slips_of_a_rough_contour_are_opened(seed: int) -> None:
    torch.manual_seed(seed)
    rough = ring(60).double() + 0.013 * torch.randn(1, 60, 2, dtype=torch.float64)
    before = self_intersections(rough[0])
    assert self_intersections(open_loops(rough)[0]) == (0 if before <= 4 else before)
