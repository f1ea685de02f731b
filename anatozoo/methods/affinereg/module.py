"""Siamese affine registration as a LightningModule: losses, optimisation, latents of images."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.frame import Frame, frame_shape
from anatozoo.methods.affinereg.network import AffineNet, AffineRegistration, Transform
from anatozoo.nn import registration_losses as losses
from anatozoo.nn.blocks import PAPER_WIDTHS
from anatozoo.nn.labels import check_labels, one_hot
from anatozoo.nn.losses import kl_divergence
from anatozoo.nn.warp import warp
from anatozoo.tasks.field import PairModule, Spacing
from anatozoo.training.optim import adam_with_schedule


class AffineRegModule(PairModule):
    """Registers a moving image to a fixed one by an affine map, and gives each image a latent.

    The affine network of CheXmask's quality estimation (Gaggion et al., Scientific Data 2024), which also
    chooses atlas images there: those whose latents have the largest products with the image's own. The
    authors train it on landmarks of both images; here images and label maps are compared after warping, so
    that any data with label maps will do, or none.

    Args:
        labels: names of the foreground classes, in the order of their values 1, 2, ...; may be empty where
            `label_weight` is 0.
        image_size: side S of a square frame, or [H, W], in pixels.
        fit: how images of other sizes get into the frame: ``"pad"``, ``"stretch"`` or ``"spacing"``.
        spacing_mm: (x, y) of the frame, for ``"spacing"``.
        transform: ``"affine"``, or ``"rigid"`` for the authors' variant with an angle, two scales and two
            shifts.
        widths: channels of each level of the encoder; each but the first halves the map.
        latent: length of the latent.
        hidden: width of the layer between the latents and the map.
        cells: parts of the encoder's last map along each axis.
        similarity: ``"ncc"``, ``"lncc"`` (in windows), ``"mse"``, or ``"mi"`` for two modalities.
        window: side of the windows of ``"lncc"``.
        label_loss: ``"dice"`` or ``"cross_entropy"``.
        label_weight: weight of the agreement of labels.
        kl_weight: weight of the divergence of each image's latent from a normal distribution, from which
            latents are drawn in training; 5e-6 as published. 0 makes latents plain numbers.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        optimizer: ``"adam"`` (as published, with `weight_decay` as L2 in the gradient) or ``"adamw"``.
        lr: learning rate; 1e-4 as published.
        weight_decay: its weight; 1e-5 as published.
        encoder_lr_scale: factor on the learning rate of the encoder.
        schedule: ``"step"`` (×`lr_gamma` every `lr_step` epochs) or ``"cosine"`` (to 1 % at the fit's end).
        lr_step: epochs between steps.
        lr_gamma: factor of a step.
        warmup_steps: optimiser steps of linear warm-up under ``"cosine"``.

    Raises:
        ConfigError: settings that contradict one another.
    """

    architecture = (
        "labels",
        "image_size",
        "fit",
        "spacing_mm",
        "transform",
        "widths",
        "latent",
        "hidden",
        "cells",
        "kl_weight",
    )
    links = {  # noqa: RUF012 - typed in the base class
        "labels": "labels",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
    }

    def __init__(
        self,
        labels: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        image_size: int | list[int] = 256,
        fit: Literal["pad", "stretch", "spacing"] = "pad",
        spacing_mm: list[float] | None = None,
        transform: Transform = "affine",
        widths: list[int] = list(PAPER_WIDTHS),  # noqa: B006
        latent: int = 64,
        hidden: int = 128,
        cells: int = 4,
        similarity: Literal["ncc", "lncc", "mse", "mi"] = "ncc",
        window: int = 9,
        label_loss: Literal["dice", "cross_entropy"] = "dice",
        label_weight: float = 1.0,
        kl_weight: float = 5e-6,
        init_weights: str | None = None,
        optimizer: Literal["adam", "adamw"] = "adam",
        lr: float = 1e-4,
        weight_decay: float = 1e-5,
        encoder_lr_scale: float = 1.0,
        schedule: Literal["step", "cosine"] = "step",
        lr_step: int = 50,
        lr_gamma: float = 0.9,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the network."""
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
        if len(self.shape) != 2:
            raise ConfigError(f"image_size={h.image_size} must be a side or [H, W]; volumes are not for it.")
        if min(h.label_weight, h.kl_weight) < 0:
            raise ConfigError("weights of losses must not be negative.")
        if h.label_weight and not self.labels:
            raise ConfigError("label_weight needs labels; set it to 0 to compare images alone.")
        if h.fit == "spacing" and len(h.spacing_mm or ()) != 2:
            raise ConfigError("fit='spacing' needs spacing_mm with 2 numbers.")
        if h.window < 1 or h.window % 2 == 0:
            raise ConfigError(f"window={h.window} must be odd and positive.")
        self.network = AffineNet(
            transform=h.transform,
            widths=h.widths,
            latent=h.latent,
            hidden=h.hidden,
            cells=h.cells,
            variational=h.kl_weight > 0,
        )

    def setup(self, stage: str) -> None:
        """Read the weights that a fresh fit starts from."""
        h: Any = self.hparams
        if stage == "fit" and h.init_weights and not self.trainer.ckpt_path:
            self.start_from(h.init_weights)

    def forward(self, moving: Tensor, fixed: Tensor) -> AffineRegistration:
        """Register images (B, 1, H, W) in [0, 1]."""
        found: AffineRegistration = self.network(moving, fixed)
        return found

    def embed(
        self,
        image: Any,
        *,
        spacing_mm: Spacing = None,
        invert: bool | None = None,
        allow_any_modality: bool = False,
    ) -> npt.NDArray[np.float32]:
        """The latent of one image, (K,) float32; images that the network has to treat alike have like ones.

        Args:
            image: path, array, tensor, PIL or SimpleITK image, (H, W) of any size.
            spacing_mm: one number or (x, y), where the source has none.
            invert: whether to flip the polarity of a radiograph; None follows the file.
            allow_any_modality: accept DICOM files that say they are no chest radiograph.

        Raises:
            ImageError: the image cannot be read.
            GeometryError: the frame is in millimetres and the image's spacing is unknown.
        """
        from anatozoo.io.read import read_grid_image

        h: Any = self.hparams
        read = read_grid_image(
            image, 2, spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality
        )
        seen = Frame.fit(read.grid, self.shape, h.fit, h.spacing_mm).image(read.pixels)
        kind = next(self.parameters()).dtype
        with torch.inference_mode():
            latent = self.network.embed(torch.from_numpy(seen)[None, None].to(self.device, kind))
        found: npt.NDArray[np.float32] = latent[0].float().cpu().numpy()
        return found

    def losses(self, output: AffineRegistration, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            output: the network's answer.
            batch: ``moving`` and ``fixed`` (B, 1, H, W) in [0, 1]; for the term of labels ``moving_labels``
                and ``fixed_labels`` (B, H, W).
        """
        h: Any = self.hparams
        terms = {"similarity": self.similarity(output.warped, batch["fixed"])}
        if h.label_weight:
            moving, fixed = (one_hot(batch[f"{k}_labels"], len(self.labels) + 1) for k in ("moving", "fixed"))
            warped = warp(moving, output.field, padding="border")
            agreement = losses.label_dice_loss if h.label_loss == "dice" else losses.label_cross_entropy
            terms["label"] = h.label_weight * agreement(warped, fixed)
        if output.log_variances is not None:
            # Of both images, so twice the mean over all of them.
            divergence = kl_divergence(output.means.float(), output.log_variances.float())
            terms["divergence"] = 2 * h.kl_weight * divergence
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; logs every term of the loss."""
        return self.total(self.losses(self(batch["moving"], batch["fixed"]), batch), len(batch["fixed"]))

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with the schedule; see `anatozoo.training.optim`."""
        return adam_with_schedule(self, self.network.encoder)
