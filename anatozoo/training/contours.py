"""Training of modules whose network gives landmarks on closed contours."""

import math
from typing import Any, ClassVar

from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs, losses
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.training.module import ZooModule

KL_WEIGHT = 1e-5
"""Weight of the KL divergence in Gaggion et al., IEEE TMI 2022."""


class ContourModule(ZooModule):
    """A module whose network gives landmarks, and before them positions of coarse and fine nodes.

    Its data module has the method ``mean_landmarks()``, the mean shape (N, 2) in [0, 1] of the training data.

    Args:
        kl_weight: weight of the KL divergence, from `kl_epochs` on.
        kl_start: its weight in the first epoch.
        kl_epochs: epochs over which the weight rises in equal steps; 0 has `kl_weight` from the start on.
        uncrossing_weight: weight of the loss on loops of contours that cross themselves.
        huber_delta: landmark error, in percent of the frame, up to which the Huber loss is quadratic.
        **settings: see `ZooModule`.

    Raises:
        ConfigError: a weight or `kl_epochs` is negative, `huber_delta` is not above 0, or `kl_start` is given
            without `kl_epochs`.
    """

    fast_layout: ClassVar[bool] = True

    network: Any
    organs: dict[str, int]
    down: Tensor

    def __init__(
        self,
        *,
        kl_weight: float = KL_WEIGHT,
        kl_start: float = KL_WEIGHT,
        kl_epochs: int = 0,
        uncrossing_weight: float = 0.0,
        huber_delta: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        least_0 = {"kl_weight": kl_weight, "kl_start": kl_start, "kl_epochs": kl_epochs}
        for name, value in (least_0 | {"uncrossing_weight": uncrossing_weight}).items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name}={value} must be a number of at least 0.")
        if not 0 < huber_delta < math.inf:
            raise ConfigError(f"huber_delta={huber_delta} must be a number above 0.")
        if not kl_epochs and kl_start not in (kl_weight, KL_WEIGHT):
            raise ConfigError(
                f"kl_start={kl_start} changes nothing without kl_epochs, over which the weight rises to "
                f"kl_weight={kl_weight}; give them, or leave kl_start out."
            )
        self.kl_weight, self.kl_start, self.kl_epochs = kl_weight, kl_start, kl_epochs
        self.uncrossing_weight = uncrossing_weight
        self.huber_delta = huber_delta
        self.register_buffer("down", graphs.downsampling(self.organs), persistent=False)

    def on_fit_start(self) -> None:
        """Take template and spacing from the mean shape of the training data."""
        if not self.trainer.ckpt_path:
            self.network.take_mean(self.trainer.datamodule.mean_landmarks().to(self.device))  # type: ignore[attr-defined]

    def reference(self, position: Tensor, truth: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Reference and weight at the nodes of a position: those of the landmarks, or pooled.

        Args:
            position: (B, N, 2), or (B, M, 2) of the coarse nodes.
            truth: (B, N, 2) landmarks.
            weight: (B, N); a coarse node with a landmark of weight 0 has the weight 0.
        """
        if position.shape[1] == truth.shape[1]:
            return truth, weight
        pooled, known = ((self.down @ w.to(truth.dtype)[..., None])[..., 0] for w in (weight, weight > 0))
        return self.down @ truth, pooled * (known > 0.99)

    def landmark_loss(self, position: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        """Contour loss of fine nodes, Huber loss of coarse ones; see `reference` for the arguments."""
        fine = position.shape[1] == truth.shape[1]
        truth, weight = self.reference(position, truth, weight)
        if not fine:
            return losses.landmark_huber(position, truth, weight, delta=self.huber_delta)
        return losses.contour_loss(
            position, truth, weight, graphs.organ_slices(self.organs).values(), delta=self.huber_delta
        )

    def position_terms(self, output: HybridGNetOutput, truth: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The loss of each intermediate position: ``position1``, ``position2``, ..."""
        return {
            f"position{i}": self.landmark_loss(position, truth, weight)
            for i, position in enumerate(output.positions, 1)
        }

    def kl_term(self, output: HybridGNetOutput) -> dict[str, Tensor]:
        """The weighted KL divergence, ``kl``; Gaggion et al., "CheXmask-U", MIDL 2026, anneal its weight.

        Empty for a code without variance.
        """
        if output.logvar is None:
            return {}
        risen = min(self.current_epoch / self.kl_epochs, 1.0) if self.kl_epochs else 1.0
        weight = self.kl_start + risen * (self.kl_weight - self.kl_start)
        return {"kl": weight * losses.kl_divergence(output.mu, output.logvar)}

    def uncrossing_term(self, output: HybridGNetOutput) -> dict[str, Tensor]:
        """The weighted loss on crossing contours, ``uncrossing``; empty without a weight."""
        if not self.uncrossing_weight:
            return {}
        parts = graphs.organ_slices(self.organs).values()
        loss = losses.uncrossing_loss(output.landmarks, parts, delta=self.huber_delta)
        return {"uncrossing": self.uncrossing_weight * loss}
