"""AC-RegNet in training; its shape term is an objective, see `anatozoo.objectives.shape_prior`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from anatozoo.methods.acregnet.model import AcRegNetModel
from anatozoo.methods.acregnet.network import Registration
from anatozoo.tasks.views import Maps
from anatozoo.training.optim import Optim
from anatozoo.training.pairs import LabelLoss, PairModule


class AcRegNetModule(PairModule, AcRegNetModel):
    """AC-RegNet as a LightningModule.

    Mansilla et al., Neural Networks 2020, with the defaults of the paper; its shape term is the objective
    `ShapePrior` with a weight of 0.1. The variants lack terms: RegNet has ``label_weight=0`` and no
    objective, CE-RegNet no objective, AE-RegNet ``label_weight=0``.

    Args:
        label_loss: ``"cross_entropy"`` (the paper) or ``"dice"``.
        label_weight: weight of the label loss, 1 in the paper.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `AcRegNetModel` and `anatozoo.training.module.ZooModule`.
    """

    def __init__(
        self,
        *,
        label_loss: LabelLoss = "cross_entropy",
        label_weight: float = 1.0,
        optim: Optim = Optim("adam", 1e-3),
        **settings: Any,
    ) -> None:
        super().__init__(label_loss=label_loss, label_weight=label_weight, optim=optim, **settings)

    def answer(self, batch: Mapping[str, Tensor]) -> Registration:
        """The registration of the batch's ``moving`` to its ``fixed``."""
        found: Registration = self.network(batch["moving"], batch["fixed"], invert=False)
        return found

    def losses(
        self, output: Registration, batch: Mapping[str, Tensor], maps: Maps | None = None
    ) -> dict[str, Tensor]:
        """The weighted terms of the loss; see the arguments of `PairModule.losses`."""
        terms = {
            "similarity": self.dissimilarity(output.warped, batch["fixed"]),
            "smoothness": self.weighted_smoothness(output.field),
        }
        return terms | self.label_terms(output, batch, maps)
