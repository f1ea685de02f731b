"""The shape prior of ACNN in training: the first stage."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.methods.acnnprior.model import AcnnPriorModel
from anatozoo.nn.labels import one_hot
from anatozoo.nn.registration_losses import label_dice_loss
from anatozoo.nn.stack_augment import shift_slices
from anatozoo.training.codes import CodeModule
from anatozoo.training.optim import Optim


class AcnnPriorModule(CodeModule, AcnnPriorModel):
    """Trains the shape prior as a denoising autoencoder of label maps.

    Oktay et al., IEEE TMI 2018. In training, neighbouring voxels are swapped and slices shifted against one
    another, as between two breath-holds; the network learns to restore the clean label map.

    Args:
        slice_shift: standard deviation of the shift of a slice in pixels, in volumes; 0 switches it off.
        dice_weight: weight of an additional soft Dice loss; 0 in the paper.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `AcnnPriorModel` and `anatozoo.training.codes.CodeModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        *,
        slice_shift: float = 1.0,
        dice_weight: float = 0.0,
        optim: Optim = Optim("adam", 1e-3, warmup_steps=100),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        if min(slice_shift, dice_weight) < 0:
            raise ConfigError(
                f"slice_shift={slice_shift} and dice_weight={dice_weight} must not be negative."
            )
        self.slice_shift, self.dice_weight = slice_shift, dice_weight

    @torch.no_grad()
    def corrupted(self, labels: Tensor) -> Tensor:
        """Labels (B, ...) as noisy one-hot labels (B, C, ...)."""
        noisy = super().corrupted(labels)
        if not self.slice_shift or len(self.shape) != 3:
            return noisy
        shift = self.slice_shift * torch.randn(*noisy.shape[:1], noisy.shape[2], 2, device=noisy.device)
        organs = shift_slices(noisy[:, 1:], shift)
        return torch.cat([(1 - organs.sum(1, keepdim=True)).clamp(0, 1), organs], 1)

    def losses(self, output: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy and weighted Dice loss of the reconstruction against the clean labels (B, ...)."""
        terms = super().losses(output, batch)
        if self.dice_weight:
            truth = one_hot(batch["labels"].long(), len(self.organs) + 1)
            terms["dice"] = self.dice_weight * label_dice_loss(output[1].float().softmax(1), truth)
        return terms
