"""U-Net in training: loss, and starting weights from other organs."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from anatozoo.methods.unet.model import UNetModel
from anatozoo.nn.graphs import organ_names
from anatozoo.tasks.labels import DiceKind, label_losses
from anatozoo.training.encoders import EncoderModule
from anatozoo.training.optim import Optim
from anatozoo.training.weights import refuse_other_shapes


class UNetModule(EncoderModule, UNetModel):
    """U-Net as a LightningModule.

    With ``organs=["lungs", "heart"]``, ``encoder="residual"`` and ``loss="paper"`` this is the baseline of
    Gaggion et al., IEEE TMI 2022; the other settings are anatozoo's.

    Args:
        loss: ``"paper"`` (cross-entropy and one soft Dice over all labels, background included) or
            ``"organs"`` (cross-entropy and the mean soft Dice of the organs).
        dice_weight: weight of the Dice term.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `UNetModel` and `anatozoo.training.encoders.EncoderModule`.
    """

    def __init__(
        self,
        *,
        loss: DiceKind = "paper",
        dice_weight: float = 1.0,
        optim: Optim = Optim("adam", 1e-4, 1e-5, schedule="step", lr_step=50, lr_gamma=0.9, warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        self.loss, self.dice_weight = loss, dice_weight

    def losses(self, output: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy and Dice of logits (B, 1 + organs, S, S), under partial annotation.

        Args:
            output: the logits.
            batch: ``labels`` (B, S, S) int64, 0 for background, and ``known`` (B, organs), above 0 where the
                organ is annotated.
        """
        terms = label_losses(output, batch["labels"], batch["known"] > 0, self.loss)
        return terms | {"dice": self.dice_weight * terms["dice"]}

    def adapted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Starting weights from a network for other organs; shared organs keep their channel."""
        return adapt_state(state, organ_names(settings["organs"]), self.state_dict(), self.organs)


def adapt_state(
    state: Mapping[str, Tensor], organs: Sequence[str], own: Mapping[str, Tensor], own_organs: Sequence[str]
) -> dict[str, Tensor]:
    """Fit `state` of a network for `organs` to one for `own_organs` whose fresh state is `own`.

    Only the last convolution depends on the organs: shared organs keep their channel.

    Raises:
        WeightsError: the networks differ in more than the organs; the message lists the tensors.
    """
    result, wrong = {}, sorted(set(own) ^ set(state))
    for name, like in own.items():
        value = state.get(name)
        if value is None:
            continue
        if name.startswith("network.head."):
            merged = like.clone()
            if value.shape[1:] == like.shape[1:]:
                merged[0] = value[0]
                for channel, organ in enumerate(own_organs, start=1):
                    if organ in organs:
                        merged[channel] = value[1 + list(organs).index(organ)]
                value = merged
        if value.shape != like.shape:
            wrong.append(f"{name}: {tuple(value.shape)} here, {tuple(like.shape)} needed")
        else:
            result[name] = value.to(like.dtype)
    refuse_other_shapes(wrong)
    return result
