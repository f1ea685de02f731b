"""Chebyshev graph convolution on a fixed graph.

Defferrard et al., "Convolutional neural networks on graphs with fast localized spectral filtering", NeurIPS
2016, with the largest eigenvalue of the normalised Laplacian taken as 2.
"""

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.sparse import SparseMatrix

MANY = 16
"""From this batch size on, `StaticChebConv` filters in the eigenvectors' basis."""


def chebyshev_basis(adjacency: Tensor, order: int) -> Tensor:
    """Chebyshev polynomials T_0 … T_{K-1} of the scaled Laplacian, (K, N, N).

    Args:
        adjacency: (N, N), symmetric, non-negative, no self loops.
        order: number of terms K, at least 1.

    Raises:
        ConfigError: `order` is below 1, or the adjacency is not square.
    """
    if order < 1:
        raise ConfigError(f"a Chebyshev convolution needs at least one term, got K={order}.")
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ConfigError(f"the adjacency must be square, got {tuple(adjacency.shape)}.")
    scaled = scaled_laplacian(adjacency)
    terms = [torch.eye(len(scaled), dtype=torch.float64), scaled]
    while len(terms) < order:
        terms.append(2 * scaled @ terms[-1] - terms[-2])
    return torch.stack(terms[:order]).float()


def scaled_laplacian(adjacency: Tensor) -> Tensor:
    """The Laplacian 2L/lambda_max - I with lambda_max = 2: the negated normalised adjacency, (N, N) float64.

    Args:
        adjacency: (N, N), symmetric, non-negative, no self loops; of a sparse one the result is sparse.
    """
    weights = adjacency.double()
    degree = weights.sum(1).to_dense()
    root = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
    if weights.is_sparse:
        weights = weights.coalesce()
        rows, columns = weights.indices()
        values = -root[rows] * weights.values() * root[columns]
        return torch.sparse_coo_tensor(weights.indices(), values, weights.shape, check_invariants=True)
    return -root[:, None] * weights * root[None, :]


def separate_parts(adjacency: Tensor) -> list[slice]:
    """The smallest ranges of nodes without an edge between them; for organ contours, the organs."""
    nodes = torch.arange(len(adjacency))
    farthest = torch.where(adjacency.cpu() > 0, nodes, nodes[:, None]).amax(1).cummax(0).values
    ends = [0, *((farthest == nodes).nonzero().flatten() + 1).tolist()]
    return [slice(*pair) for pair in pairwise(ends)]


@lru_cache(maxsize=16)
def _filters(adjacency: bytes, shape: tuple[int, ...], order: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `StaticChebConv` needs of a graph, which the layers of a network share.

    Args:
        adjacency: float64 values.
        shape: their shape, (N, N).
        order: number of Chebyshev terms K.

    Returns:
        Terms T_1 … T_{K-1}, stacked as (K-1)·N rows; eigenvectors (N, N) of the Laplacian, as columns; and
        each term at each eigenvalue, (N, K). The last two are empty for K = 1, where nothing is filtered.
    """
    graph = torch.frombuffer(bytearray(adjacency), dtype=torch.float64).reshape(shape)
    terms = chebyshev_basis(graph, order)
    # T_0 is the identity and needs no product; the other terms need one.
    basis = terms[1:].flatten(0, 1)
    if order == 1:
        return basis, torch.empty(0), torch.empty(0)
    scaled, vectors = scaled_laplacian(graph), torch.zeros(shape)
    for part in separate_parts(graph):
        vectors[part, part] = torch.linalg.eigh(scaled[part, part]).eigenvectors.float()
    with torch.autocast("cpu", enabled=False):  # layers to come share this, wherever the first one is made
        responses = torch.stack([(vectors * (term @ vectors)).sum(0) for term in terms], 1)
    return basis, vectors, responses


class StaticChebConv(nn.Module):
    """Chebyshev convolution with its basis computed once, as a dense matrix.

    Same parameters under the same names (``lins.k.weight``, ``bias``) and the same result as PyG's
    ``ChebConv`` with symmetric normalisation, for (B, N, in_channels) -> (B, N, out_channels).

    Large batches are filtered in the basis of the Laplacian's eigenvectors, in which a polynomial of the
    Laplacian is one small matrix for each eigenvalue: a fraction of the work, and the same to rounding.

    Args:
        in_channels: input features per node.
        out_channels: output features per node.
        adjacency: (N, N) of the fixed graph.
        order: number of Chebyshev terms K; 1 is a linear layer on each node.
        bias: whether a bias is added.
    """

    basis: Tensor
    vectors: Tensor
    responses: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, order: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.order = in_channels, out_channels, order
        self.lins = nn.ModuleList(nn.Linear(in_channels, out_channels, bias=False) for _ in range(order))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        stored = adjacency.detach().double().cpu().numpy().tobytes()
        filters = _filters(stored, tuple(adjacency.shape), order)
        for name, values in zip(("basis", "vectors", "responses"), filters, strict=True):
            # A copy, for whoever changes a layer in place changes no other.
            self.register_buffer(name, values.clone(), persistent=False)
        self.parts = separate_parts(adjacency)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias from N(0, 0.1²), as the HybridGNet authors do."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the node features `x` (B, N, in_channels)."""
        batch, nodes, channels = x.shape
        # Exported networks take batches of any size, and must not branch on it.
        if self.order > 1 and not torch.compiler.is_compiling() and batch >= MANY:
            return self._filtered(x)
        features = x
        if self.order > 1:
            higher = (self.basis.to(x.dtype) @ x).view(batch, self.order - 1, nodes, channels)
            features = torch.cat([x[:, None], higher], 1).transpose(1, 2).flatten(2)
        weight = torch.cat([lin.weight for lin in self.lins], 1)  # type: ignore[misc]
        return nn.functional.linear(features, weight, self.bias)

    def _filtered(self, x: Tensor) -> Tensor:
        """The result for a large batch, by the eigenvectors of the Laplacian."""
        weight = torch.stack([lin.weight for lin in self.lins]).transpose(1, 2)  # type: ignore[misc]
        found = []
        for part in self.parts:
            vectors = self.vectors[part, part].to(x.dtype)
            response = (self.responses[part].to(weight.dtype) @ weight.flatten(1)).view(-1, *weight.shape[1:])
            # (n, B, in) @ (n, in, out): one matrix for each eigenvalue.
            answer = (vectors.T @ x[:, part]).transpose(0, 1) @ response
            found.append((vectors @ answer.flatten(1)).view_as(answer))
        result = torch.cat(found).transpose(0, 1)
        return result if self.bias is None else result + self.bias


class SparseChebConv(nn.Module):
    """Chebyshev convolution that multiplies by the sparse Laplacian again and again, for meshes.

    Arguments, parameters and results are those of `StaticChebConv`. The work grows with the edges rather than
    with the square of the nodes.
    """

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, order: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        if order < 1:
            raise ConfigError(f"a Chebyshev convolution needs at least one term, got K={order}.")
        self.order, self.narrows = order, out_channels < in_channels
        self.lins = nn.ModuleList(nn.Linear(in_channels, out_channels, bias=False) for _ in range(order))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.laplacian = SparseMatrix(scaled_laplacian(adjacency))
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the node features `x` (B, N, in_channels)."""
        if self.narrows:
            return self._narrowed(x)
        terms = [x.transpose(0, 1)]
        for number in range(1, self.order):
            higher = self.laplacian(terms[-1])
            terms.append(higher if number == 1 else 2 * higher - terms[-2])
        weight = torch.cat([lin.weight for lin in self.lins], 1)  # type: ignore[misc]
        return nn.functional.linear(torch.cat(terms, -1), weight, self.bias).transpose(0, 1)

    def _narrowed(self, x: Tensor) -> Tensor:
        """The result for layers with fewer features after them than before: weights first, then the graph.

        Clenshaw's recurrence, the same to rounding.
        """
        weight = torch.cat([lin.weight for lin in self.lins])  # type: ignore[misc]
        parts = nn.functional.linear(x.transpose(0, 1), weight).chunk(self.order, -1)
        last, before = parts[-1], torch.zeros_like(parts[-1])
        for part in reversed(parts[1:-1]):
            last, before = part + 2 * self.laplacian(last) - before, last
        found = last if self.order == 1 else parts[0] + self.laplacian(last) - before
        return (found if self.bias is None else found + self.bias).transpose(0, 1)


GRAPH_CONVOLUTIONS = ("static", "sparse", "pyg")


def graph_convolution(
    kind: str, in_channels: int, out_channels: int, adjacency: Tensor, order: int, *, bias: bool = True
) -> nn.Module:
    """Build a graph convolution by name; the adjacency (N, N) may be sparse.

    ``"static"`` is dense and fast for contours, ``"sparse"`` is for meshes, and ``"pyg"`` passes messages.

    Raises:
        ConfigError: the kind is none of these, or `order` is below 1.
    """
    if kind == "sparse":
        return SparseChebConv(in_channels, out_channels, adjacency, order, bias=bias)
    adjacency = adjacency.to_dense()
    if kind == "static":
        return StaticChebConv(in_channels, out_channels, adjacency, order, bias=bias)
    if kind != "pyg":
        raise ConfigError(f"graph_conv={kind!r} is unknown; choose one of {', '.join(GRAPH_CONVOLUTIONS)}.")
    from anatozoo.nn.cheb_pyg import PyGChebConv

    return PyGChebConv(in_channels, out_channels, adjacency, order, bias=bias)


def node_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Standardise each node's feature vector over its features; x is (..., F).

    This is what the authors' ``InstanceNorm1d`` on a (B, N, F) tensor computes.
    """
    return nn.functional.layer_norm(x, x.shape[-1:], eps=eps)
