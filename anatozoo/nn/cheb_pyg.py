"""The graph convolution by PyG's message passing; a separate module, as PyG takes seconds to import."""

from torch import Tensor, nn
from torch_geometric.nn import ChebConv


class PyGChebConv(ChebConv):
    """PyG's ``ChebConv`` on a fixed graph: the oracle of `StaticChebConv`, and for large sparse meshes.

    Arguments, parameters and results are those of `anatozoo.nn.cheb.StaticChebConv`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, order: int, *, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, K=order, normalization="sym", bias=bias)
        # No buffers: an average of weights would average indices, too, and shorten them.
        self.edges = adjacency.nonzero().T.contiguous()
        self.edge_weight = adjacency[self.edges[0], self.edges[1]]
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the node features `x` (B, N, in_channels)."""
        edges, weight = self.edges.to(x.device), self.edge_weight.to(x.device)
        return super().forward(x, edges, weight, lambda_max=2.0)
