"""A graph spectral variational autoencoder of organ contours, in pure torch.

The landmark autoencoder of Gaggion et al., IEEE TMI 2022: its decoder is that of a HybridGNet without skips,
its encoder the mirror image.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs
from anatozoo.nn.cheb import graph_convolution
from anatozoo.nn.code import code_deviation
from anatozoo.nn.graph_decoder import GraphConvBlock, GraphDecoder
from anatozoo.nn.hybridgnet import HybridGNetOutput


class ShapeEncoder(nn.Module):
    """Mean and log-variance of the code of a shape.

    Args:
        organs: landmarks per organ.
        latents: length of the code.
        features: width of the fine graph layers; the coarse ones have half.
        order: Chebyshev terms K.
    """

    down: Tensor

    def __init__(self, organs: Mapping[str, int], latents: int, features: int, order: int) -> None:
        super().__init__()
        fine, coarse = graphs.adjacency(organs), graphs.adjacency(graphs.coarse(organs))
        half = features // 2
        self.register_buffer("down", graphs.downsampling(organs), persistent=False)

        def block(before: int, after: int, graph: Tensor) -> GraphConvBlock:
            return GraphConvBlock(graph_convolution("static", before, after, graph, order))

        self.fine = nn.Sequential(
            block(2, features, fine), block(features, features, fine), block(features, features, fine)
        )
        self.coarse = nn.Sequential(
            block(features, half, coarse), block(half, half, coarse), block(half, half, coarse)
        )
        self.mu = nn.Linear(half * len(coarse), latents)
        self.logvar = nn.Linear(half * len(coarse), latents)

    def forward(self, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """(B, latents) each, of landmarks (B, N, 2) in [0, 1]."""
        x = self.fine(2 * landmarks - 1)
        flat = self.coarse(self.down.to(x.dtype) @ x).flatten(1)
        return self.mu(flat), self.logvar(flat)


class ShapeVAE(GraphDecoder):
    """Variational autoencoder of the contours of several organs.

    A weak KL divergence leaves the codes of real shapes far from N(0, I). So the mean and the covariance of
    the training codes are stored with the weights, and `codes` maps N(0, I) to them (Ghosh et al., "From
    variational to deterministic autoencoders", ICLR 2020, fit a density to the codes after training).

    Args:
        organs: landmarks per organ, in order.
        latents: length of the code.
        features: width of the fine graph layers, an even number; the coarse ones have half.
        order: Chebyshev terms K.
        upsampling: ``"wrap"`` or ``"copy"``, see `anatozoo.nn.graphs.upsampling`.

    Attributes:
        prior_mean: (latents,) mean of the codes of the training shapes; zero before a training.
        prior_root: (latents, latents), whose columns are their principal directions, each as long as the
            standard deviation along it, the longest first; the unit matrix before a training.

    Raises:
        ConfigError: settings that are not possible.
    """

    prior_mean: Tensor
    prior_root: Tensor

    def __init__(
        self,
        organs: Mapping[str, int],
        *,
        latents: int = 64,
        features: int = 32,
        order: int = 6,
        upsampling: graphs.Upsampling = "copy",
    ) -> None:
        super().__init__()
        if latents < 1 or features < 2 or features % 2:
            raise ConfigError(
                f"latents={latents} must be at least 1, and features={features} an even number from 2 on."
            )
        self.organs, self.latents = graphs.check_organs(organs), latents
        self.encoder = ShapeEncoder(self.organs, latents, features, order)
        self.add_decoder(self.organs, latents, features, order, upsampling)
        self.register_buffer("prior_mean", torch.zeros(latents))
        self.register_buffer("prior_root", torch.eye(latents))

    @torch.no_grad()
    def take_prior(self, landmarks: Tensor) -> None:
        """Store the mean and the principal directions of the codes of shapes (B, N, 2) in [0, 1]."""
        mu = self.encode(landmarks)[0].double()
        from_mean = mu - mu.mean(0)
        variance, directions = torch.linalg.eigh(from_mean.T @ from_mean / max(len(mu) - 1, 1))
        # Eigenvectors have no sign of their own: the largest entry of each is made positive.
        sign = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        self.prior_mean.copy_(mu.mean(0))
        self.prior_root.copy_((sign * directions * variance.clamp_min(0).sqrt()).flip(1))

    def codes(self, noise: Tensor) -> Tensor:
        """Codes (B, latents) distributed as those of the training shapes, from noise that is N(0, I)."""
        return self.prior_mean + noise @ self.prior_root.T

    def encode(self, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latents) of the codes of landmarks (B, N, 2) in [0, 1]."""
        found: tuple[Tensor, Tensor] = self.encoder(landmarks)
        return found

    def decode(self, z: Tensor) -> Tensor:
        """Landmarks (B, N, 2) in [0, 1] of codes (B, latents)."""
        return self.decode_nodes(z, {})[0]

    def forward(self, landmarks: Tensor) -> HybridGNetOutput:
        """Reconstruct landmarks (B, N, 2) in [0, 1]; the code is sampled in training, its mean else."""
        if torch.is_autocast_enabled(landmarks.device.type):
            # As in HybridGNet: half precision would cost whole pixels and save no time.
            with torch.autocast(landmarks.device.type, enabled=False):
                return self._reconstructed(landmarks.float())
        return self._reconstructed(landmarks)

    def _reconstructed(self, landmarks: Tensor) -> HybridGNetOutput:
        mu, logvar = self.encode(landmarks)
        z = mu + torch.randn_like(mu) * code_deviation(logvar) if self.training else mu
        return HybridGNetOutput(self.decode(z), (), mu, logvar, None)
