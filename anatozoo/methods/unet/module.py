"""U-Net in training: loss, and starting weights from other organs."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.methods.unet.model import UNetModel
from anatozoo.nn.dynunet import weighted_levels
from anatozoo.nn.graphs import organ_names
from anatozoo.nn.losses import check_base_loss
from anatozoo.tasks.labels import DiceKind, Missing, label_losses, organ_losses
from anatozoo.tasks.views import Maps
from anatozoo.training.encoders import EncoderModule
from anatozoo.training.optim import Optim
from anatozoo.training.weights import refuse_other_shapes


class UNetModule(EncoderModule, UNetModel):
    """U-Net as a LightningModule.

    With ``organs=["lungs", "heart"]``, ``encoder="residual"`` and ``loss="paper"`` this is the baseline of
    Gaggion et al., IEEE TMI 2022; the other settings are anatozoo's.

    Args:
        loss: ``"paper"`` (cross-entropy and one soft Dice over all labels, background included) or
            ``"organs"`` (cross-entropy and the mean soft Dice of the organs). With ``output="organs"`` it is
            `anatozoo.tasks.labels.organ_losses` instead.
        dice_weight: weight of the Dice term.
        ce_weight: weight of the cross-entropy.
        focal_gamma: γ of the focal loss (`anatozoo.nn.losses.focal`) in place of the cross-entropy; 0 keeps
            the cross-entropy, 2 is usual.
        missing: what organs without annotation count as: ``"either"`` (unknown), ``"background"`` (absent,
            the naive baseline of Gaggion et al., ISBI 2023) or ``"ignore"`` (pixels without a label are left
            out of such images), see `anatozoo.tasks.labels.label_losses`.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `UNetModel` and `anatozoo.training.encoders.EncoderModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        *,
        loss: DiceKind = "paper",
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        focal_gamma: float = 0.0,
        missing: Missing = "either",
        optim: Optim = Optim("adam", 1e-4, 1e-5, schedule="step", lr_step=50, lr_gamma=0.9, warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        if missing not in get_args(Missing):
            raise ConfigError(f"missing={missing!r} is unknown; choose {', '.join(get_args(Missing))}.")
        if missing == "ignore" and self.output == "organs":
            raise ConfigError(
                "missing='ignore' leaves out pixels without a label, which output='organs' does not have; "
                "choose either or background."
            )
        check_base_loss(ce_weight, dice_weight, focal_gamma)
        self.loss, self.missing = loss, missing
        self.ce_weight, self.dice_weight, self.focal_gamma = ce_weight, dice_weight, focal_gamma

    @property
    def encoder_part(self) -> nn.Module:
        """The image encoder; of DynUNet the contracting levels."""
        return self.network.contracting

    def answer(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Logits (B, C, S, S), see `UNetModel.forward`; with deep supervision several, final logits first."""
        return self.network.outputs(batch["image"])

    def maps(self, output: Tensor | list[Tensor], batch: Mapping[str, Tensor]) -> Maps:
        """Probabilities of the final logits, with the labels."""
        return super().maps(output if isinstance(output, Tensor) else output[0], batch)

    def losses(self, output: Tensor | list[Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy and Dice of logits (B, C, S, S), under partial annotation.

        Args:
            output: the logits, or a list of them, final logits first; each has half the weight of the one
                before.
            batch: ``labels`` (B, S, S) int64, 0 for background, and ``known`` (B, organs), above 0 where the
                organ is annotated.
        """
        levels = [output] if isinstance(output, Tensor) else output
        found = [self._level_losses(logits, batch["labels"], batch["known"] > 0) for logits in levels]
        weights = {"cross_entropy": self.ce_weight, "dice": self.dice_weight}
        return {
            name: weight * weighted_levels([terms[name] for terms in found])
            for name, weight in weights.items()
            if weight
        }

    def _level_losses(self, logits: Tensor, labels: Tensor, known: Tensor) -> dict[str, Tensor]:
        if self.output == "labels":
            return label_losses(logits, labels, known, self.loss, self.missing, self.focal_gamma)
        judged = torch.ones_like(known) if self.missing == "background" else known
        return organ_losses(logits, labels, judged, self.focal_gamma)

    def adapted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Starting weights from a network for other organs; shared organs keep their channel."""
        first = [int(output == "labels") for output in (settings.get("output", "labels"), self.output)]
        heads = tuple(f"network.{head}" for head in self.network.heads)
        there = organ_names(settings["organs"])
        return adapt_state(state, there, self.state_dict(), self.organs, heads, (first[0], first[1]))


def adapt_state(
    state: Mapping[str, Tensor],
    organs: Sequence[str],
    own: Mapping[str, Tensor],
    own_organs: Sequence[str],
    heads: tuple[str, ...],
    first: tuple[int, int] = (1, 1),
) -> dict[str, Tensor]:
    """Fit `state` of a network for `organs` to one for `own_organs` whose fresh state is `own`.

    Only parameters whose names begin with one of `heads` depend on the organs: shared organs keep their
    channel. `first` is the channel of the first organ there and here: 1 after the background, else 0.

    Raises:
        WeightsError: the networks differ in more than the organs; the message lists the tensors.
    """
    result, wrong = {}, sorted(set(own) ^ set(state))
    for name, like in own.items():
        value = state.get(name)
        if value is None:
            continue
        if name.startswith(heads):
            merged = like.clone()
            if value.shape[1:] == like.shape[1:]:
                if all(first):
                    merged[0] = value[0]
                for channel, organ in enumerate(own_organs, start=first[1]):
                    if organ in organs:
                        merged[channel] = value[first[0] + list(organs).index(organ)]
                value = merged
        if value.shape != like.shape:
            wrong.append(f"{name}: {tuple(value.shape)} here, {tuple(like.shape)} needed")
        else:
            result[name] = value.to(like.dtype)
    refuse_other_shapes(wrong)
    return result
