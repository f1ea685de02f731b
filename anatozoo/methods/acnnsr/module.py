"""ACNN-SR in training; the shape prior is an objective, see `anatozoo.objectives.shape_prior`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.methods.acnnsr.model import AcnnSRModel
from anatozoo.metrics.images import psnr, ssim
from anatozoo.nn.slices import interpolate_slices
from anatozoo.tasks.cases import bare_cases, with_numbers
from anatozoo.tasks.views import Images
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim
from anatozoo.training.step import Step

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case


class AcnnSRModule(ZooModule, AcnnSRModel):
    """ACNN-SR as a LightningModule.

    Oktay et al., IEEE TMI 2018: smooth L1 distance of the fine volumes, λ1 times the squared distance between
    the codes that a T-L network predicts from both (the objective `ShapePrior`), and λ2 / 2 times the squared
    weights (``optim.weight_decay`` of Adam).

    Args:
        beta: difference of intensities, as a share of their range, above which the smooth L1 loss is linear;
            below, it is quadratic. 1 in the paper.
        optim: see `anatozoo.training.optim.Optim`; ``encoder_lr_scale`` applies to the layers at the coarse
            resolution.
        **settings: see `AcnnSRModel` and `anatozoo.training.module.ZooModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    extra_links: ClassVar = {"factor": "factor"}

    def __init__(
        self,
        *,
        beta: float = 0.1,
        optim: Optim = Optim("adam", 1e-3, schedule="cosine", warmup_steps=100),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        if beta <= 0:
            raise ConfigError(f"beta={beta} must be above 0.")
        self.beta = beta

    @property
    def encoder_part(self) -> nn.Module:
        """The layers at the coarse resolution."""
        part: nn.Module = self.network.coarse
        return part

    def columns(self) -> list[str]:
        """PSNR and SSIM, and their gains over linear interpolation."""
        return ["psnr", "ssim", "psnr_gain", "ssim_gain"]

    def images(self, output: Tensor, batch: Mapping[str, Tensor]) -> Images:
        """Predicted and true fine volumes, both 0 outside the image."""
        inside = batch["inside"][:, None]
        return Images(output.float() * inside, batch["target"].float() * inside)

    def own_terms(self, step: Step) -> dict[str, Tensor]:
        """The terms of a step, computed on the volumes that objectives receive."""
        return self.losses(step.output, step.batch, step.images)

    def losses(
        self, output: Tensor, batch: Mapping[str, Tensor], images: Images | None = None
    ) -> dict[str, Tensor]:
        """The smooth L1 distance.

        Args:
            output: fine volumes (B, 1, D, H, W).
            batch: ``target`` of the same shape, and ``inside`` (B, D, H, W) bool; other voxels do not count.
            images: predicted and true volumes, if computed already; None takes them from the batch.
        """
        images = images or self.images(output, batch)
        difference = F.smooth_l1_loss(images.found, images.truth, beta=self.beta, reduction="sum")
        return {"intensity": difference / batch["inside"].sum()}

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Fine volumes (B, 1, D, H, W) of the batch's thick slices ``image``."""
        return self.network(batch["image"])

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Volumes in which no organ is known, with PSNR, SSIM and their gains as numbers."""
        inside, target = batch["inside"], batch["target"].float()
        linear = interpolate_slices(batch["image"].float(), self.factor)
        found, plain = (
            torch.stack([psnr(volume, target, inside), ssim(volume, target, inside)], 1)
            for volume in (output.float(), linear)
        )
        values = torch.cat([found, found - plain], 1).T.tolist()
        return with_numbers(bare_cases(output), dict(zip(self.columns(), values, strict=True)))
