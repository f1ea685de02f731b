"""A graph variational autoencoder of meshes of hearts, on a pyramid of their sheets.

Bonazzola et al., "Unsupervised ensemble-based phenotyping enhances discoverability of genes related to
left-ventricular morphology", Nature Machine Intelligence 6, 2024: convolution, then pooling, then the
rectifier. Sheets are halved ring by ring or angle by angle in place of quadric decimation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.meshes.heart import SHEETS, heart_pyramid
from anatozoo.meshes.sheets import SheetSize
from anatozoo.nn.cheb import graph_convolution
from anatozoo.nn.code import code_deviation
from anatozoo.nn.sparse import SparseMatrix, sparse_tensor


class MeshVAE(nn.Module):
    """Variational autoencoder of the vertices of hearts.

    Vertices are taken relative to the mean of the training's and in units of their spread along each axis.

    Args:
        size: of each of the three sheets.
        latents: length of the code.
        widths: of the layers, finest first; each but the last is followed by a step of the pyramid.
        order: Chebyshev terms K.
        graph_conv: see `anatozoo.nn.cheb.graph_convolution`.

    Attributes:
        mean: (N, 3) mean of the training's vertices.
        spread: (3,) standard deviation of the training's vertices about it, along each axis.

    Raises:
        ConfigError: settings that are not possible.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        size: SheetSize,
        *,
        latents: int = 8,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        order: int = 6,
        graph_conv: str = "sparse",
    ) -> None:
        super().__init__()
        if latents < 1 or not widths or min(widths) < 1:
            raise ConfigError(f"latents={latents} and widths={list(widths)} must be at least 1.")
        levels = heart_pyramid(size, len(widths))
        steps = levels.steps
        self.down = nn.ModuleList(SparseMatrix(sparse_tensor(step.down)) for step in steps)
        self.up = nn.ModuleList(SparseMatrix(sparse_tensor(step.up)) for step in reversed(steps))
        self.latents = latents
        self.coarsest = (levels.counts[-1], widths[-1])
        channels = (3, *widths)
        graphs = [sparse_tensor(each) for each in levels.graphs[:-1]]

        def conv(before: int, after: int, graph: Tensor, *, bias: bool = True) -> nn.Module:
            made = graph_convolution(graph_conv, before, after, graph, order, bias=bias)
            for name, parameter in made.named_parameters():  # as PyG begins
                if name == "bias":
                    nn.init.zeros_(parameter)
                else:
                    nn.init.xavier_uniform_(parameter)
            return made

        self.encoder = nn.ModuleList(
            conv(*pair, graph)
            for pair, graph in zip(zip(channels, widths, strict=False), graphs, strict=True)
        )
        self.decoder = nn.ModuleList(
            conv(channels[level + 1], channels[level], graphs[level], bias=level > 0)
            for level in reversed(range(len(widths)))
        )
        flat = self.coarsest[0] * self.coarsest[1]
        self.mu, self.logvar = nn.Linear(flat, latents), nn.Linear(flat, latents)
        nn.init.normal_(self.mu.weight, 0, 1e-3)
        nn.init.normal_(self.logvar.weight, 0, 1e-4)
        self.start = nn.Linear(latents, flat)
        self.register_buffer("mean", torch.zeros(len(SHEETS) * size.vertices, 3))
        self.register_buffer("spread", torch.ones(3))

    @torch.no_grad()
    def take_scale(self, vertices: Tensor) -> None:
        """Store mean and spread of the training's vertices (B, N, 3)."""
        self.mean.copy_(vertices.mean(0))
        self.spread.copy_((vertices - vertices.mean(0)).std(dim=(0, 1)).clamp_min(1e-6))

    def scaled(self, vertices: Tensor) -> Tensor:
        """Vertices (B, N, 3) relative to the training's mean, in units of its spread."""
        return (vertices - self.mean) / self.spread

    def encode(self, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latents) of the codes of vertices (B, N, 3)."""
        x = self.scaled(vertices)
        for layer, down in zip(self.encoder, self.down, strict=True):
            x = F.relu(down(layer(x).transpose(0, 1))).transpose(0, 1)
        flat = x.flatten(1)
        return self.mu(flat), self.logvar(flat)

    def decode(self, z: Tensor) -> Tensor:
        """Vertices (B, N, 3) of codes (B, latents)."""
        x = self.start(z).view(-1, *self.coarsest)
        for layer, up in zip(self.decoder, self.up, strict=True):
            x = layer(up(F.relu(x).transpose(0, 1)).transpose(0, 1))
        return self.mean + self.spread * x

    def forward(self, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (B, N, 3), mean and log-variance; the code is drawn in training, its mean else."""
        if torch.is_autocast_enabled(vertices.device.type):
            # Half precision would cost whole pixels and save no time.
            with torch.autocast(vertices.device.type, enabled=False):
                return self._rebuilt(vertices.float())
        return self._rebuilt(vertices)

    def _rebuilt(self, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(vertices)
        z = mu + torch.randn_like(mu) * code_deviation(logvar) if self.training else mu
        return self.decode(z), mu, logvar
