"""Seg2Graph in training, from landmarks alone: its losses and what measures it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from anatozoo.methods.seg2graph.model import Seg2GraphModel
from anatozoo.nn import graphs, losses
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim


class Seg2GraphModule(ZooModule, Seg2GraphModel):
    """Seg2Graph as a LightningModule; learns from landmarks alone, whose masks are drawn in every step.

    Args:
        kl_weight: weight of the KL divergence.
        uncrossing_weight: weight of the loss on loops of contours that cross themselves.
        unseen_weight: weight of landmarks whose organ the mask does not show.
        huber_delta: landmark error, in units of 1 % of the frame, up to which the loss is quadratic.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `Seg2GraphModel` and `anatozoo.training.module.ZooModule`.
    """

    fast_layout = True
    extra_links: ClassVar = {"anchors": "anchors"}

    previous: Tensor
    following: Tensor
    down: Tensor

    def __init__(
        self,
        *,
        kl_weight: float = 1e-5,
        uncrossing_weight: float = 0.5,
        unseen_weight: float = 0.1,
        huber_delta: float = 1.0,
        optim: Optim = Optim("adamw", 1e-3, 1e-4, schedule="cosine", warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        self.kl_weight, self.uncrossing_weight = kl_weight, uncrossing_weight
        self.unseen_weight, self.huber_delta = unseen_weight, huber_delta
        previous, following = graphs.neighbours(self.organs)
        self.register_buffer("previous", previous, persistent=False)
        self.register_buffer("following", following, persistent=False)
        self.register_buffer("down", graphs.downsampling(self.organs), persistent=False)

    def on_fit_start(self) -> None:
        """Take template and spacing from the mean shape of the training data."""
        if not self.trainer.ckpt_path:
            mean = self.trainer.datamodule.mean_landmarks().to(self.device)  # type: ignore[attr-defined]
            self.network.take_mean(mean, list(self.parts.values()))

    def answer(self, batch: Mapping[str, Tensor]) -> HybridGNetOutput:
        """What the network says of the batch's masks."""
        output: HybridGNetOutput = self.network(batch["image"])
        return output

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        truth, weight = batch["landmarks"], batch["landmark_weight"]
        if "held" in batch:
            counts = torch.tensor(list(self.organs.values()), device=truth.device)
            seen = batch["held"].repeat_interleave(counts, 1)
            weight = torch.where(seen, weight, self.unseen_weight * weight)
        coarse_truth, coarse_weight = self.down @ truth, (self.down @ weight[..., None])[..., 0]
        terms = {"kl": self.kl_weight * losses.kl_divergence(output.mu, output.logvar)}
        steps = dict(enumerate((*output.positions, output.landmarks), 1))
        for i, position in steps.items():
            name = f"position{i}" if i < len(steps) else "landmarks"
            if position.shape[1] != truth.shape[1]:
                terms[name] = losses.landmark_huber(
                    position, coarse_truth, coarse_weight, delta=self.huber_delta
                )
            else:
                terms[name] = losses.contour_loss(
                    position, truth, weight, self.previous, self.following, delta=self.huber_delta
                )
        if self.uncrossing_weight:
            terms["uncrossing"] = self.uncrossing_weight * losses.uncrossing_loss(
                output.landmarks, self.parts.values(), delta=self.huber_delta
            )
        return terms
