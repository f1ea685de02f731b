"""The graph convolution by PyG's message passing; a separate module, as PyG takes seconds to import."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn
from torch_geometric.nn import ChebConv


class PyGChebConv(ChebConv):
    """PyG's ``ChebConv`` on a fixed graph: the oracle of `StaticChebConv`, and for large sparse meshes.

    Arguments, parameters and results are those of `anatozoo.nn.cheb.StaticChebConv`.
    """

    edge_weight: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, order: int, *, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, K=order, normalization="sym", bias=bias)
        # No buffer: an average of weights would average indices, too, and shorten them.
        self.edges = adjacency.nonzero().T.contiguous()
        self.register_buffer("edge_weight", adjacency[self.edges[0], self.edges[1]], persistent=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the node features `x` (B, N, in_channels)."""
        return super().forward(x, self.edges, self.edge_weight, lambda_max=2.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.edges = self.edges.to(self.edge_weight.device)
        return self
