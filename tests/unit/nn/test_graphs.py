import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs
from anatozoo.organs import CHEST_ORGANS, LUNGS, LUNGS_HEART

SETS = {"lungs": LUNGS, "heart": LUNGS_HEART, "clavicles": CHEST_ORGANS}


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("name", "nodes", "halved"), [("lungs", 94, 47), ("heart", 120, 60), ("clavicles", 166, 84)]
)
def test_published_graphs_have_the_published_sizes(name: str, nodes: int, halved: int) -> None:
    organs = SETS[name]
    assert graphs.adjacency(organs).shape == (nodes, nodes)
    assert graphs.adjacency(organs).sum() == 2 * nodes  # directed edges
    assert graphs.downsampling(organs).shape == (halved, nodes)
    assert graphs.upsampling(organs).shape == (nodes, halved)


def test_coarse_rounds_up() -> None:
    assert list(graphs.coarse(CHEST_ORGANS).values()) == [22, 25, 13, 12, 12]


def test_adjacency_is_one_closed_cycle_per_organ() -> None:
    square, pentagon = [(0, 1), (1, 2), (2, 3), (3, 0)], [(4, 5), (5, 6), (6, 7), (7, 8), (8, 4)]
    expected = torch.zeros(9, 9)
    for a, b in square + pentagon:
        expected[a, b] = expected[b, a] = 1.0
    assert torch.equal(graphs.adjacency({"a": 4, "b": 5}), expected)


def test_chords_stay_on_their_contour() -> None:
    points = torch.arange(18.0).view(1, 9, 2) ** 2
    previous, following = [3, 0, 1, 2, 8, 4, 5, 6, 7], [1, 2, 3, 0, 5, 6, 7, 8, 4]
    parts = graphs.organ_slices({"a": 4, "b": 5}).values()
    assert torch.equal(graphs.chords(points, parts), points[:, following] - points[:, previous])


def test_downsampling_averages_pairs_and_copies_an_odd_last_node() -> None:
    expected = torch.block_diag(
        rows([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]),
        rows([0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]),
    )
    assert torch.equal(graphs.downsampling({"a": 4, "b": 5}), expected)


def test_upsampling_of_an_even_contour_wraps_or_copies_at_its_end() -> None:
    start = [[1.0, 0], [0.5, 0.5], [0, 1.0]]
    assert torch.equal(graphs.upsampling({"a": 4}, "wrap"), rows(*start, [0.5, 0.5]))
    assert torch.equal(graphs.upsampling({"a": 4}, "copy"), rows(*start, [0, 1.0]))


def test_upsampling_of_an_odd_contour_ends_on_a_coarse_node() -> None:
    expected = rows([1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1])
    for mode in ("wrap", "copy"):
        assert torch.equal(graphs.upsampling({"a": 5}, mode), expected)


def test_the_two_published_matrices_differ_in_three_nodes() -> None:
    wrap, copy = (graphs.upsampling(LUNGS_HEART, mode) for mode in ("wrap", "copy"))
    assert (wrap != copy).any(1).nonzero().flatten().tolist() == [43, 93, 119]


@pytest.mark.parametrize("organs", SETS.values(), ids=SETS)
def test_matrices_keep_constants(organs: dict[str, int]) -> None:
    ups = [graphs.upsampling(organs, mode) for mode in ("wrap", "copy")]
    for matrix in (graphs.downsampling(organs), *ups):
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)))


def test_slices_follow_the_order_of_the_organs() -> None:
    assert graphs.organ_slices({"a": 4, "b": 6}) == {"a": slice(0, 4), "b": slice(4, 10)}


@pytest.mark.parametrize(
    ("organs", "message"),
    [({}, "empty"), ({"heart": 3}, "at least 4"), ({"heart": 4.5}, "at least 4")],
)
def test_impossible_organs_are_refused(organs: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        graphs.check_organs(organs)


def test_unknown_upsampling_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'wrap'.*'copy'"):
        graphs.upsampling(LUNGS, "other")  # type: ignore[arg-type]
