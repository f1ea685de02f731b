import copy

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import ChebConv

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs
from anatozoo.nn.cheb import (
    GRAPH_CONVOLUTIONS,
    MANY,
    StaticChebConv,
    chebyshev_basis,
    graph_convolution,
    node_norm,
    separate_parts,
)
from anatozoo.nn.sparse import SparseMatrix
from anatozoo.organs import CHEST_ORGANS, LUNGS, LUNGS_HEART

GRAPHS = {
    "lungs": graphs.adjacency(LUNGS),
    "lungs_heart": graphs.adjacency(LUNGS_HEART),
    "all": graphs.adjacency(CHEST_ORGANS),
    "all_coarse": graphs.adjacency(graphs.coarse(CHEST_ORGANS)),
    "smallest": graphs.adjacency({"a": 4}),
}


def irregular() -> Tensor:
    """A weighted graph of nodes with 0, 1, 2 and 3 neighbours."""
    matrix = torch.zeros(6, 6)
    for a, b, weight in [(0, 1, 1.0), (1, 2, 0.5), (1, 3, 2.0), (3, 4, 0.25)]:
        matrix[a, b] = matrix[b, a] = weight
    return matrix


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("bias", [True, False])
def test_both_kinds_equal_pyg(graph: str, order: int, bias: bool) -> None:
    torch.manual_seed(0)
    adjacency = GRAPHS[graph]
    oracle = ChebConv(7, 5, K=order, bias=bias)
    x = torch.randn(3, len(adjacency), 7)
    edges = adjacency.nonzero().T
    for kind in GRAPH_CONVOLUTIONS:
        ours = graph_convolution(kind, 7, 5, adjacency, order, bias=bias)
        assert {k: v.shape for k, v in ours.state_dict().items()} == {
            k: v.shape for k, v in oracle.state_dict().items()
        }
        oracle.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), oracle(x, edges), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", GRAPH_CONVOLUTIONS)
def test_weights_and_isolated_nodes_count_as_in_pyg(kind: str) -> None:
    torch.manual_seed(0)
    adjacency = irregular()
    ours = graph_convolution(kind, 3, 4, adjacency, 5)
    oracle = ChebConv(3, 4, K=5)
    oracle.load_state_dict(ours.state_dict())
    x, edges = torch.randn(2, 6, 3), adjacency.nonzero().T
    expected = oracle(x, edges, adjacency[tuple(edges)], lambda_max=torch.tensor(2.0))
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)


def test_on_a_cycle_the_scaled_laplacian_is_minus_half_the_adjacency() -> None:
    adjacency = GRAPHS["lungs"]
    torch.testing.assert_close(chebyshev_basis(adjacency, 2)[1], -adjacency / 2)


def test_basis_follows_the_chebyshev_recursion_of_cosines() -> None:
    adjacency = GRAPHS["smallest"]
    values, vectors = torch.linalg.eigh(-adjacency.double() / 2)
    for k, term in enumerate(chebyshev_basis(adjacency, 6)):
        cosines = torch.cos(k * torch.acos(values.clamp(-1, 1)))
        torch.testing.assert_close(term.double(), vectors @ cosines.diag() @ vectors.T, rtol=0, atol=1e-6)


def test_start_weights_are_normal_with_deviation_a_tenth() -> None:
    torch.manual_seed(0)
    for kind in GRAPH_CONVOLUTIONS:
        layer = graph_convolution(kind, 64, 64, GRAPHS["smallest"], 6)
        weights = torch.cat([p.flatten() for p in layer.parameters()])
        assert float(weights.detach().std()) == pytest.approx(0.1, rel=0.05)
        assert float(weights.detach().mean()) == pytest.approx(0.0, abs=0.005)


@pytest.mark.parametrize("kind", GRAPH_CONVOLUTIONS)
def test_layers_copy_and_change_type_with_their_parameters(kind: str) -> None:
    layer = graph_convolution(kind, 3, 2, GRAPHS["smallest"], 3)
    other = copy.deepcopy(layer).double()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    x = torch.randn(1, 4, 3)
    assert not layer(x).eq(0).any()
    assert torch.equal(other(x.double()), torch.zeros(1, 4, 2, dtype=torch.float64))


@pytest.mark.parametrize("kind", GRAPH_CONVOLUTIONS)
def test_layers_take_parameters_from_outside(kind: str) -> None:
    layer = graph_convolution(kind, 3, 2, GRAPHS["smallest"], 3)
    state = {name: torch.zeros_like(p) for name, p in layer.named_parameters()}
    state["bias"] = torch.tensor([1.0, 2.0])
    out = torch.func.functional_call(layer, state, (torch.randn(1, 4, 3),))
    assert torch.equal(out, torch.tensor([1.0, 2.0]).expand(1, 4, 2))


def test_gradients_reach_every_parameter_and_the_input() -> None:
    layer = StaticChebConv(3, 2, GRAPHS["smallest"], 4)
    x = torch.randn(2, 4, 3, requires_grad=True)
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert x.grad is not None


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize(("before", "after"), [(7, 3), (3, 7)])
def test_a_sparse_adjacency_and_the_shorter_way_change_nothing(order: int, before: int, after: int) -> None:
    dense = graphs.adjacency(LUNGS)
    sparse = graph_convolution("sparse", before, after, dense.to_sparse(), order)
    static = graph_convolution("static", before, after, dense.to_sparse(), order)
    static.load_state_dict(sparse.state_dict())
    x = torch.randn(2, len(dense), before, requires_grad=True)
    answers = [layer(x) for layer in (sparse, static)]
    torch.testing.assert_close(*answers, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(answer.square().sum(), x)[0] for answer in answers]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:input's size at dim=1 does not match")
def test_node_norm_is_the_authors_instance_norm() -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(2, 120, 16) + 1  # nodes stand where the layer expects channels
    torch.testing.assert_close(node_norm(x), nn.InstanceNorm1d(16)(x), rtol=0, atol=1e-5)


def test_impossible_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="K=0"):
        StaticChebConv(3, 2, GRAPHS["smallest"], 0)
    with pytest.raises(ConfigError, match="square"):
        chebyshev_basis(torch.zeros(3, 4), 2)
    with pytest.raises(ConfigError, match="static"):
        graph_convolution("dense", 3, 2, GRAPHS["smallest"], 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["organs", "one organ", "any graph"])
def test_a_large_batch_is_filtered_as_its_parts_are(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    if kind == "any graph":
        adjacency = (torch.rand(17, 17) > 0.8).float().triu(1)
        adjacency[3] = adjacency[:, 3] = 0  # a node without an edge
        adjacency = adjacency + adjacency.T
    else:
        adjacency = graphs.adjacency({"a": 9, "b": 4, "c": 12} if kind == "organs" else {"a": 11})
    layer = StaticChebConv(7, 5, adjacency, 6).to(dtype)
    x = torch.randn(MANY + 3, len(adjacency), 7, dtype=torch.float64)

    def answer_and_gradients(split: int) -> list[Tensor]:
        given = x.to(dtype).requires_grad_()
        found = torch.cat([layer(part) for part in given.split(split)])
        # Each value counts differently.
        towards = torch.linspace(0.5, 1.5, found.numel(), dtype=dtype).view_as(found)
        return [found.detach(), *torch.autograd.grad((found * towards).sum(), [given, *layer.parameters()])]

    for whole, parts in zip(answer_and_gradients(len(x)), answer_and_gradients(4), strict=True):
        assert float((whole - parts).abs().max()) < 1e-5 * float(parts.abs().max())


def test_layers_of_a_graph_share_the_work_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = torch.linalg.eigh

    def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(matrix))
        return original(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    adjacency = graphs.adjacency({"a": 13, "b": 15})  # of no other test
    StaticChebConv(3, 2, adjacency, 1)
    assert asked == []
    first = StaticChebConv(3, 2, adjacency, 4)
    assert asked == [13, 15]
    kept = {name: buffer.clone() for name, buffer in first.named_buffers()}
    for buffer in first.buffers():
        buffer.zero_()
    second = StaticChebConv(5, 4, adjacency, 4)
    assert asked == [13, 15]
    assert all(torch.equal(buffer, kept[name]) for name, buffer in second.named_buffers())
    StaticChebConv(3, 2, 2 * adjacency.roll(1, 0).roll(1, 1), 4)
    assert len(asked) > 2


def test_layers_do_not_remember_the_precision_in_which_the_first_was_made() -> None:
    adjacency = graphs.adjacency({"a": 11, "b": 17})  # of no other test
    with torch.autocast("cpu", torch.bfloat16):
        StaticChebConv(3, 2, adjacency, 4)
    layer, oracle = (graph_convolution(kind, 3, 2, adjacency, 4) for kind in ("static", "pyg"))
    oracle.load_state_dict(layer.state_dict())
    x = torch.randn(64, 28, 3)
    torch.testing.assert_close(layer(x), oracle(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GRAPH_CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_layers_compute_in_the_type_of_their_parameters(kind: str, dtype: torch.dtype) -> None:
    layer = graph_convolution(kind, 3, 2, GRAPHS["smallest"], 3)
    x = torch.randn(1, 4, 3)
    expected, found = layer(x), layer.to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05)


def test_parts_of_a_graph_are_its_organs() -> None:
    assert separate_parts(graphs.adjacency({"a": 9, "b": 4})) == [slice(0, 9), slice(9, 13)]
    assert separate_parts(torch.zeros(2, 2)) == [slice(0, 1), slice(1, 2)]
    across = torch.zeros(4, 4)
    across[0, 3] = across[3, 0] = 1
    assert separate_parts(across) == [slice(0, 4)]


def test_a_sparse_matrix_multiplies_and_gives_gradients_as_a_dense_one_does() -> None:
    torch.manual_seed(0)
    dense = torch.randn(6, 9) * (torch.rand(6, 9) > 0.6)
    x, weight = torch.randn(9, 2, 3, requires_grad=True), torch.randn(6, 2, 3)
    found = SparseMatrix(dense)(x)
    torch.testing.assert_close(found, torch.einsum("mn,nbc->mbc", dense, x))
    (gradient,) = torch.autograd.grad((found * weight).sum(), x)
    torch.testing.assert_close(gradient, torch.einsum("mn,mbc->nbc", dense, weight))
