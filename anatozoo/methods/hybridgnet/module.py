"""HybridGNet as a LightningModule: losses, optimisation, validation, prediction."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.methods.hybridgnet.network import HybridGNet, HybridGNetOutput
from anatozoo.methods.hybridgnet.transfer import ARCHITECTURE, adapt_state, read_weights
from anatozoo.nn import graphs, losses
from anatozoo.nn.blocks import load_imagenet_weights
from anatozoo.nn.raster import polygon_inside, soft_polygon
from anatozoo.tasks.segmentation import LandmarkModule
from anatozoo.training.optim import adam_with_schedule

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case

REPORT_FRAME = 1024
"""Errors are logged in pixels of this frame, the one in which HybridGNet's numbers are published."""


class HybridGNetModule(LandmarkModule):
    """Segments chest radiographs by organ contours on a graph.

    Gaggion et al., IEEE TMI 2022. With ``loss="paper"``, ``encoder="residual"`` and no ``refine`` this is
    the published method; the other settings are anatozoo's.

    Args:
        organs: a name (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``) or landmarks per organ.
        image_size: side S of the square input in pixels.
        intensity: how grey values become [0, 1]: ``"percentiles"`` stretches 0.5 to 99.5 % of each image,
            ``"bits"`` divides by the format's largest value, as the authors do; see `anatozoo.io.intensity`.
        encoder: ``"residual"`` or any timm feature extractor.
        encoder_weights: ImageNet weights for a fresh fit: ``"timm"``, ``"package"`` or a file.
        freeze: prefixes of encoder parameters that stay as they are, such as ``body.conv_stem``.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        latents: length of the latent code.
        features: width of the graph layers.
        order: Chebyshev terms K.
        skips: levels of the image-to-graph skips, coarse first; empty for none.
        window: side of the look-up window.
        lookup: ``"average"``, or ``"roi_align"`` for the authors' outputs to float precision.
        upsampling: ``"wrap"`` (CheXmask) or ``"copy"`` (TMI 2022).
        graph_conv: ``"static"`` or ``"pyg"``.
        template: positions are corrections of the training data's mean shape.
        refine: reaches of the contour refinement steps; empty for the published network.
        refine_features: width of the refiner.
        anchors: organ -> landmarks between which the others are spaced; empty for the published network.
        dense_organs: organs of the refiner's auxiliary masks; None takes `organs`.
        loss: ``"paper"`` (MSE and deep supervision) or ``"contour"`` (also weighs leaving the contour).
        kl_weight: weight of the KL divergence.
        dense_weight: weight of the auxiliary masks' loss.
        region_weight: weight of the soft Dice between predicted polygons and masks without landmarks.
        uncrossing_weight: weight of the loss on loops of contours that cross themselves.
        huber_delta: landmark error, in units of 1 % of the frame, up to which ``"contour"`` is quadratic.
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

    architecture = ARCHITECTURE
    links = {  # noqa: RUF012 - declared in the base class
        "organs": "organs",
        "image_size": "image_size",
        "intensity": "intensity",
        "dense_organs": "mask_organs",
    }

    previous: Tensor
    following: Tensor
    down: Tensor

    def __init__(
        self,
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        image_size: int = 1024,
        intensity: Literal["percentiles", "bits"] = "percentiles",
        encoder: str = "residual",
        encoder_weights: str | None = None,
        freeze: list[str] = [],  # noqa: B006
        init_weights: str | None = None,
        latents: int = 64,
        features: int = 32,
        order: int = 6,
        skips: list[int] = [6, 5],  # noqa: B006 - jsonargparse shows it, nothing changes it
        window: int = 3,
        lookup: Literal["average", "roi_align"] = "average",
        upsampling: Literal["wrap", "copy"] = "wrap",
        graph_conv: Literal["static", "pyg"] = "static",
        template: bool = False,
        refine: list[float] = [],  # noqa: B006
        refine_features: int = 64,
        anchors: dict[str, list[int]] = {},  # noqa: B006
        dense_organs: list[str] | None = None,
        loss: Literal["paper", "contour"] = "paper",
        kl_weight: float = 1e-5,
        dense_weight: float = 0.1,
        region_weight: float = 0.1,
        uncrossing_weight: float = 0.0,
        huber_delta: float = 1.0,
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
        """Build the network and the organ tables."""
        h: Any = self.hparams
        self.organs = graphs.organ_counts(h.organs)
        self.dense_organs = list(h.dense_organs or self.organs)
        missing = set(self.organs) - set(self.dense_organs)
        if missing:
            raise ConfigError(f"dense_organs lacks {', '.join(sorted(missing))}; it must hold every organ.")
        self.image_size = h.image_size
        self.network = HybridGNet(
            self.organs,
            h.image_size,
            encoder=h.encoder,
            latents=h.latents,
            features=h.features,
            order=h.order,
            skips=h.skips,
            window=h.window,
            lookup=h.lookup,
            upsampling=h.upsampling,
            graph_conv=h.graph_conv,
            template=h.template,
            refine=h.refine,
            refine_features=h.refine_features,
            anchors=h.anchors,
            dense_organs=len(self.dense_organs),
        )
        for name, parameter in self.network.encoder.named_parameters():
            if any(name.startswith(prefix) for prefix in h.freeze):
                parameter.requires_grad_(False)

    def configure_losses(self) -> None:
        """Index tables of the contours."""
        previous, following = graphs.neighbours(self.organs)
        self.register_buffer("previous", previous, persistent=False)
        self.register_buffer("following", following, persistent=False)
        self.register_buffer("down", graphs.downsampling(self.organs), persistent=False)
        self.parts = graphs.organ_slices(self.organs)

    def configure_metrics(self) -> None:
        """One value per image and column, whatever the number of processes."""
        self.judge_by(["mse_px2", *(f"dice/{organ}" for organ in self.organs)])

    def setup(self, stage: str) -> None:
        """Fill in the starting weights of a fresh fit; a resumed one takes its own."""
        if not self.begins_afresh(stage):
            return
        h: Any = self.hparams
        if h.encoder_weights:
            load_imagenet_weights(self.network.encoder, h.encoder_weights)
        if h.init_weights:
            state, organs, dense = read_weights(h.init_weights)
            own = self.state_dict()
            self.load_state_dict(adapt_state(state, organs, dense, own, self.organs, self.dense_organs))

    def on_fit_start(self) -> None:
        """Take template and spacing from the mean shape of the training data."""
        template, spacing = self.network.template, self.network.spacing
        fresh = template is not None and bool((template == 0.5).all())
        if self.trainer.ckpt_path or not (fresh or spacing is not None):
            return
        mean = self.trainer.datamodule.mean_landmarks().to(self.device)  # type: ignore[attr-defined]
        with torch.no_grad():
            if spacing is not None:
                spacing.take_from(mean)
            if template is not None and fresh:
                template.copy_(mean)

    def forward(self, image: Tensor) -> HybridGNetOutput:
        """All outputs for images (B, 1, S, S) in [0, 1]."""
        return self.network(image)

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Final landmarks (B, N, 2) in [0, 1]."""
        return self.network(image).landmarks

    def _landmark_loss(self, prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        h: Any = self.hparams
        coarse = prediction.shape[1] != truth.shape[1]
        if coarse:
            weight = ((self.down @ weight[..., None])[..., 0] > 0.99).to(truth.dtype)
            truth = self.down @ truth
        if h.loss == "paper":
            return losses.landmark_mse(prediction, truth, weight)
        if coarse:
            return losses.landmark_huber(prediction, truth, weight, delta=h.huber_delta)
        return losses.contour_loss(
            prediction, truth, weight, self.previous, self.following, delta=h.huber_delta
        )

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        h: Any = self.hparams
        truth, weight = batch["landmarks"], batch["landmark_weight"]
        terms = {
            "landmarks": self._landmark_loss(output.landmarks, truth, weight),
            "kl": h.kl_weight * losses.kl_divergence(output.mu, output.logvar),
        }
        for i, position in enumerate(output.positions, 1):
            terms[f"position{i}"] = self._landmark_loss(position, truth, weight)
        masks, counts = batch.get("masks"), None
        if masks is not None:
            counts = self._mask_weight(output, batch["mask_weight"], masks.shape[-1])
        if output.dense is not None:
            target, where = self._dense_truth(output.dense, batch, masks, counts)
            terms["dense"] = h.dense_weight * losses.dense_loss(output.dense, target, where)
        if masks is not None and counts is not None and h.region_weight:
            terms["region"] = h.region_weight * self._region_loss(output, masks, counts)
        if h.uncrossing_weight:
            terms["uncrossing"] = h.uncrossing_weight * losses.uncrossing_loss(
                output.landmarks, self.parts.values(), delta=h.huber_delta
            )
        return terms

    def _mask_weight(self, output: HybridGNetOutput, weight: Tensor, size: int) -> Tensor:
        """Pixels where given masks count: not where the heart is now seen, as some lung masks include it."""
        where = weight[:, :, None, None].expand(-1, -1, size, size)
        if "heart" not in self.parts:
            return where
        heart = polygon_inside(output.landmarks[:, self.parts["heart"]].detach().float(), size, size)
        reach = 2 * (size // 32) + 1
        near = F.max_pool2d(heart[:, None].to(weight.dtype), reach, 1, reach // 2)
        return where * (1 - near)

    def _dense_truth(
        self, dense: Tensor, batch: Mapping[str, Tensor], masks: Tensor | None, counts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        height, width = dense.shape[-2:]
        target, where = torch.zeros_like(dense), torch.zeros_like(dense)
        for channel, organ in enumerate(self.dense_organs):
            if organ in self.parts:
                part = self.parts[organ]
                known = (batch["landmark_weight"][:, part] > 0).all(1).to(dense.dtype)
                inside = polygon_inside(batch["landmarks"][:, part], height, width).to(dense.dtype)
                target[:, channel] = inside * known[:, None, None]
                where[:, channel] = known[:, None, None]
        if masks is not None and counts is not None:
            given = F.interpolate(masks, size=(height, width), mode="area")
            allowed = F.interpolate(counts, size=(height, width), mode="nearest")
            use = (batch["mask_weight"] > 0)[:, :, None, None]
            target = torch.where(use, given, target)
            where = torch.where(use, allowed, where)
        return target, where

    def _region_loss(self, output: HybridGNetOutput, masks: Tensor, counts: Tensor) -> Tensor:
        size = 48
        masks, counts = F.adaptive_avg_pool2d(masks, size), F.adaptive_max_pool2d(counts, size)
        total = output.landmarks.sum() * 0.0
        for channel, organ in enumerate(self.dense_organs):
            use = counts[:, channel].flatten(1).amax(1) > 0
            if organ not in self.parts or not bool(use.any()):
                continue
            shape = soft_polygon(output.landmarks[use][:, self.parts[organ]].float(), size, 0.01)
            total = total + losses.masked_dice_loss(
                shape[:, None], masks[use, channel, None], counts[use, channel, None]
            )
        return total

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; logs every term of the loss."""
        terms = self.losses(self.network(batch["image"]), batch)
        return self.total(terms, len(batch["image"]))

    def measure(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Error of the landmarks in pixels of the 1024 frame, and Dice of each organ; see the base class."""
        prediction = output.float()
        truth, weight = batch["landmarks"], batch["landmark_weight"]
        square = (prediction - truth).square().mean(-1) * REPORT_FRAME**2
        known = weight > 0
        none = torch.full((len(truth),), torch.nan, device=truth.device)
        counted = torch.where(known, square, 0.0).sum(1) / known.sum(1).clamp_min(1)
        values = [torch.where(known.any(1), counted, none)]
        for organ, part in self.parts.items():
            a = polygon_inside(prediction[:, part], 256, 256)
            b = polygon_inside(truth[:, part], 256, 256)
            dice = 2 * (a & b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2))).clamp_min(1)
            if "masks" in batch and organ in self.dense_organs:
                channel = self.dense_organs.index(organ)
                given = (
                    F.interpolate(batch["masks"][:, channel, None], size=(256, 256), mode="area")[:, 0] > 0.5
                )
                other = 2 * (a & given).sum((1, 2)) / (a.sum((1, 2)) + given.sum((1, 2))).clamp_min(1)
                dice = torch.where(batch["mask_weight"][:, channel] > 0, other, dice)
                judged = known[:, part].all(1) | (batch["mask_weight"][:, channel] > 0)
            else:
                judged = known[:, part].all(1)
            values.append(torch.where(judged, dice, none))
        return torch.stack(values, 1)

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Contours beside landmarks, and beside the masks of organs that have no landmarks."""
        from anatozoo.tasks.cases import landmark_cases

        return landmark_cases(output, batch, self.organs, self.dense_organs)

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with a step or cosine schedule."""
        return adam_with_schedule(self, self.network.encoder)
