"""AC-RegNet as a LightningModule: losses, optimisation, validation."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.frame import frame_shape
from anatozoo.methods.acregnet.network import Registration, RegNet
from anatozoo.methods.aenet.module import AeNetModule, load_shape_model
from anatozoo.nn import registration_losses as losses
from anatozoo.nn.labels import check_labels, one_hot
from anatozoo.nn.warp import warp
from anatozoo.tasks.field import PairModule


class AcRegNetModule(PairModule):
    """Registers a moving image to a fixed one by a deformation that keeps anatomy plausible.

    Mansilla et al., Neural Networks 2020; the defaults are the paper's AC-RegNet. The other variants have
    other weights: RegNet has ``label_weight=0`` and ``shape_weight=0``, CE-RegNet ``shape_weight=0``,
    AE-RegNet ``label_weight=0``.

    The shape autoencoder is a tool of training, like the images: it stays outside the state dict. A
    prediction needs none of it, a checkpoint would be larger by another method's weights, and which ones they
    were is in the hyper-parameters.

    Args:
        labels: names of the foreground classes, in the order of their values 1, 2, ...; may be empty where
            both weights of labels are 0.
        image_size: side S of a square frame, [H, W] or [D, H, W] in pixels.
        fit: how images of other sizes get into the frame: ``"pad"``, ``"stretch"`` or ``"spacing"``.
        spacing_mm: (x, y[, z]) of the frame, for ``"spacing"``.
        intensity: how grey values become [0, 1]: ``"percentiles"`` stretches 0.5 to 99.5 % of each image,
            ``"bits"`` divides by the format's largest value, as the authors do; see `anatozoo.io.intensity`.
        normalization: batch normalisation behind ``"all"`` convolutions (the paper), the ``"output"`` alone
            (the authors' port), or ``"none"``.
        double_elu: the port applies each decoder level's activation twice.
        dropout: in the decoder, in training.
        velocity: predict a stationary velocity field, which gives an invertible deformation.
        velocity_steps: doublings of its integration.
        levels: resolutions, coarse to fine; 1 in the paper.
        similarity: ``"ncc"``, ``"lncc"`` (in windows), ``"mse"``, or ``"mi"`` for two modalities.
        window: side of the windows of ``"lncc"``.
        smoothness: ``"tv_sum"`` (the paper), ``"tv_mean"`` (the port), ``"diffusion"`` or ``"bending"``.
        smoothness_weight: its weight; 5e-5 in the paper for ``"tv_sum"``.
        label_loss: ``"cross_entropy"`` (the paper) or ``"dice"``.
        label_weight: weight of the agreement of labels, 1 in the paper.
        shape_weight: weight of the distance of shape codes, 0.1 in the paper.
        shape_weights: the shape autoencoder: checkpoint name, folder or ``.ckpt`` file; read when a fit
            begins.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        instance_steps: steps by which `predict` refines the field for each pair.
        instance_lr: pixels by which such a step may change it, about.
        lr: learning rate of Adam.
        schedule: ``"constant"`` (the paper) or ``"cosine"`` (to 1 % at the fit's end).

    Raises:
        ConfigError: settings that contradict one another.
    """

    architecture = (
        "labels",
        "image_size",
        "fit",
        "spacing_mm",
        "intensity",
        "normalization",
        "double_elu",
        "velocity",
        "velocity_steps",
        "levels",
    )
    links = {  # noqa: RUF012 - typed in the base class
        "labels": "labels",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
        "intensity": "intensity",
    }

    def __init__(
        self,
        labels: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        image_size: int | list[int] = 64,
        fit: Literal["pad", "stretch", "spacing"] = "pad",
        spacing_mm: list[float] | None = None,
        intensity: Literal["percentiles", "bits"] = "percentiles",
        normalization: Literal["output", "all", "none"] = "all",
        double_elu: bool = False,
        dropout: float = 0.5,
        velocity: bool = False,
        velocity_steps: int = 7,
        levels: int = 1,
        similarity: Literal["ncc", "lncc", "mse", "mi"] = "ncc",
        window: int = 9,
        smoothness: Literal["tv_sum", "tv_mean", "diffusion", "bending"] = "tv_sum",
        smoothness_weight: float = 5e-5,
        label_loss: Literal["cross_entropy", "dice"] = "cross_entropy",
        label_weight: float = 1.0,
        shape_weight: float = 0.1,
        shape_weights: str | None = None,
        init_weights: str | None = None,
        instance_steps: int = 0,
        instance_lr: float = 0.1,
        lr: float = 1e-3,
        schedule: Literal["constant", "cosine"] = "constant",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the network."""
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
        if min(h.label_weight, h.shape_weight, h.smoothness_weight, h.instance_steps) < 0:
            raise ConfigError("weights of losses and instance_steps must not be negative.")
        if (h.label_weight or h.shape_weight) and not self.labels:
            raise ConfigError("label_weight and shape_weight need labels; set both to 0 for RegNet.")
        if h.fit == "spacing" and len(h.spacing_mm or ()) != len(self.shape):
            raise ConfigError(f"fit='spacing' needs spacing_mm with {len(self.shape)} numbers.")
        if h.window < 1 or h.window % 2 == 0:
            raise ConfigError(f"window={h.window} must be odd and positive.")
        self.network = RegNet(
            len(self.shape),
            normalization=h.normalization,
            double_elu=h.double_elu,
            dropout=h.dropout,
            velocity=h.velocity,
            velocity_steps=h.velocity_steps,
            levels=h.levels,
        )
        # In a list, where torch does not look for modules.
        self._shape_model: list[AeNetModule] = []

    def setup(self, stage: str) -> None:
        """Read the weights that a fit needs.

        Raises:
            ConfigError: the shape term has no autoencoder, or one for other labels or another frame.
        """
        h: Any = self.hparams
        if stage != "fit":
            return
        if h.init_weights and not self.trainer.ckpt_path:
            self.start_from(h.init_weights)
        if h.shape_weight and not self._shape_model:
            if not h.shape_weights:
                raise ConfigError(
                    f"shape_weight={h.shape_weight} needs shape_weights, the autoencoder of the first stage "
                    "(a checkpoint name, a folder or the .ckpt file of `anatozoo fit --config "
                    "aenet/jsrt.yaml`); for a fit without it set shape_weight to 0."
                )
            self.use_shape_model(load_shape_model(h.shape_weights))

    def use_shape_model(self, model: AeNetModule) -> None:
        """Take an autoencoder for the shape term; it is frozen and stays outside the state dict.

        Raises:
            ConfigError: it is for other labels or another frame.
        """
        theirs, ours = _frame_in_words(model), _frame_in_words(self)
        if theirs != ours:
            raise ConfigError(
                f"the autoencoder takes {theirs}, the registration {ours}; both must be the same."
            )
        self._shape_model = [model.eval().requires_grad_(False)]

    def forward(self, moving: Tensor, fixed: Tensor) -> Registration:
        """Register images (B, 1, ...) in [0, 1]."""
        return self.network(moving, fixed)

    def losses(self, output: Registration, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Labels are warped linearly, one channel each, so that their gradient reaches the network.

        Args:
            output: the network's answer.
            batch: ``moving`` and ``fixed`` (B, 1, ...) in [0, 1]; for the terms of labels ``moving_labels``
                and ``fixed_labels`` (B, ...).
        """
        h: Any = self.hparams
        terms = {
            "similarity": self.similarity(output.warped, batch["fixed"]),
            "smoothness": h.smoothness_weight * losses.smoothness_loss(h.smoothness, output.field),
        }
        if not (h.label_weight or h.shape_weight):
            return terms
        moving, fixed = (one_hot(batch[f"{k}_labels"], len(self.labels) + 1) for k in ("moving", "fixed"))
        # What comes in from beyond the border is what is there, not a pixel of no class at all.
        warped = warp(moving, output.field, padding="border")
        if h.label_weight:
            agreement = (
                losses.label_cross_entropy if h.label_loss == "cross_entropy" else losses.label_dice_loss
            )
            terms["label"] = h.label_weight * agreement(warped, fixed)
        if h.shape_weight:
            if not self._shape_model:
                raise ConfigError("the shape term has no autoencoder; give one by use_shape_model().")
            shape_model = self._shape_model[0].to(warped.device)
            terms["shape"] = h.shape_weight * losses.code_distance(
                shape_model.encode(warped), shape_model.encode(fixed)
            )
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; logs every term of the loss."""
        terms = self.losses(self.network(batch["moving"], batch["fixed"], invert=False), batch)
        return self.total(terms, len(batch["fixed"]))

    def configure_optimizers(self) -> Any:
        """Adam, at a constant rate or with a cosine schedule."""
        h: Any = self.hparams
        optimizer = torch.optim.Adam(self.parameters(), lr=h.lr)
        if h.schedule == "constant":
            return optimizer
        total = max(int(self.trainer.estimated_stepping_batches), 1)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total, eta_min=h.lr * 0.01)
        return [optimizer], [{"scheduler": decay, "interval": "step"}]


def _frame_in_words(module: "AcRegNetModule | AeNetModule") -> str:
    h: Any = module.hparams
    how = h.fit if h.spacing_mm is None or h.fit != "spacing" else f"{h.fit} {list(h.spacing_mm)} mm"
    size = " x ".join(map(str, module.shape))
    return f"{', '.join(module.labels) or 'no labels'} in {size} pixels ({how})"
