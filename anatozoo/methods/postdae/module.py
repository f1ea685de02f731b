"""Post-DAE in training, from masks alone: loss and validation metrics."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.methods.postdae.corruptions import KINDS, largest
from anatozoo.methods.postdae.model import PostDAEModel
from anatozoo.nn.losses import organ_dice, weighted_mean
from anatozoo.tasks.cases import label_cases, label_dices, with_numbers
from anatozoo.tasks.views import Maps
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case


class PostDAEModule(ZooModule, PostDAEModel):
    """Post-DAE as a LightningModule; learns from masks alone.

    Args:
        organ_weights: weight of each organ in the Dice loss; None gives all the same weight.
        ce_weight: weight of an additional cross-entropy; 0 in the paper.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `PostDAEModel` and `anatozoo.training.module.ZooModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        *,
        organ_weights: list[float] | None = None,
        ce_weight: float = 1.0,
        optim: Optim = Optim("adamw", 1e-3, 1e-4, schedule="cosine", warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        weights = [1.0] * len(self.organs) if organ_weights is None else organ_weights
        if len(weights) != len(self.organs) or min(weights) < 0 or not any(weights) or ce_weight < 0:
            raise ConfigError(
                f"organ_weights={organ_weights} must be one number for each of {self.organs}, not all 0; no "
                "weight may be negative."
            )
        self.organ_weights, self.ce_weight = organ_weights, ce_weight

    @property
    def fast_layout(self) -> bool:  # type: ignore[override]
        """Whether convolutions are 2-D, which are faster in "channels last" order."""
        return len(self.shape) == 2

    @property
    def encoder_part(self) -> nn.Module:
        """The encoder."""
        return self.network.encoder

    def answer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1 + organs, ...) of the batch's ``noisy``."""
        logits: Tensor = self.network(batch["noisy"])
        return logits

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1 + organs, ...) of the batch's ``noisy``."""
        return self.answer(batch)

    def maps(self, output: Tensor, batch: Mapping[str, Tensor]) -> Maps:
        """Repaired masks with the clean ones."""
        return Maps(output.float().softmax(1), batch["clean"].float())

    def columns(self) -> list[str]:
        """Dice after repair (all organs, and each), before repair, of clean masks, and by degradation."""
        organs = [f"dice/{organ}" for organ in self.organs]
        return ["dice", *organs, "dice_before", "dice_clean", *(f"dice_after/{kind}" for kind in KINDS)]

    def losses(self, output: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            output: logits (B, 1 + organs, ...).
            batch: ``clean`` (B, 1 + organs, ...), the target shares of each pixel.
        """
        clean = batch["clean"].float()
        log_probability = output.float().log_softmax(1)
        dice = organ_dice(log_probability.exp(), clean)
        weights = self.organ_weights or [1.0] * len(self.organs)
        terms = {"dice": weighted_mean(1 - dice, dice.new_tensor(weights))}
        if self.ce_weight:
            entropy = -(clean * log_probability).sum(1).mean()
            terms["cross_entropy"] = self.ce_weight * entropy
        return terms

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Repaired masks beside the clean ones, at the network's resolution; Dice again by degradation."""
        truth, names = largest(batch["clean"]), ["dice_clean", *(f"dice_after/{kind}" for kind in KINDS)]
        cases = label_cases(largest(output), truth, self.organs, batch)
        before = label_dices(largest(batch["noisy"]), truth, len(self.organs))
        cases = with_numbers(cases, {"dice_before": before})
        return [
            replace(case, numbers={**case.numbers, names[kind]: case.numbers["dice"]})
            for case, kind in zip(cases, batch["kind"].tolist(), strict=True)
        ]
