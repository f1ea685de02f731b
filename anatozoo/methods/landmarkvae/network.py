"""Landmarks from the code of an image, by principal components or by fully connected layers.

The baselines of Gaggion et al., "Improving anatomical plausibility in medical image segmentation via hybrid
graph neural networks", IEEE TMI 2022, and of their MICCAI 2021 paper. HybridGNet without skips is the third
decoder of the same encoder.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError, DataError
from anatozoo.nn.code import ShapeCoder, code_deviation
from anatozoo.nn.graphs import check_organs
from anatozoo.nn.hybridgnet import HybridGNetOutput

Decoder = Literal["pca", "fc"]
Found = TypeVar("Found")


class LandmarkVAE(ShapeCoder):
    """An image encoder whose code a linear model of shapes, or a small perceptron, turns into landmarks.

    Args:
        organs: landmarks per organ, in output order.
        image_size: see `ShapeCoder`.
        encoder: see `ShapeCoder`.
        latents: length of the code; of PCA the number of components.
        decoder: ``"pca"`` (landmarks = mean + code · components, which `fit` finds and training leaves alone;
            the code has no variance) or ``"fc"`` (a variational code and fully connected layers).
        widths: hidden layers of ``"fc"``, each with a ReLU.
        last_relu: whether a ReLU follows the last layer of ``"fc"`` too, as in the MICCAI 2021 paper.

    Raises:
        ConfigError: settings that contradict one another.
    """

    mean: Tensor
    components: Tensor

    def __init__(
        self,
        organs: Mapping[str, int],
        image_size: int,
        *,
        encoder: str = "residual",
        latents: int = 64,
        decoder: Decoder = "fc",
        widths: Sequence[int] = (512,),
        last_relu: bool = False,
    ) -> None:
        if decoder not in ("pca", "fc"):
            raise ConfigError(f"decoder={decoder!r} is unknown; choose 'pca' or 'fc'.")
        super().__init__(image_size, encoder, latents, variational=decoder == "fc")
        self.organs = check_organs(organs)
        numbers = 2 * sum(self.organs.values())
        if min(widths, default=1) < 1:
            raise ConfigError(f"widths={list(widths)} must be positive.")
        self.decoder: nn.Module | None = None
        if decoder == "pca":
            if last_relu:
                raise ConfigError("last_relu belongs to decoder='fc'; PCA has no layers.")
            if latents > numbers:
                raise ConfigError(f"latents={latents}: shapes of {numbers} numbers have no more components.")
            self.register_buffer("mean", torch.full((numbers,), 0.5))
            self.register_buffer("components", torch.eye(latents, numbers))
            return
        layers: list[nn.Module] = []
        sizes = [latents, *widths, numbers]
        for ins, outs in pairwise(sizes):
            layers += [nn.Linear(ins, outs), nn.ReLU()]
        self.decoder = nn.Sequential(*(layers if last_relu else layers[:-1]))

    def fit(self, shapes: Tensor) -> None:
        """Take mean and components from training shapes (n, N, 2), components of largest variance first.

        Raises:
            DataError: there are fewer shapes than components, or their numbers are not finite.
        """
        flat = shapes.flatten(1).double()
        if len(flat) <= len(self.components) or not bool(flat.isfinite().all()):
            raise DataError(
                f"{len(flat)} training shapes give no {len(self.components)} principal components; lower "
                "model.latents, or give more shapes with all their landmarks."
            )
        mean = flat.mean(0)
        # The covariance is small, whatever the number of shapes; eigenvalues come in ascending order.
        _, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean))
        found = vectors.T.flip(0)[: len(self.components)]
        # An eigenvector has no sign: its largest entry is made positive, so that two fits give the same.
        largest = found.gather(1, found.abs().argmax(1, keepdim=True))
        self.mean.copy_(mean)
        self.components.copy_(found * largest.sign())

    def project(self, shapes: Tensor) -> Tensor:
        """The nearest shapes (n, N, 2) that PCA can give, which bound its error from below."""
        flat = shapes.flatten(1) - self.mean
        return (self.mean + flat @ self.components.T @ self.components).view(shapes.shape)

    def decode(self, z: Tensor) -> Tensor:
        """Landmarks (..., N, 2) in [0, 1] of the frame from codes (..., latents)."""
        flat = self.mean + z @ self.components if self.decoder is None else self.decoder(z)
        return flat.unflatten(-1, (-1, 2))

    def forward(self, image: Tensor) -> HybridGNetOutput:
        """Landmarks of images (B, 1, S, S) in [0, 1]; the code is drawn in training, its mean else."""
        return self._encoded(image, self._landmarks)

    def sample(self, image: Tensor, noise: Tensor) -> Tensor:
        """Landmarks (B, n, N, 2) of codes drawn for each image, from standard normal numbers (n, latents)."""
        return self._encoded(image, lambda mu, logvar: self._samples(mu, logvar, noise))

    def _landmarks(self, mu: Tensor, logvar: Tensor | None) -> HybridGNetOutput:
        return HybridGNetOutput(self.decode(self.draw(mu, logvar)), (), mu, logvar, None)

    def _samples(self, mu: Tensor, logvar: Tensor | None, noise: Tensor) -> Tensor:
        if logvar is None:
            raise ConfigError("the code of PCA has no variance, from which samples could be drawn.")
        return self.decode(mu[:, None] + noise.to(mu) * code_deviation(logvar)[:, None])

    def _encoded(self, image: Tensor, follow: Callable[[Tensor, Tensor | None], Found]) -> Found:
        """What follows from the code of an image, computed in full precision."""
        maps = self.encoder(image)
        if torch.is_autocast_enabled(image.device.type):
            # As in HybridGNet: half precision in these small layers would cost whole pixels.
            with torch.autocast(image.device.type, enabled=False):
                return follow(*self.encode({level: x.float() for level, x in maps.items()}))
        return follow(*self.encode(maps))
