"""U-Net as a LightningModule: loss, optimisation, validation, prediction."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.methods.unet.network import UNet, check_size
from anatozoo.nn import graphs
from anatozoo.nn.blocks import load_imagenet_weights
from anatozoo.nn.labels import one_hot
from anatozoo.nn.losses import masked_dice_loss
from anatozoo.objectives.shape_prior import PriorSlot
from anatozoo.tasks.segmentation import MaskModule
from anatozoo.training.optim import adam_with_schedule
from anatozoo.training.weights import read_weights, refuse_other_shapes

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case

ORGAN_SETS = {
    "lungs": list(graphs.LUNGS),
    "lungs_heart": list(graphs.LUNGS_HEART),
    "lungs_heart_clavicles": list(graphs.LUNGS_HEART_CLAVICLES),
}


class UNetModule(MaskModule):
    """Segments chest radiographs by labelling each pixel.

    The baseline of Gaggion et al., IEEE TMI 2022: with ``organs=["lungs", "heart"]``, ``encoder="residual"``
    and ``loss="paper"`` this is theirs; the other settings are anatozoo's. Nothing makes its shapes
    plausible unless a fit asks for it by `shape_weight`: parts may lie apart and organs may have holes, which
    results are flagged for.

    Args:
        organs: a name (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``, each side a label of its
            own) or names of organs in the order of their labels; later ones cover earlier ones. ``"lungs"``
            and ``"clavicles"`` in such a list are both sides under one label.
        image_size: side S of the square input in pixels.
        intensity: how grey values become [0, 1]: ``"percentiles"`` stretches 0.5 to 99.5 % of each image,
            ``"bits"`` divides by the format's largest value, as the authors do; see `anatozoo.io.intensity`.
        encoder: ``"residual"`` or any timm feature extractor.
        encoder_weights: ImageNet weights for a fresh fit: ``"timm"``, ``"package"`` or a file.
        freeze: prefixes of encoder parameters that stay as they are, such as ``body.conv_stem``.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        decoder_widths: channels of the decoder at strides 1, 2, 4, ...
        loss: ``"paper"`` (cross-entropy and one soft Dice over all labels, background included) or
            ``"organs"`` (cross-entropy and the mean over the organs of a soft Dice each).
        dice_weight: weight of the Dice term.
        shape_prior: autoencoder of label maps for the shape loss, such as a fit of ``aenet/jsrt.yaml``:
            checkpoint name, folder or ``.ckpt`` file; read when a fit begins.
        shape_weight: weight of the shape loss of ACNN, Oktay et al., IEEE TMI 2018; 0 switches it off.
        optimizer: ``"adam"`` (L2 in the gradient, as the authors) or ``"adamw"``.
        lr: learning rate.
        weight_decay: weight decay.
        encoder_lr_scale: factor on the encoder's learning rate.
        schedule: ``"step"`` (×`lr_gamma` every `lr_step` epochs) or ``"cosine"`` (to 1 % at the fit's end).
        lr_step: epochs between steps.
        lr_gamma: factor of a step.
        warmup_steps: optimiser steps of linear warm-up under ``"cosine"``.
        check_view: whether `predict` flags pictures that are no upright frontal chest, see
            `anatozoo.tasks.chest_view`.

    Raises:
        ConfigError: settings that contradict one another.
    """

    architecture = ("organs", "image_size", "intensity", "encoder", "decoder_widths")
    links = {  # noqa: RUF012 - declared in the base class
        "organs": "organs",
        "image_size": "image_size",
        "intensity": "intensity",
    }

    def __init__(
        self,
        organs: str | list[str] = "lungs_heart_clavicles",
        image_size: int = 1024,
        intensity: Literal["percentiles", "bits"] = "percentiles",
        encoder: str = "residual",
        encoder_weights: str | None = None,
        freeze: list[str] = [],  # noqa: B006 - jsonargparse shows it, nothing changes it
        init_weights: str | None = None,
        decoder_widths: list[int] = [8, 16, 32, 64, 128],  # noqa: B006
        loss: Literal["paper", "organs"] = "paper",
        dice_weight: float = 1.0,
        shape_prior: str | None = None,
        shape_weight: float = 0.0,
        optimizer: Literal["adam", "adamw"] = "adam",
        lr: float = 1e-4,
        weight_decay: float = 1e-5,
        encoder_lr_scale: float = 1.0,
        schedule: Literal["step", "cosine"] = "step",
        lr_step: int = 50,
        lr_gamma: float = 0.9,
        warmup_steps: int = 200,
        check_view: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the network."""
        h: Any = self.hparams
        self.organs = organ_names(h.organs)
        check_size(h.image_size)
        self.image_size = h.image_size
        if h.shape_weight < 0:
            raise ConfigError(f"shape_weight={h.shape_weight} must not be negative.")
        self.prior = PriorSlot()
        self.network = UNet(1 + len(self.organs), encoder=h.encoder, decoder_widths=h.decoder_widths)
        for name, parameter in self.network.encoder.named_parameters():
            if any(name.startswith(prefix) for prefix in h.freeze):
                parameter.requires_grad_(False)

    def configure_metrics(self) -> None:
        """One value per image and column, whatever the number of processes."""
        self.judge_by(["dice", *(f"dice/{organ}" for organ in self.organs)])

    def setup(self, stage: str) -> None:
        """Read the shape prior of a fit, and the starting weights of a fresh one; a resumed one has its own.

        Raises:
            ConfigError: the shape loss has no prior, or one of other organs or proportions.
        """
        h: Any = self.hparams
        afresh = self.begins_afresh(stage)
        if stage == "fit":
            self.prior.fill(
                h.shape_prior,
                h.shape_weight,
                labels=self.organs,
                shape=(self.image_size, self.image_size),
                frame={"fit": "pad"},
            )
        if not afresh:
            return
        if h.encoder_weights:
            load_imagenet_weights(self.network.encoder, h.encoder_weights)
        if h.init_weights:
            state, hparams = read_weights(h.init_weights, "unet")
            self.load_state_dict(
                adapt_state(state, organ_names(hparams["organs"]), self.state_dict(), self.organs)
            )

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, S, S), background first, for images (B, 1, S, S) in [0, 1]."""
        return self.network(image)

    def forward_logits(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, S, S), background first."""
        return self.network(image)

    def losses(self, logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Where an organ is not annotated in an image, its pixels carry another label: the background's, or that
        of an organ which it would cover. Such a pixel counts as right under either, so that an organ that
        one data set lacks is not learnt as background.

        Args:
            logits: (B, 1 + organs, S, S).
            batch: ``labels`` (B, S, S) int64, 0 for background, and ``known`` (B, organs), above 0 where the
                organ is annotated.
        """
        h: Any = self.hparams
        labels, known = batch["labels"], batch["known"] > 0
        log_probability = logits.float().log_softmax(1)
        right = log_probability.masked_fill(~admissible(labels, known), -torch.inf).logsumexp(1)
        if h.loss == "paper":
            # Probabilities and one-hot labels both sum to 1 at each pixel, so that Dice over all labels
            # together is the mean probability of what is right.
            dice = 1 - right.exp().mean()
        else:
            truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(right.dtype)
            probability = torch.where(truth > 0, right.exp()[:, None], log_probability[:, 1:].exp())
            dice = masked_dice_loss(
                probability, truth, known[:, :, None, None].to(right.dtype).expand_as(truth)
            )
        terms = {"cross_entropy": -right.mean(), "dice": h.dice_weight * dice}
        if h.shape_weight:
            # A shape is known where every organ is.
            terms["shape"] = self.prior(log_probability.exp(), one_hot(labels, logits.shape[1]), known.all(1))
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; logs every term of the loss."""
        terms = self.losses(self.network(batch["image"]), batch)
        return self.total(terms, len(batch["image"]))

    def measure(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Dice over all organs and of each; see the base class."""
        values = dice_per_image(output.argmax(1), batch["labels"], batch["known"] > 0)
        return torch.cat([values.nanmean(1, keepdim=True), values], 1)

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Masks of the annotated organs at the network's resolution.

        A pixel that may belong to an organ without annotation is judged as what it is labelled.
        """
        from anatozoo.tasks.cases import label_cases

        labels, known = batch["labels"], batch["known"] > 0
        found = judged_labels(output.argmax(1), labels, known)
        return label_cases(found, labels, self.organs, batch, image=batch["image"], known=known)

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with a step or cosine schedule."""
        return adam_with_schedule(self, self.network.encoder)


def organ_names(organs: str | Sequence[str]) -> list[str]:
    """Organs in the order of their labels, from a set's name or a list.

    Raises:
        ConfigError: the name is unknown, the list is empty or names an organ twice.
    """
    if isinstance(organs, str):
        if organs not in ORGAN_SETS:
            raise ConfigError(
                f"organs={organs!r} is unknown; choose one of {', '.join(ORGAN_SETS)} or a list such as "
                "[lungs, heart]."
            )
        return list(ORGAN_SETS[organs])
    names = [str(organ) for organ in organs]
    if not names or len(set(names)) != len(names) or not all(names) or len(names) > 254:
        raise ConfigError(f"organs={names} must be 1 to 254 different names.")
    return names


def admissible(labels: Tensor, known: Tensor) -> Tensor:
    """Which labels may be true at each pixel, given what is annotated.

    Args:
        labels: (B, H, W) int64, 0 for background.
        known: (B, C) bool, whether each organ is annotated in the image.

    Returns:
        (B, 1 + C, H, W) bool: the label itself, and every organ without annotation that would cover it.
    """
    values = torch.arange(1 + known.shape[1], device=labels.device)[None, :, None, None]
    given = labels[:, None]
    unknown = F.pad(~known, (1, 0))[:, :, None, None]
    return (values == given) | (unknown & (values > given))


def judged_labels(prediction: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """What is predicted, but as labelled where that may be an organ without annotation.

    Args:
        prediction: (B, H, W) int64.
        labels: (B, H, W) int64.
        known: (B, C) bool.
    """
    allowed = admissible(labels, known).gather(1, prediction[:, None])[:, 0]
    return torch.where(allowed, labels, prediction)


def dice_per_image(prediction: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Dice of each organ, (B, C) float32; NaN where it is not annotated, or annotated as absent.

    Args:
        prediction: (B, H, W) int64.
        labels: (B, H, W) int64.
        known: (B, C) bool.
    """
    corrected = judged_labels(prediction, labels, known)
    columns = []
    for value in range(1, 1 + known.shape[1]):
        a, b = corrected == value, labels == value
        size = b.sum((1, 2))
        dice = 2 * (a & b).sum((1, 2)) / (a.sum((1, 2)) + size).clamp_min(1)
        columns.append(dice.masked_fill(~known[:, value - 1] | (size == 0), torch.nan))
    return torch.stack(columns, 1)


def adapt_state(
    state: Mapping[str, Tensor], organs: Sequence[str], own: Mapping[str, Tensor], own_organs: Sequence[str]
) -> dict[str, Tensor]:
    """Fit `state` of a network for `organs` to one for `own_organs` whose fresh state is `own`.

    Only the last convolution depends on the organs: those that both have keep their channel.

    Raises:
        WeightsError: anything but the organs differs; the message lists the tensors.
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
