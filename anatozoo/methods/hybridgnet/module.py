"""HybridGNet in training: losses, validation metrics, and starting weights from other organs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.methods.hybridgnet.transfer import adapt_state
from anatozoo.nn import graphs, losses
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.nn.raster import polygon_inside, soft_polygon
from anatozoo.tasks.cases import landmark_cases
from anatozoo.training.encoders import EncoderModule
from anatozoo.training.optim import Optim

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case


class HybridGNetModule(EncoderModule, HybridGNetModel):
    """HybridGNet as a LightningModule.

    With ``loss="paper"``, ``encoder="residual"`` and no ``refine`` this is the published method; the other
    settings are anatozoo's.

    Args:
        loss: ``"paper"`` (MSE and deep supervision) or ``"contour"`` (also penalises leaving the contour).
        kl_weight: weight of the KL divergence.
        dense_weight: weight of the auxiliary masks' loss.
        region_weight: weight of the soft Dice between predicted polygons and masks without landmarks.
        uncrossing_weight: weight of the loss on contours that cross themselves.
        huber_delta: landmark error, in percent of the frame, up to which ``"contour"`` is quadratic.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `HybridGNetModel` and `anatozoo.training.encoders.EncoderModule`.
    """

    extra_links: ClassVar = {"dense_organs": "mask_organs"}

    previous: Tensor
    following: Tensor
    down: Tensor

    def __init__(
        self,
        *,
        loss: Literal["paper", "contour"] = "paper",
        kl_weight: float = 1e-5,
        dense_weight: float = 0.1,
        region_weight: float = 0.1,
        uncrossing_weight: float = 0.0,
        huber_delta: float = 1.0,
        optim: Optim = Optim("adam", 1e-4, 1e-5, schedule="step", lr_step=50, lr_gamma=0.9, warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        self.loss, self.kl_weight, self.dense_weight = loss, kl_weight, dense_weight
        self.region_weight, self.uncrossing_weight = region_weight, uncrossing_weight
        self.huber_delta = huber_delta
        previous, following = graphs.neighbours(self.organs)
        self.register_buffer("previous", previous, persistent=False)
        self.register_buffer("following", following, persistent=False)
        self.register_buffer("down", graphs.downsampling(self.organs), persistent=False)

    def adapted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Starting weights from a network for other organs; shared organs keep their rows."""
        organs = graphs.organ_counts(settings["organs"])
        dense = list(settings.get("dense_organs") or organs)
        return adapt_state(state, organs, dense, self.state_dict(), self.organs, self.dense_organs)

    def on_fit_start(self) -> None:
        """Take template and spacing from the mean shape of the training data."""
        needed = self.network.template is not None or self.network.spacing is not None
        if needed and not self.trainer.ckpt_path:
            self.network.take_mean(self.trainer.datamodule.mean_landmarks().to(self.device))  # type: ignore[attr-defined]

    def _landmark_loss(self, prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        coarse = prediction.shape[1] != truth.shape[1]
        if coarse:
            weight = ((self.down @ weight[..., None])[..., 0] > 0.99).to(truth.dtype)
            truth = self.down @ truth
        if self.loss == "paper":
            return losses.landmark_mse(prediction, truth, weight)
        if coarse:
            return losses.landmark_huber(prediction, truth, weight, delta=self.huber_delta)
        return losses.contour_loss(
            prediction, truth, weight, self.previous, self.following, delta=self.huber_delta
        )

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        truth, weight = batch["landmarks"], batch["landmark_weight"]
        terms = {
            "landmarks": self._landmark_loss(output.landmarks, truth, weight),
            "kl": self.kl_weight * losses.kl_divergence(output.mu, output.logvar),
        }
        for i, position in enumerate(output.positions, 1):
            terms[f"position{i}"] = self._landmark_loss(position, truth, weight)
        masks, counts = batch.get("masks"), None
        if masks is not None:
            counts = self._mask_weight(output, batch["known"].to(masks.dtype), masks.shape[-1])
        if output.dense is not None:
            target, where = self._dense_truth(output.dense, batch, masks, counts)
            terms["dense"] = self.dense_weight * losses.dense_loss(output.dense, target, where)
        if self.region_weight:
            # Without masks it is 0 and not left out: all processes of a fit have the same terms.
            terms["region"] = self.region_weight * self._region_loss(output, masks, counts)
        if self.uncrossing_weight:
            terms["uncrossing"] = self.uncrossing_weight * losses.uncrossing_loss(
                output.landmarks, self.parts.values(), delta=self.huber_delta
            )
        return terms

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
            use = counts[:, channel].flatten(1).amax(1) > 0
            if organ not in self.parts or not bool(use.any()):
                continue
            shape = soft_polygon(output.landmarks[use][:, self.parts[organ]].float(), size, 0.01)
            total = total + losses.masked_dice_loss(
                shape[:, None], masks[use, channel, None], counts[use, channel, None]
            )
        return total

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Contours with the reference landmarks, or with masks for organs without landmarks."""
        return landmark_cases(output, batch, self.organs, self.dense_organs)
