"""A graph variational autoencoder of meshes, on a pyramid of them.

Bonazzola et al., "Unsupervised ensemble-based phenotyping enhances discoverability of genes related to
left-ventricular morphology", Nature Machine Intelligence 6, 2024: convolution, then pooling, then the
rectifier. Sheets of hearts are halved ring by ring or angle by angle in place of quadric decimation.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError, DataError
from anatozoo.meshes.files import pyramid_of
from anatozoo.meshes.pyramid import Pyramid
from anatozoo.nn.cheb import graph_convolution
from anatozoo.nn.code import code_deviation
from anatozoo.nn.sparse import SparseMatrix, sparse_tensor


class StoredPyramid(nn.Module):
    """The file of a template's pyramid among the weights, as bytes, which no average of weights changes.

    Args:
        content: of the file; zeros until weights are loaded.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content
        self._pyramid: Pyramid | None = None

    @property
    def pyramid(self) -> Pyramid:
        """The meshes.

        Raises:
            DataError: no weights have been loaded yet, or they hold no pyramid.
        """
        if self._pyramid is None:
            self._pyramid = pyramid_of(self.content, "the checkpoint")
        return self._pyramid

    def get_extra_state(self) -> Tensor:
        """(L,) uint8."""
        return torch.frombuffer(bytearray(self.content), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the bytes (L,) uint8."""
        self.content, self._pyramid = state.cpu().numpy().tobytes(), None


def _rebuild(network: "MeshVAE", _: Any) -> None:
    """Compute on the meshes that came with weights."""
    network.put(network.stored.pyramid)


def _matrices(levels: Pyramid) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The steps down, the finest first, and up, the coarsest first."""
    down = (SparseMatrix(sparse_tensor(step.down)) for step in levels.steps)
    up = (SparseMatrix(sparse_tensor(step.up)) for step in reversed(levels.steps))
    return nn.ModuleList(down), nn.ModuleList(up)


class MeshVAE(nn.Module):
    """Variational autoencoder of the vertices of meshes.

    Vertices are taken relative to the mean of the training's and in units of their spread along each axis.

    Args:
        levels: the meshes, with as many steps as there are widths.
        latents: length of the code.
        widths: of the layers, finest first; each but the last is followed by a step of the pyramid.
        order: Chebyshev terms K.
        graph_conv: see `anatozoo.nn.cheb.graph_convolution`.
        stored: of a template the pyramid's file, which becomes one of the weights; None of hearts.

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
        levels: Pyramid,
        *,
        latents: int = 8,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        order: int = 6,
        graph_conv: str = "sparse",
        stored: bytes | None = None,
    ) -> None:
        super().__init__()
        if latents < 1 or not widths or min(widths) < 1:
            raise ConfigError(f"latents={latents} and widths={list(widths)} must be at least 1.")
        self.down, self.up = _matrices(levels)
        self.latents, self.counts = latents, levels.counts
        self.coarsest = (levels.counts[-1], widths[-1])
        self.channels, self.order, self.graph_conv = (3, *widths), order, graph_conv
        self.encoder, self.decoder = self._convolutions(levels)
        flat = self.coarsest[0] * self.coarsest[1]
        self.mu, self.logvar = nn.Linear(flat, latents), nn.Linear(flat, latents)
        nn.init.normal_(self.mu.weight, 0, 1e-3)
        nn.init.normal_(self.logvar.weight, 0, 1e-4)
        self.start = nn.Linear(latents, flat)
        self.register_buffer("mean", torch.zeros(levels.counts[0], 3))
        self.register_buffer("spread", torch.ones(3))
        if stored is not None:
            self.stored = StoredPyramid(stored)
            self.register_load_state_dict_post_hook(_rebuild)

    def _convolutions(self, levels: Pyramid) -> tuple[nn.ModuleList, nn.ModuleList]:
        """The layers of encoder and decoder, with new weights."""
        graphs = [sparse_tensor(each) for each in levels.graphs[:-1]]
        channels = self.channels

        def conv(before: int, after: int, level: int, *, bias: bool = True) -> nn.Module:
            made = graph_convolution(self.graph_conv, before, after, graphs[level], self.order, bias=bias)
            for name, parameter in made.named_parameters():  # as PyG begins
                if name == "bias":
                    nn.init.zeros_(parameter)
                else:
                    nn.init.xavier_uniform_(parameter)
            return made

        encoder = [conv(channels[k], channels[k + 1], k) for k in range(len(graphs))]
        decoder = [conv(channels[k + 1], channels[k], k, bias=k > 0) for k in reversed(range(len(graphs)))]
        return nn.ModuleList(encoder), nn.ModuleList(decoder)

    def put(self, levels: Pyramid) -> None:
        """Compute on other meshes with as many vertices, with the same weights.

        Raises:
            DataError: they have more or fewer.
        """
        if levels.counts != self.counts:
            raise DataError(f"the checkpoint's meshes have {levels.counts} vertices, not {self.counts}.")
        device = self.mean.device
        with torch.random.fork_rng(devices=[]):
            encoder, decoder = self._convolutions(levels)
        for fresh, old in zip((*encoder, *decoder), (*self.encoder, *self.decoder), strict=True):
            for name, weight in list(old.named_parameters()):  # which an optimiser may hold
                owner, _, own = name.rpartition(".")
                setattr(fresh.get_submodule(owner), own, weight)
        self.encoder, self.decoder = (each.to(device).train(self.training) for each in (encoder, decoder))
        self.down, self.up = (each.to(device) for each in _matrices(levels))

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
