"""HybridGNet in training: losses, validation metrics, and starting weights from other organs."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.methods.hybridgnet.transfer import adapt_state, take_decoder
from anatozoo.nn import graphs, losses
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.nn.raster import nearest_edges, polygon_inside, soft_polygon
from anatozoo.tasks.cases import landmark_cases
from anatozoo.tasks.labels import label_losses, painted
from anatozoo.tasks.views import over_background
from anatozoo.training.contours import KL_WEIGHT, ContourModule
from anatozoo.training.encoders import EncoderModule
from anatozoo.training.optim import Optim
from anatozoo.training.weights import refuse_other_shapes

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case


AGREEMENT_SIDE = 64
"""Largest side of the maps on which contours and masks of a step are compared, in pixels."""


class HybridGNetModule(ContourModule, EncoderModule, HybridGNetModel):
    """HybridGNet as a LightningModule.

    With ``loss="paper"``, ``encoder="residual"`` and no ``refine`` this is the published method; the other
    settings are anatozoo's.

    Args:
        loss: ``"paper"`` (MSE and deep supervision) or ``"contour"`` (also penalises leaving the contour).
        dense_weight: weight of the auxiliary masks' loss.
        region_weight: weight of the soft Dice between predicted polygons and masks without landmarks.
        mask_weight: weight of cross-entropy and soft Dice of the mask decoder's labels. Without such a
            decoder, this and `agreement_weight` change nothing.
        agreement_weight: weight of the disagreement of predicted contours and the mask decoder's
            probabilities, from which both learn.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `HybridGNetModel`, `anatozoo.training.contours.ContourModule` and
            `anatozoo.training.encoders.EncoderModule`.

    Raises:
        ConfigError: a weight is negative, or a mask decoder has only weights of 0.
    """

    extra_links: ClassVar = {"dense_organs": "mask_organs"}
    init_methods: ClassVar = {"shapevae": ("organs", "latents", "features", "order", "upsampling")}

    def __init__(
        self,
        *,
        loss: Literal["paper", "contour"] = "paper",
        dense_weight: float = 0.1,
        region_weight: float = 0.1,
        mask_weight: float = 0.1,
        agreement_weight: float = 0.01,
        optim: Optim = Optim("adam", 1e-4, 1e-5, schedule="step", lr_step=50, lr_gamma=0.9, warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        if not self.variational and (self.kl_weight, self.kl_epochs) != (KL_WEIGHT, 0):
            raise ConfigError("kl_weight and kl_epochs belong to a code with a variance, variational: true.")
        weights = {"dense_weight": dense_weight, "region_weight": region_weight}
        of_masks = {"mask_weight": mask_weight, "agreement_weight": agreement_weight}
        for name, value in (weights | of_masks).items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name}={value} must be a number of at least 0.")
        if self.network.mask_decoder is not None and not any(of_masks.values()):
            raise ConfigError(
                f"mask_decoder={self.mask_decoder!r} would never be trained: mask_weight and "
                "agreement_weight are 0. Give one of them, or mask_decoder='none'."
            )
        self.loss, self.dense_weight, self.region_weight = loss, dense_weight, region_weight
        self.mask_weight, self.agreement_weight = mask_weight, agreement_weight

    def adapted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Starting weights from a network for other organs, or the decoder of an autoencoder of shapes.

        Shared organs keep their rows.

        Raises:
            WeightsError: the networks differ in other ways.
        """
        organs = graphs.organ_counts(settings["organs"])
        if "network.fc_mu.weight" not in state:
            stored, mine = dict(settings) | {"organs": organs}, self.settings()
            differing = [name for name in self.init_methods["shapevae"] if stored[name] != mine[name]]
            refuse_other_shapes([f"{name} is {stored[name]} there, {mine[name]} here" for name in differing])
            taken, sentence = take_decoder(state, self.state_dict())
            rank_zero_info(f"anatozoo: {sentence}")
            return taken
        dense = list(settings.get("dense_organs") or organs)
        return adapt_state(state, organs, dense, self.state_dict(), self.organs, self.dense_organs)

    def on_fit_start(self) -> None:
        """Take template and spacing from the mean shape of the training data, if the network has them."""
        if self.network.template is not None or self.network.spacing is not None:
            super().on_fit_start()

    def landmark_loss(self, position: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        """The loss of coarse or fine nodes that `loss` names; see `ContourModule.reference`."""
        if self.loss == "contour":
            return super().landmark_loss(position, truth, weight)
        return losses.landmark_mse(position, *self.reference(position, truth, weight))

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        truth, weight = batch["landmarks"], batch["landmark_weight"]
        terms = {"landmarks": self.landmark_loss(output.landmarks, truth, weight)}
        terms |= self.kl_term(output) | self.position_terms(output, truth, weight)
        masks, counts = batch.get("masks"), None
        if masks is not None:
            counts = self._mask_weight(output, batch["known"].to(masks.dtype), masks.shape[-1])
        if output.dense is not None:
            target, where = self._dense_truth(output.dense, batch, masks, counts)
            terms["dense"] = self.dense_weight * losses.dense_loss(output.dense, target, where)
        if self.region_weight:
            # Without masks it is 0 and not left out: all processes of a fit have the same terms.
            terms["region"] = self.region_weight * self._region_loss(output, masks, counts)
        if output.masks is not None and self.mask_weight:
            found = label_losses(output.masks, *self._labels(batch), "organs")
            terms["masks"] = self.mask_weight * (found["cross_entropy"] + found["dice"])
        if output.masks is not None and self.agreement_weight:
            terms["agreement"] = self.agreement_weight * self._disagreement(output, batch)
        return terms | self.uncrossing_term(output)

    def _mask_weight(self, output: HybridGNetOutput, weight: Tensor, size: int) -> Tensor:
        """Weights of the mask pixels: 0 where the heart is predicted, as some lung masks include it."""
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
            use = batch["known"][:, :, None, None]
            target = torch.where(use, given, target)
            where = torch.where(use, allowed, where)
        return target, where

    def _region_loss(self, output: HybridGNetOutput, masks: Tensor | None, counts: Tensor | None) -> Tensor:
        size, total = 48, output.landmarks.sum() * 0.0
        if masks is None or counts is None:
            return total
        masks, counts = F.adaptive_avg_pool2d(masks, size), F.adaptive_max_pool2d(counts, size)
        for channel, organ in enumerate(self.dense_organs):
            # A contour has no form for an absent organ: empty masks would only make it small.
            drawn = torch.minimum(counts[:, channel], masks[:, channel])
            use = drawn.flatten(1).amax(1) > 0
            if organ not in self.parts or not bool(use.any()):
                continue
            shape = soft_polygon(output.landmarks[use][:, self.parts[organ]].float(), size, 0.01)
            total = total + losses.masked_dice_loss(
                shape[:, None], masks[use, channel, None], counts[use, channel, None]
            )
        return total

    def _in_grid(self, landmarks: Tensor) -> Tensor:
        """Landmarks, for which 0 is the centre of the first pixel, where 0 is its edge."""
        return landmarks + 0.5 / self.side

    def _labels(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Label maps (B, S, S) from landmarks or given masks, and which organs (B, organs) they hold."""
        size, landmarks = batch["image"].shape[-1], self._in_grid(batch["landmarks"])
        planes, known = [], []
        for organ, part in self.parts.items():
            there = (batch["landmark_weight"][:, part] > 0).all(1)
            inside = polygon_inside(landmarks[:, part], size, size) & there[:, None, None]
            if "masks" in batch:
                channel = self.dense_organs.index(organ)
                given, use = batch["masks"][:, channel, None], batch["known"][:, channel]
                # Shares of cells encode the position of an edge within a cell, which interpolation restores.
                smooth = F.interpolate(given, size=(size, size), mode="bilinear")[:, 0]
                inside, there = torch.where(use[:, None, None], smooth > 0.5, inside), there | use
            planes.append(inside)
            known.append(there)
        return painted(torch.stack(planes, 1)), torch.stack(known, 1)

    def _disagreement(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> Tensor:
        """How far the predicted contours and the mask decoder differ, in [0, 1], annotated or not."""
        assert output.masks is not None
        size = min(AGREEMENT_SIDE, self.side)
        points = self._in_grid(output.landmarks.float())
        organs = [points[:, part] for part in self.parts.values()]
        drawn = over_background([soft_polygon(x, size, 0.005, nearest_edges(x, size)) for x in organs])
        probability = F.adaptive_avg_pool2d(output.masks.float().softmax(1), size)
        gap = losses.disagreement(drawn[:, 1:], probability[:, 1:])
        if "masks" not in batch:
            return gap.mean()
        # A contour has no form for an absent organ, as an empty mask says.
        own = [self.dense_organs.index(organ) for organ in self.organs]
        absent = batch["known"][:, own] & (batch["masks"][:, own].flatten(2).amax(2) <= 0)
        return losses.weighted_mean(gap, (~absent).to(gap.dtype))

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Contours with the reference landmarks, or with masks for organs without landmarks."""
        return landmark_cases(output, batch, self.organs, self.dense_organs)
