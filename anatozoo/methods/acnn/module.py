"""ACNN's networks in training; the shape prior is an objective, see `anatozoo.objectives.shape_prior`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.methods.acnn.model import AcnnModel
from anatozoo.nn.dynunet import weighted_levels
from anatozoo.nn.labels import one_hot
from anatozoo.nn.losses import check_base_loss, focal
from anatozoo.nn.registration_losses import label_dice_loss
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim


class AcnnModule(ZooModule, AcnnModel):
    """ACNN as a LightningModule.

    Oktay et al., IEEE TMI 2018: cross-entropy, λ1 times the distance between the codes of prediction and
    reference (the objective `ShapePrior`), and λ2 / 2 times the squared weights (Adam's weight decay).

    Args:
        ce_weight: weight of the cross-entropy, 1 in the paper.
        dice_weight: weight of a soft Dice loss, which the paper does not have.
        focal_gamma: γ of the focal loss (`anatozoo.nn.losses.focal`) in place of the cross-entropy; 0 keeps
            the cross-entropy, 2 is usual.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `AcnnModel` and `anatozoo.training.module.ZooModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    extra_links: ClassVar[Mapping[str, str]] = {"upsample": "upsample"}

    def __init__(
        self,
        *,
        ce_weight: float = 1.0,
        dice_weight: float = 0.0,
        focal_gamma: float = 0.0,
        optim: Optim = Optim("adam", 1e-3, 1e-5, schedule="cosine", warmup_steps=100),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        check_base_loss(ce_weight, dice_weight, focal_gamma)
        self.ce_weight, self.dice_weight, self.focal_gamma = ce_weight, dice_weight, focal_gamma

    @property
    def fast_layout(self) -> bool:  # type: ignore[override]
        """Whether a step is faster in "channels last" order.

        That is so of DynUNet on CPUs where widths do not fill the blocks of 16 channels in which
        oneDNN orders them else.
        """
        return self.architecture == "dynunet" and any(width % 16 for width in self.widths or ())

    @property
    def encoder_part(self) -> nn.Module:
        """The network's contracting part."""
        part: nn.Module = self.network.contracting
        return part

    def answer(self, batch: Mapping[str, Tensor]) -> Any:
        """Logits (B, 1 + organs, D, H, W); for networks with deep supervision a list, final logits first."""
        return self.network.outputs(batch["image"])

    def losses(self, output: Tensor | Sequence[Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            output: logits (B, 1 + organs, D, H, W), or a list of them, final logits first; each has half the
                weight of the one before.
            batch: ``labels`` (B, D, H, W).
        """
        levels = [output] if isinstance(output, Tensor) else list(output)
        labels = batch["labels"].long()
        truth = one_hot(labels, len(self.organs) + 1)
        terms = {}
        if self.ce_weight:
            pixels = [F.cross_entropy(logits.float(), labels, reduction="none") for logits in levels]
            values = [focal(entropy, self.focal_gamma).mean() for entropy in pixels]
            terms["cross_entropy"] = self.ce_weight * weighted_levels(values)
        if self.dice_weight:
            values = [label_dice_loss(logits.float().softmax(1), truth) for logits in levels]
            terms["dice"] = self.dice_weight * weighted_levels(values)
        return terms
