"""The T-L network as a LightningModule: losses, optimisation, validation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.data.stacks import HEART
from anatozoo.errors import ConfigError
from anatozoo.frames.frame import frame_shape
from anatozoo.frames.stacks import StackFit, check_fit
from anatozoo.methods.acnntl.network import Shapes, TLNetwork
from anatozoo.nn.labels import check_labels, dice_per_label, one_hot
from anatozoo.nn.registration_losses import code_distance
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.objectives.shape_prior import field_of_view
from anatozoo.tasks.volumes import StackModule
from anatozoo.training.optim import adam_with_schedule
from anatozoo.training.weights import fill_in, read_weights, start_from

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case

_ENCODER = "network."
"""Where an autoencoder's tensors are in its own checkpoint."""


class AcnnTLModule(StackModule):
    """Learns to see on an image the code of the shape in it, and so regularises networks that give images.

    Oktay et al., IEEE TMI 2018: cross-entropy of the autoencoder's reconstruction g(f(y)) against the label
    map y, λ1 times the squared distance of p(x), seen on the image x, from the code f(y), and λ2 / 2 times
    the squared weights, all minimised together. With `autoencoder`, f and g are taken from a fit and frozen,
    and the predictor learns alone.

    A prediction is g(p(x)): the shape that the code stands for, which has no details but is one that the
    network knows.

    Args:
        labels: names of the foreground classes, in the order of their values 1, 2, ...
        image_size: [D, H, W] of the frame.
        fit: how images get into the frame; see `anatozoo.methods.acnn.AcnnModule`.
        spacing_mm: the same.
        long_side: the same.
        code: length of the code, 64 in the paper.
        widths: channels of encoder and predictor at strides 2, 4, ...
        autoencoder: checkpoint name, folder or ``.ckpt`` file of a fit of ``acnnprior`` with the same labels,
            frame, code and widths, to be frozen; read when a fit begins. None trains one along with the
            predictor.
        code_weight: λ1, weight of the distance of the codes.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        optimizer: ``"adam"`` (`weight_decay` is then λ2, L2 in the gradient) or ``"adamw"``.
        lr: learning rate.
        weight_decay: λ2.
        encoder_lr_scale: factor on the learning rate of the predictor.
        schedule: ``"step"`` (×`lr_gamma` every `lr_step` epochs) or ``"cosine"`` (to 1 % at the fit's end).
        lr_step: epochs between steps.
        lr_gamma: factor of a step.
        warmup_steps: optimiser steps of linear warm-up under ``"cosine"``.

    Raises:
        ConfigError: settings that are not possible.
    """

    architecture = ("labels", "image_size", "fit", "spacing_mm", "long_side", "code", "widths")
    links = {  # noqa: RUF012 - typed in the base class
        "labels": "labels",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
        "long_side": "long_side",
    }
    sees_parts: ClassVar[bool] = False

    def __init__(
        self,
        labels: list[str] = HEART,
        image_size: list[int] = [16, 128, 128],  # noqa: B006
        fit: StackFit = "slices",
        spacing_mm: list[float] | None = None,
        long_side: int = 208,
        code: int = 64,
        widths: list[int] = [16, 32, 48, 64],  # noqa: B006
        autoencoder: str | None = None,
        code_weight: float = 0.01,
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
        if not 1 <= len(self.labels) <= 254 or len(self.shape) != 3 or h.code_weight <= 0:
            raise ConfigError(
                f"labels={h.labels} must be 1 to 254 names, image_size={h.image_size} [D, H, W], "
                f"code_weight={h.code_weight} above 0."
            )
        check_fit(h.fit, self.shape, h.spacing_mm, h.long_side)
        self.network = channels_last(TLNetwork(self.shape, len(self.labels) + 1, h.code, h.widths))
        if self.is_frozen:
            self.network.autoencoder.requires_grad_(False)

    def configure_metrics(self) -> None:
        """Dice over all labels and of each, that of the autoencoder, and the distance of the codes."""
        self.judge_by(
            ["dice", *(f"dice/{name}" for name in self.labels), "dice_autoencoder", "code_distance"]
        )

    @property
    def is_frozen(self) -> bool:
        """Whether the autoencoder is not trained."""
        return bool(self.hparams["autoencoder"])

    def train(self, mode: bool = True) -> "AcnnTLModule":
        """Switch to training; a frozen autoencoder keeps the statistics that it has."""
        super().train(mode)
        if self.is_frozen:
            self.network.autoencoder.train(False)
        return self

    def on_train_start(self) -> None:
        """Fix the statistics of a frozen autoencoder: a trainer goes by the modes that it finds."""
        self.train(True)

    def setup(self, stage: str) -> None:
        """Read the weights that a fit needs.

        Raises:
            ConfigError: the autoencoder is for other labels or another frame.
            WeightsError: weights are of another architecture.
        """
        h: Any = self.hparams
        if stage != "fit" or self.trainer.ckpt_path:
            return
        if h.init_weights:
            start_from(self, h.init_weights, "acnntl")
        if h.autoencoder:
            state, theirs = read_weights(h.autoencoder, "acnnprior")
            self._check_autoencoder(theirs)
            fill_in(self.network.autoencoder, {k.removeprefix(_ENCODER): v for k, v in state.items()})

    def _check_autoencoder(self, theirs: Mapping[str, Any]) -> None:
        views = [field_of_view(frame_shape(h["image_size"]), h) for h in (self.hparams, theirs)]
        if self.labels != list(theirs["labels"]) or views[0] != views[1]:
            raise ConfigError(
                f"the autoencoder knows {', '.join(theirs['labels'])} and sees {views[1]}; the predictor "
                f"{', '.join(self.labels)} and {views[0]}. Both must be the same."
            )

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + labels, D, H, W), background first, of images (B, 1, D, H, W) in [0, 1]."""
        return self.network(image)

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, 1 + labels, D, H, W)."""
        return self.network.autoencoder.encode(labels)

    def encode_image(self, image: Tensor) -> Tensor:
        """Codes (B, K) that the predictor sees on images (B, 1, D, H, W) in [0, 1]."""
        return self.network.predictor(image)

    def losses(self, code: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            code: (B, K) as seen on the images.
            batch: ``labels`` (B, D, H, W).
        """
        h: Any = self.hparams
        labels = batch["labels"].long()
        maps = one_hot(labels, len(self.labels) + 1)
        if self.is_frozen:
            with torch.no_grad():
                truth = self.encode(maps)
            return {"code": h.code_weight * code_distance(code, truth)}
        truth, logits = self.network.autoencoder(maps)
        return {
            "reconstruction": F.cross_entropy(logits.float(), labels),
            "code": h.code_weight * code_distance(code, truth),
        }

    def loss_terms(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the base class."""
        return self.losses(self.encode_image(batch["image"]), batch)

    def infer(self, batch: Mapping[str, Tensor]) -> Shapes:
        """Codes and logits of the batch's ``image``."""
        return self.network.predict(batch["image"])

    def measure(self, output: Shapes, batch: Mapping[str, Tensor]) -> Tensor:
        """Dice of the shape of each code, that of the reconstruction, squared distance of the codes."""
        classes = len(self.labels) + 1
        dice = dice_per_label(output.logits.argmax(1), batch["labels"], classes)
        code, logits = self.network.autoencoder(one_hot(batch["labels"], classes))
        best = dice_per_label(logits.argmax(1), batch["labels"], classes).nanmean(1, keepdim=True)
        distance = (output.code.float() - code.float()).square().sum(1, keepdim=True)
        return torch.cat([dice.nanmean(1, keepdim=True), dice, best, distance], 1)

    def cases(self, output: Shapes, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Shapes of the codes beside the given label maps, within the frame."""
        from anatozoo.tasks.cases import label_cases

        return label_cases(output.logits.argmax(1), batch["labels"], self.labels, batch, image=batch["image"])

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with a step or cosine schedule."""
        return adam_with_schedule(self, self.network.predictor)
