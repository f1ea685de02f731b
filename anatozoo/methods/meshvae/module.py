"""The mesh VAE in training."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.methods.meshvae.model import MeshVAEModel
from anatozoo.nn.losses import kl_divergence
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim


class MeshVAEModule(ZooModule, MeshVAEModel):
    """The mesh VAE as a LightningModule: mean squared error of the scaled coordinates, and KL divergence.

    A new fit takes mean and spread of the training's vertices first.

    Args:
        kl_weight: weight of the KL divergence, the mean over the code. In the paper 1, for coordinates in
            millimetres; coordinates in units of their spread need less.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `MeshVAEModel` and `ZooModule`.

    Raises:
        ConfigError: the weight is negative.
    """

    extra_links: ClassVar[Mapping[str, str]] = {
        name: name for name in ("rings", "angles", "units", "template")
    }

    def __init__(
        self,
        *,
        kl_weight: float = 1e-3,
        optim: Optim = Optim("adam", 1e-3, 0.0, schedule="cosine"),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        if not 0 <= kl_weight < math.inf:
            raise ConfigError(f"kl_weight={kl_weight} must be a number of at least 0.")
        self.kl_weight = kl_weight

    def on_fit_start(self) -> None:
        """Take the scale from the training's meshes, unless a run goes on or starts from weights."""
        if not self.trainer.ckpt_path and not self.init_weights:
            vertices: Tensor = self.trainer.datamodule.training_vertices()  # type: ignore[attr-defined]
            self.network.take_scale(vertices.to(self.device))

    def answer(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, mean and log-variance of the code of the batch's ``vertices``."""
        found: tuple[Tensor, Tensor, Tensor] = self.network(batch["vertices"])
        return found

    def losses(self, output: tuple[Tensor, Tensor, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        rebuilt, mu, logvar = output
        scaled = self.network.scaled
        error = (scaled(rebuilt) - scaled(batch["vertices"])).square().mean()
        return {"vertices": error, "kl": self.kl_weight * kl_divergence(mu, logvar)}
