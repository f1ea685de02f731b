"""ACNN-Seg as a LightningModule: losses, optimisation, validation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.data.stacks import HEART
from anatozoo.errors import ConfigError
from anatozoo.frames.frame import frame_shape
from anatozoo.frames.stacks import StackFit, check_fit
from anatozoo.methods.acnn.network import build_network
from anatozoo.nn.labels import check_labels, dice_per_label, one_hot
from anatozoo.nn.registration_losses import label_dice_loss
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.objectives.shape_prior import PriorSlot, ShapeModel, ShapePrior
from anatozoo.tasks.volumes import StackModule
from anatozoo.training.optim import adam_with_schedule
from anatozoo.training.weights import start_from

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case

LATER_OUTPUTS = 0.5
"""Weight of each further supervised output against the one before it."""


class AcnnModule(StackModule):
    """Segments volumes and stacks of slices by a network whose shapes a learned prior constrains.

    Oktay et al., IEEE TMI 2018: cross-entropy, λ1 times the distance of the codes of prediction and truth,
    and λ2 / 2 times the squared weights. With ``shape_weight=0`` and each `network` these are the rows that
    the paper compares with.

    Args:
        labels: names of the foreground classes, in the order of their values 1, 2, ...
        image_size: [D, H, W] of the frame.
        fit: how images get into the frame: ``"slices"`` keeps the slices and scales within them by
            `long_side`, ``"spacing"`` works at a resolution in millimetres, or ``"pad"``, ``"stretch"``; see
            `anatozoo.frames.stacks`.
        spacing_mm: (x, y, z) of the frame, for ``"spacing"``.
        long_side: pixels of the longer side of a slice, for ``"slices"``; the frame shows its middle.
        network: a row of the paper's table, see `anatozoo.methods.acnn.network.build_network`.
        widths: channels of each level; None takes the row's own.
        one_part: whether the organs hang together, as a heart's do: predictions then leave out what lies
            apart from the largest part of them all.
        shape_prior: autoencoder of label maps for the shape loss: checkpoint name, folder or ``.ckpt`` file;
            read when a fit begins.
        shape_weight: λ1, weight of the shape loss; 0 switches it off.
        shape_start: optimiser steps before the shape loss counts, for codes of predictions that are no hearts
            yet say little and hold the others up.
        ce_weight: weight of the cross-entropy, 1 in the paper.
        dice_weight: weight of a soft Dice loss, which the paper does not have.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        optimizer: ``"adam"`` (`weight_decay` is then λ2, L2 in the gradient) or ``"adamw"``.
        lr: learning rate.
        weight_decay: λ2.
        encoder_lr_scale: factor on the learning rate of the network's contracting part.
        schedule: ``"step"`` (×`lr_gamma` every `lr_step` epochs) or ``"cosine"`` (to 1 % at the fit's end).
        lr_step: epochs between steps.
        lr_gamma: factor of a step.
        warmup_steps: optimiser steps of linear warm-up under ``"cosine"``.

    Raises:
        ConfigError: settings that are not possible.
    """

    architecture = ("labels", "image_size", "fit", "spacing_mm", "long_side", "network", "widths")
    links = {  # noqa: RUF012 - typed in the base class
        "labels": "labels",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
        "long_side": "long_side",
    }

    def __init__(
        self,
        labels: list[str] = HEART,
        image_size: list[int] = [16, 128, 128],  # noqa: B006
        fit: StackFit = "slices",
        spacing_mm: list[float] | None = None,
        long_side: int = 208,
        network: Literal["fcn", "seg", "unet", "ae-seg", "ae-seg-m", "dynunet"] = "seg",
        widths: list[int] | None = None,
        one_part: bool = False,
        shape_prior: str | None = None,
        shape_weight: float = 0.0,
        shape_start: int = 0,
        ce_weight: float = 1.0,
        dice_weight: float = 0.0,
        init_weights: str | None = None,
        optimizer: Literal["adam", "adamw"] = "adam",
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        encoder_lr_scale: float = 1.0,
        schedule: Literal["step", "cosine"] = "cosine",
        lr_step: int = 1000,
        lr_gamma: float = 1.0,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the network."""
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
        if not 1 <= len(self.labels) <= 254 or len(self.shape) != 3:
            raise ConfigError(
                f"labels={h.labels} must be 1 to 254 names, image_size={h.image_size} [D, H, W]."
            )
        check_fit(h.fit, self.shape, h.spacing_mm, h.long_side)
        weights = (h.ce_weight, h.dice_weight, h.shape_weight, h.shape_start)
        if min(weights) < 0 or not h.ce_weight + h.dice_weight:
            raise ConfigError(
                f"ce_weight={h.ce_weight}, dice_weight={h.dice_weight}, shape_weight={h.shape_weight} and "
                f"shape_start={h.shape_start} must not be negative, and one of the first two above 0."
            )
        network = build_network(h.network, self.shape, len(self.labels) + 1, widths=h.widths)
        # DynUNet's instance normalisation would copy every map back.
        self.network = network if h.network == "dynunet" else channels_last(network)
        self.prior = PriorSlot()
        self.one_part = h.one_part

    def configure_metrics(self) -> None:
        """Dice over all labels and of each."""
        self.judge_by(["dice", *(f"dice/{name}" for name in self.labels)])

    def setup(self, stage: str) -> None:
        """Read the weights that a fit needs.

        Raises:
            ConfigError: the shape loss has no prior, or one of other labels or another frame.
        """
        h: Any = self.hparams
        if stage != "fit":
            return
        self.prior.fill(h.shape_prior, h.shape_weight, labels=self.labels, shape=self.shape, frame=dict(h))
        if h.init_weights and not self.trainer.ckpt_path:
            start_from(self, h.init_weights, "acnn")

    def use_shape_prior(self, model: ShapeModel) -> None:
        """Take a module that knows shapes for the shape loss; it is frozen and stays outside the state dict.

        Raises:
            ConfigError: it is for other labels or another frame.
        """
        h: Any = self.hparams
        self.prior.put(ShapePrior(model, h.shape_weight, labels=self.labels, shape=self.shape, frame=dict(h)))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + labels, D, H, W), background first, of images (B, 1, D, H, W) in [0, 1]."""
        return self.network(image)

    def losses(self, outputs: Tensor | Sequence[Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            outputs: logits (B, 1 + labels, D, H, W), or several of them of which the first are the final
                ones; each of the others counts half of the one before it. The shape loss sees the first.
            batch: ``labels`` (B, D, H, W).
        """
        h: Any = self.hparams
        levels = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        labels = batch["labels"].long()
        truth = one_hot(labels, len(self.labels) + 1)
        shares = torch.tensor([LATER_OUTPUTS**level for level in range(len(levels))])
        shares = (shares / shares.sum()).to(labels.device)
        terms = {}
        if h.ce_weight:
            values = torch.stack([F.cross_entropy(logits.float(), labels) for logits in levels])
            terms["cross_entropy"] = h.ce_weight * (shares * values).sum()
        if h.dice_weight:
            values = torch.stack([label_dice_loss(logits.float().softmax(1), truth) for logits in levels])
            terms["dice"] = h.dice_weight * (shares * values).sum()
        if h.shape_weight and self.global_step >= h.shape_start:
            terms["shape"] = self.prior(levels[0].float().softmax(1), truth)
        return terms

    def loss_terms(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the base class."""
        return self.losses(self.network.outputs(batch["image"]), batch)

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1 + labels, D, H, W) of the batch's ``image``."""
        return self.network(batch["image"])

    def measure(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Dice of each volume, within the frame; see the base class."""
        dice = dice_per_label(output.argmax(1), batch["labels"], len(self.labels) + 1)
        return torch.cat([dice.nanmean(1, keepdim=True), dice], 1)

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Label maps found beside the given ones, within the frame."""
        from anatozoo.tasks.cases import label_cases

        return label_cases(output.argmax(1), batch["labels"], self.labels, batch, image=batch["image"])

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with a step or cosine schedule."""
        return adam_with_schedule(self, self.network.contracting)
