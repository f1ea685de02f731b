"""The graph spectral VAE in training."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from anatozoo.methods.shapevae.model import ShapeVAEModel
from anatozoo.nn import losses
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.training.contours import ContourModule
from anatozoo.training.optim import Optim


class ShapeVAEModule(ContourModule, ShapeVAEModel):
    """The graph spectral VAE as a LightningModule: mean squared error and KL divergence.

    Before each validation of a fit, the mean and the covariance of the codes of all training shapes are
    stored in the network, so that every saved checkpoint has those of its own weights.

    Args:
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `ShapeVAEModel` and `anatozoo.training.contours.ContourModule`.
    """

    def __init__(
        self,
        *,
        optim: Optim = Optim("adamw", 1e-3, 1e-5, schedule="cosine", warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)

    def on_fit_start(self) -> None:
        """Nothing: positions are not relative to a mean shape."""

    def on_validation_epoch_start(self) -> None:
        """Take the distribution of codes from the training shapes, in a fit."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            shapes: Tensor = self.trainer.datamodule.training_shapes()  # type: ignore[attr-defined]
            self.network.take_prior(shapes.to(self.device))

    def answer(self, batch: Mapping[str, Tensor]) -> HybridGNetOutput:
        """Reconstruction and code of the batch's ``landmarks``."""
        return self(batch["landmarks"])

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        error = losses.landmark_mse(output.landmarks, batch["landmarks"], batch["landmark_weight"])
        return {"landmarks": error} | self.kl_term(output) | self.uncrossing_term(output)
