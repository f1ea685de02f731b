"""Seg2Graph in training, from landmarks alone: its losses and what measures it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from anatozoo.methods.seg2graph.model import Seg2GraphModel
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.training.contours import ContourModule
from anatozoo.training.optim import Optim


class Seg2GraphModule(ContourModule, Seg2GraphModel):
    """Seg2Graph as a LightningModule; learns from landmarks alone, whose masks are drawn in every step.

    Args:
        uncrossing_weight: weight of the loss on loops of contours that cross themselves.
        unseen_weight: weight of landmarks whose organ the mask does not show.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `Seg2GraphModel` and `anatozoo.training.contours.ContourModule`.
    """

    extra_links: ClassVar = {"anchors": "anchors"}

    def __init__(
        self,
        *,
        uncrossing_weight: float = 0.5,
        unseen_weight: float = 0.1,
        optim: Optim = Optim("adamw", 1e-3, 1e-4, schedule="cosine", warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(uncrossing_weight=uncrossing_weight, optim=optim, **settings)
        self.unseen_weight = unseen_weight

    def answer(self, batch: Mapping[str, Tensor]) -> HybridGNetOutput:
        """What the network says of the batch's masks."""
        output: HybridGNetOutput = self.network(batch["image"])
        return output

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        truth, weight = batch["landmarks"], batch["landmark_weight"]
        if "held" in batch:
            counts = torch.tensor(list(self.organs.values()), device=truth.device)
            seen = batch["held"].repeat_interleave(counts, 1)
            weight = torch.where(seen, weight, self.unseen_weight * weight)
        terms = self.kl_term(output) | self.position_terms(output, truth, weight)
        terms["landmarks"] = self.landmark_loss(output.landmarks, truth, weight)
        return terms | self.uncrossing_term(output)
