"""Chebyshev graph convolution on a fixed graph.

Defferrard et al., "Convolutional neural networks on graphs with fast localized spectral filtering", NeurIPS
2016, with the largest eigenvalue of the normalised Laplacian taken as 2.
"""

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError


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
    weights = adjacency.double()
    degree = weights.sum(1)
    root = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
    # With lambda_max = 2 the scaled Laplacian 2L/lambda_max - I is the negated normalised adjacency.
    scaled = -root[:, None] * weights * root[None, :]
    terms = [torch.eye(len(weights), dtype=torch.float64), scaled]
    while len(terms) < order:
        terms.append(2 * scaled @ terms[-1] - terms[-2])
    return torch.stack(terms[:order]).float()


class StaticChebConv(nn.Module):
    """Chebyshev convolution with its basis computed once, as a dense matrix.

    Same parameters under the same names (``lins.k.weight``, ``bias``) and the same result as PyG's
    ``ChebConv`` with symmetric normalisation, for (B, N, in_channels) -> (B, N, out_channels).

    Args:
        in_channels: input features per node.
        out_channels: output features per node.
        adjacency: (N, N) of the fixed graph.
        order: number of Chebyshev terms K; 1 is a linear layer on each node.
        bias: whether a bias is added.
    """

    basis: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, order: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.order = in_channels, out_channels, order
        self.lins = nn.ModuleList(nn.Linear(in_channels, out_channels, bias=False) for _ in range(order))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        terms = chebyshev_basis(adjacency, order)
        # T_0 is the identity and needs no product; the other terms, stacked as (K-1)·N rows, need one.
        self.register_buffer("basis", terms[1:].flatten(0, 1), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias from N(0, 0.1²), as the HybridGNet authors do."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the node features `x` (B, N, in_channels)."""
        batch, nodes, channels = x.shape
        features = x
        if self.order > 1:
            higher = (self.basis.to(x.dtype) @ x).view(batch, self.order - 1, nodes, channels)
            features = torch.cat([x[:, None], higher], 1).transpose(1, 2).flatten(2)
        weight = torch.cat([lin.weight for lin in self.lins], 1)  # type: ignore[misc]
        return nn.functional.linear(features, weight, self.bias)


GRAPH_CONVOLUTIONS = ("static", "pyg")


def graph_convolution(
    kind: str, in_channels: int, out_channels: int, adjacency: Tensor, order: int, *, bias: bool = True
) -> nn.Module:
    """Build a graph convolution by name: ``"static"`` (dense, fast) or ``"pyg"`` (message passing).

    Raises:
        ConfigError: the kind is neither of the two, or `order` is below 1.
    """
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
