"""Siamese affine registration in training."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from anatozoo.methods.affinereg.model import AffineRegModel
from anatozoo.methods.affinereg.network import AffineRegistration
from anatozoo.nn.losses import kl_divergence
from anatozoo.tasks.views import Maps
from anatozoo.training.optim import Optim
from anatozoo.training.pairs import LabelLoss, PairModule


class AffineRegModule(PairModule, AffineRegModel):
    """Siamese affine registration as a LightningModule.

    Gaggion et al., CheXmask, Scientific Data 2024, train it on landmarks. Here the loss compares images and
    label maps after warping, so that landmarks are not needed, and label maps are optional.

    Args:
        label_loss: ``"dice"`` or ``"cross_entropy"``.
        label_weight: weight of the label loss.
        optim: see `anatozoo.training.optim.Optim`; published are a learning rate of 1e-4 and a weight decay
            of 1e-5.
        **settings: see `AffineRegModel` and `anatozoo.training.module.ZooModule`.
    """

    def __init__(
        self,
        *,
        label_loss: LabelLoss = "dice",
        label_weight: float = 1.0,
        optim: Optim = Optim("adam", 1e-4, 1e-5, schedule="step", lr_step=50, lr_gamma=0.9, warmup_steps=100),
        **settings: Any,
    ) -> None:
        super().__init__(label_loss=label_loss, label_weight=label_weight, optim=optim, **settings)

    @property
    def encoder_part(self) -> nn.Module:
        """The encoder of both images."""
        return self.network.encoder

    def losses(
        self, output: AffineRegistration, batch: Mapping[str, Tensor], maps: Maps | None = None
    ) -> dict[str, Tensor]:
        """The weighted terms of the loss; see the arguments of `PairModule.losses`."""
        terms = {"similarity": self.dissimilarity(output.warped, batch["fixed"])}
        terms |= self.label_terms(output, batch, maps)
        if output.log_variances is not None:
            # The sum for both images is twice the mean over all.
            divergence = kl_divergence(output.means.float(), output.log_variances.float())
            terms["divergence"] = 2 * self.kl_weight * divergence
        return terms
