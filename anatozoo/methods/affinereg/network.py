"""The Siamese affine network of CheXmask's quality estimation, in pure torch.

Gaggion et al., "CheXmask: a large-scale dataset of anatomical segmentation masks for multi-center chest x-ray
images", Scientific Data 11, 2024.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.blocks import PAPER_WIDTHS, ResidualEncoder
from anatozoo.nn.warp import warp

Transform = Literal["affine", "rigid"]
NUMBERS = {"affine": 6, "rigid": 5}
"""How many parameters each kind of map has."""


class AffineRegistration(NamedTuple):
    """Output of the affine network; the first three fields are those of every registration network.

    Attributes:
        warped: (B, 1, H, W), the moving image on the fixed one's grid.
        field: (B, 2, H, W) pixels, see `anatozoo.nn.warp`.
        inverse: None; the inverse of `matrix` is the way back.
        matrix: (B, 2, 3) float32, maps (x, y, 1) of the fixed image to (x, y) of the moving one, each -1 … 1
            from the first to the last pixel centre.
        means: (2B, K), latents of the moving and then of the fixed images.
        log_variances: (2B, K); None if the latents are deterministic.
    """

    warped: Tensor
    field: Tensor
    inverse: None
    matrix: Tensor
    means: Tensor
    log_variances: Tensor | None


class LatentEncoder(nn.Module):
    """Image to latent: the encoder of the HybridGNet papers, average pooling to one size, a linear layer.

    The authors tie the linear layer to images of 1024 pixels. Here the last map is averaged in `cells` ×
    `cells` parts, which changes nothing at 32 · `cells` pixels and permits other image sizes.

    Args:
        widths: channels of each level.
        latent: length K of the latent.
        cells: pooled cells along each axis.
        variational: also predict the variance of the latent.
    """

    def __init__(self, widths: Sequence[int], latent: int, cells: int, variational: bool) -> None:
        super().__init__()
        self.encoder, self.cells = ResidualEncoder(widths), cells
        self.mean = nn.Linear(widths[-1] * cells**2, latent)
        self.log_variance = nn.Linear(widths[-1] * cells**2, latent) if variational else None
        if self.log_variance is not None:
            # A small variance at first: with a variance of 1, noise would hide the map from the training.
            nn.init.constant_(self.log_variance.bias, -6.0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and logarithm of the variance of the latent, (B, K) each, of images (B, 1, H, W)."""
        last = self.encoder(image)[len(self.encoder.blocks)]
        x = F.adaptive_avg_pool2d(last, self.cells).flatten(1)
        return self.mean(x), None if self.log_variance is None else self.log_variance(x)


class AffineNet(nn.Module):
    """Registers one image to another by one affine map.

    Both images go through one encoder; two layers predict the parameters of the map from their concatenated
    latents. An untrained network predicts the identity.

    Args:
        transform: ``"affine"`` (6 parameters, added to the matrix of the identity) or ``"rigid"``, as the
            authors call it (5 parameters: angle, the logarithms of two scales, two shifts).
        widths: channels of each level of the encoder.
        latent: length of the latent.
        hidden: width of the layer between the latents and the affine map.
        cells: cells along each axis to which the encoder's last map is pooled.
        variational: sample the latents in training.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        transform: Transform = "affine",
        widths: Sequence[int] = PAPER_WIDTHS,
        latent: int = 64,
        hidden: int = 128,
        cells: int = 4,
        variational: bool = True,
    ) -> None:
        super().__init__()
        if transform not in NUMBERS:
            raise ConfigError(f"transform={transform!r} is unknown; choose {' or '.join(NUMBERS)}.")
        if not widths or min(*widths, latent, hidden, cells) < 1:
            raise ConfigError("widths, latent, hidden and cells must be positive.")
        self.transform, self.widths = transform, tuple(widths)
        self.encoder = LatentEncoder(widths, latent, cells, variational)
        self.hidden = nn.Linear(2 * latent, hidden)
        self.head = nn.Linear(hidden, NUMBERS[transform])
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def embed(self, image: Tensor) -> Tensor:
        """Latents (B, K) of images (B, 1, H, W) in [0, 1]: the means, without sampling."""
        mean: Tensor = self.encoder(image)[0]
        return mean

    def between(self, moving: Tensor, fixed: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The map between images (H, W) of a shape from their latents, (B, K) each.

        Returns:
            `AffineRegistration.matrix` and `AffineRegistration.field`.
        """
        numbers = self.head(F.relu(self.hidden(torch.cat([moving, fixed], 1)))).float()
        matrix = affine_matrix(numbers, (shape[0], shape[1]))
        return matrix, affine_field(matrix, (shape[0], shape[1]))

    def forward(self, moving: Tensor, fixed: Tensor) -> AffineRegistration:
        """Register images (B, 1, H, W) in [0, 1]; each encoder level but the first halves them.

        Raises:
            ConfigError: the images are too small for the number of levels.
        """
        least = 2 ** len(self.widths)
        if min(moving.shape[2:]) < least:
            raise ConfigError(
                f"images of {tuple(moving.shape[2:])} are too small for {len(self.widths)} levels: every "
                f"side needs {least} pixels."
            )
        means, log_variances = self.encoder(torch.cat([moving, fixed]))
        latents = means
        if self.training and log_variances is not None:
            latents = means + torch.randn_like(means) * (0.5 * log_variances).exp()
        matrix, field = self.between(latents[: len(moving)], latents[len(moving) :], moving.shape[2:])
        return AffineRegistration(warp(moving, field), field, None, matrix, means, log_variances)


def affine_matrix(numbers: Tensor, shape: tuple[int, int]) -> Tensor:
    """Matrices (B, 2, 3) of affine maps about the image's centre, on positions (x, y) in -1 … 1.

    Args:
        numbers: (B, 6), added to the identity row by row; or (B, 5): angle in radians (in pixels, not in
            shares of an oblong image), logarithms of the scales along x and y before the rotation, shifts.
        shape: (H, W) of the images.
    """
    if numbers.shape[1] == NUMBERS["affine"]:
        return numbers.view(-1, 2, 3) + torch.eye(2, 3, dtype=numbers.dtype, device=numbers.device)
    angle, log_x, log_y, shift_x, shift_y = numbers.unbind(1)
    ratio = (shape[1] - 1) / (shape[0] - 1)
    cos, sin = angle.cos(), angle.sin()
    rows = (
        torch.stack([cos * log_x.exp(), -sin * log_y.exp() / ratio, shift_x], 1),
        torch.stack([sin * log_x.exp() * ratio, cos * log_y.exp(), shift_y], 1),
    )
    return torch.stack(rows, 1)


def affine_field(matrix: Tensor, shape: tuple[int, int]) -> Tensor:
    """The field (B, 2, H, W) in pixels, rows and then columns, of affine maps.

    Computed by single products: autocast would round a matrix product to eight bits.

    Args:
        matrix: (B, 2, 3), see `AffineRegistration.matrix`.
        shape: (H, W), at least two pixels each.
    """
    rows, columns = (torch.linspace(-1, 1, n, dtype=matrix.dtype, device=matrix.device) for n in shape)
    x, y = columns[None, None], rows[None, :, None]
    m = matrix[..., None, None]
    moved_x = m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2] - x
    moved_y = m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2] - y
    return torch.stack([moved_y * ((shape[0] - 1) / 2), moved_x * ((shape[1] - 1) / 2)], 1)
