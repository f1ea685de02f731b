"""ACNN-SR as a LightningModule: losses, optimisation, validation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.frames.frame import frame_shape
from anatozoo.methods.acnnsr.data import check_slices
from anatozoo.methods.acnnsr.network import build_network
from anatozoo.methods.acnntl.module import AcnnTLModule
from anatozoo.metrics.images import psnr, ssim
from anatozoo.nn.slices import interpolate_slices
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.objectives.image_prior import ImagePrior, load_image_model
from anatozoo.tasks.restore import SuperResolutionModule
from anatozoo.training.optim import adam_with_schedule
from anatozoo.training.weights import start_from

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case


class AcnnSRModule(SuperResolutionModule):
    """Makes fine slices from thick ones by a network whose shapes a learned prior constrains.

    Oktay et al., IEEE TMI 2018: smooth L1 distance of the fine volumes, λ1 times the squared distance of the
    codes that the predictor of a T-L network sees on both, and λ2 / 2 times the squared weights. With
    ``shape_weight=0`` this is the same network without the prior.

    Args:
        image_size: [D, H, W] of the fine volumes in training; D is a multiple of `factor`. A prediction is of
            any size.
        spacing_mm: (x, y, z) of the fine volumes.
        factor: fine slices for each thick one.
        network: ``"subpixel"`` or, as in the paper, ``"transposed"``; see `anatozoo.methods.acnnsr.network`.
        width: channels; None takes the network's own.
        depth: residual blocks; None takes the network's own.
        shape_prior: T-L network for the shape loss: checkpoint name, folder or ``.ckpt`` file of a fit of
            ``acnntl``; read when a fit begins.
        shape_weight: λ1, weight of the shape loss; 0 switches it off.
        beta: difference of intensities, in units of their range, from which on the smooth L1 loss is linear;
            below it is quadratic. 1 in the paper.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        optimizer: ``"adam"`` (`weight_decay` is then λ2, L2 in the gradient) or ``"adamw"``.
        lr: learning rate.
        weight_decay: λ2.
        encoder_lr_scale: factor on the learning rate of the layers at the coarse resolution.
        schedule: ``"step"`` (×`lr_gamma` every `lr_step` epochs) or ``"cosine"`` (to 1 % at the fit's end).
        lr_step: epochs between steps.
        lr_gamma: factor of a step.
        warmup_steps: optimiser steps of linear warm-up under ``"cosine"``.

    Raises:
        ConfigError: settings that are not possible.
    """

    architecture = ("image_size", "spacing_mm", "factor", "network", "width", "depth")
    links = {  # noqa: RUF012 - typed in the base class
        "image_size": "image_size",
        "spacing_mm": "spacing_mm",
        "factor": "factor",
    }

    def __init__(
        self,
        image_size: list[int] = [40, 56, 32],  # noqa: B006
        spacing_mm: list[float] = [1.0, 1.0, 1.0],  # noqa: B006
        factor: int = 4,
        network: Literal["subpixel", "transposed"] = "subpixel",
        width: int | None = None,
        depth: int | None = None,
        shape_prior: str | None = None,
        shape_weight: float = 0.0,
        beta: float = 0.1,
        init_weights: str | None = None,
        optimizer: Literal["adam", "adamw"] = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
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
        self.shape, self.factor = frame_shape(h.image_size), h.factor
        check_slices(self.shape, h.spacing_mm, h.factor)
        if h.shape_weight < 0 or h.beta <= 0:
            raise ConfigError(f"shape_weight={h.shape_weight} must not be negative, beta={h.beta} above 0.")
        self.network = channels_last(build_network(h.network, h.factor, width=h.width, depth=h.depth))
        # In a list, for it is a tool of training and no part of the state dict.
        self._prior: list[ImagePrior] = []

    def configure_metrics(self) -> None:
        """PSNR and SSIM, and the gain of both over linear interpolation."""
        self.judge_by(["psnr", "ssim", "psnr_gain", "ssim_gain"])

    def setup(self, stage: str) -> None:
        """Read the weights that a fit needs.

        Raises:
            ConfigError: the shape loss has no T-L network, or one that sees another part of the body.
            WeightsError: the starting weights are of another architecture.
        """
        h: Any = self.hparams
        if stage != "fit":
            return
        if h.shape_weight and not self._prior:
            if not h.shape_prior:
                raise ConfigError(
                    f"shape_weight={h.shape_weight} needs shape_prior, a T-L network: a checkpoint name, a "
                    "folder or the .ckpt file of a fit of acnntl/hippocampus.yaml; for a fit without it set "
                    "shape_weight to 0."
                )
            self.use_shape_prior(load_image_model(h.shape_prior))
        if h.init_weights and not self.trainer.ckpt_path:
            start_from(self, h.init_weights, "acnnsr")

    def use_shape_prior(self, model: AcnnTLModule) -> None:
        """Take a T-L network for the shape loss; it is frozen and stays outside the state dict.

        Raises:
            ConfigError: it sees another part of the body.
        """
        h: Any = self.hparams
        frame = {"fit": "spacing", "spacing_mm": h.spacing_mm}
        self._prior = [ImagePrior(model, h.shape_weight, shape=self.shape, frame=frame)]

    def losses(self, fine: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            fine: (B, 1, D, H, W).
            batch: ``target`` of the same shape, and ``inside`` (B, D, H, W) bool; what is not inside does not
                count.
        """
        h: Any = self.hparams
        inside = batch["inside"][:, None]
        fine, target = fine.float() * inside, batch["target"].float() * inside
        difference = F.smooth_l1_loss(fine, target, beta=h.beta, reduction="sum")
        terms = {"intensity": difference / inside.sum()}
        if h.shape_weight:
            if not self._prior:
                raise ConfigError("the shape term has no T-L network; give one by use_shape_prior().")
            self._prior = [self._prior[0].to(fine.device)]
            terms["shape"] = self._prior[0](fine, target)
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; logs every term of the loss."""
        return self.total(self.losses(self.network(batch["image"]), batch), len(batch["image"]))

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Fine volumes (B, 1, D, H, W) of the batch's thick slices ``image``."""
        return self.network(batch["image"])

    def measure(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """PSNR, SSIM and their gains for each volume; see the base class."""
        inside, target = batch["inside"], batch["target"].float()
        linear = interpolate_slices(batch["image"].float(), self.factor)
        found, plain = (
            torch.stack([psnr(volume, target, inside), ssim(volume, target, inside)], 1)
            for volume in (output.float(), linear)
        )
        return torch.cat([found, found - plain], 1)

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Volumes in which no organ is known, with their PSNR and SSIM as numbers."""
        from dataclasses import replace

        from anatozoo.tasks.cases import bare_cases

        values = self.measure(output, batch).tolist()
        return [
            replace(case, numbers=dict(zip(self.columns, row, strict=True)))
            for case, row in zip(bare_cases(output), values, strict=True)
        ]

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with a step or cosine schedule."""
        return adam_with_schedule(self, self.network.coarse)
