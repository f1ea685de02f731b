"""The shape prior of ACNN as a LightningModule: an autoencoder of label maps, the first stage."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from anatozoo.data.stacks import HEART
from anatozoo.errors import ConfigError
from anatozoo.frames.frame import Frame, frame_shape
from anatozoo.frames.stacks import StackFit, check_fit, fit_frame
from anatozoo.io.grid import Grid
from anatozoo.nn.labels import check_labels, one_hot
from anatozoo.nn.registration_losses import label_dice_loss
from anatozoo.nn.shape_autoencoder import ShapeAutoencoder
from anatozoo.nn.stack_augment import shift_slices
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.tasks.codes import LabelAutoencoder
from anatozoo.training.optim import cosine
from anatozoo.training.weights import start_from


class AcnnPriorModule(LabelAutoencoder):
    """Learns a short code of plausible label maps by removing noise from them, in 2-D or 3-D.

    Oktay et al., IEEE TMI 2018. What is corrupted in training: neighbouring voxels change places, and slices
    shift against one another, as between two breath-holds; the clean label map is to be restored.

    Args:
        labels: names of the foreground classes, in the order of their values 1, 2, ...
        image_size: [D, H, W] of the frame, [H, W], or the side of a square.
        fit: how label maps get into the frame; as in the segmentation module, see `AcnnModule`.
        spacing_mm: the same.
        long_side: the same.
        code: length of the code, 64 in the paper.
        widths: channels at strides 2, 4, ...
        swap_probability: how often two neighbouring voxels change places.
        slice_shift: standard deviation of the shift of a slice in pixels, of volumes; 0 switches it off.
        dice_weight: weight of a soft Dice loss beside the cross-entropy, which the paper has alone.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        lr: learning rate of Adam.
        weight_decay: L2 in the gradient.
        schedule: ``"constant"`` or ``"cosine"`` (to 1 % at the fit's end).
        warmup_steps: optimiser steps of linear warm-up under ``"cosine"``.

    Raises:
        ConfigError: settings that are not possible.
    """

    architecture = ("labels", "image_size", "fit", "spacing_mm", "long_side", "code", "widths")
    links = {  # noqa: RUF012 - typed in the base class
        "labels": "labels",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
        "long_side": "long_side",
    }

    def __init__(
        self,
        labels: list[str] = HEART,
        image_size: int | list[int] = [16, 128, 128],  # noqa: B006
        fit: StackFit = "slices",
        spacing_mm: list[float] | None = None,
        long_side: int = 208,
        code: int = 64,
        widths: list[int] = [16, 32, 48, 64],  # noqa: B006
        swap_probability: float = 0.1,
        slice_shift: float = 1.0,
        dice_weight: float = 0.0,
        init_weights: str | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Literal["constant", "cosine"] = "constant",
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the autoencoder."""
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
        check_fit(h.fit, self.shape, h.spacing_mm, h.long_side)
        if not self.labels or not 0 <= h.swap_probability <= 1 or min(h.slice_shift, h.dice_weight) < 0:
            raise ConfigError(
                f"labels={h.labels} must not be empty, swap_probability={h.swap_probability} within 0 … 1, "
                f"slice_shift={h.slice_shift} and dice_weight={h.dice_weight} not negative."
            )
        if h.schedule not in ("constant", "cosine"):
            raise ConfigError(f"schedule={h.schedule!r} is unknown; choose constant or cosine.")
        network = ShapeAutoencoder(self.shape, len(self.labels) + 1, h.code, h.widths)
        self.network = channels_last(network) if len(self.shape) == 3 else network

    def setup(self, stage: str) -> None:
        """Fill in the starting weights of a fresh fit; a resumed one has its own."""
        source = self.hparams["init_weights"]
        if stage == "fit" and source and not self.trainer.ckpt_path:
            start_from(self, source, "acnnprior")

    def frame_of(self, grid: Grid) -> Frame:
        """How a label map on this grid gets into the frame; see the base class."""
        h: Any = self.hparams
        return fit_frame(grid, self.shape, h.fit, h.spacing_mm, h.long_side)

    @torch.no_grad()
    def corrupted(self, labels: Tensor) -> Tensor:
        """One-hot labels (B, C, ...) with noise, of labels (B, ...)."""
        h: Any = self.hparams
        noisy = super().corrupted(labels)
        if not h.slice_shift or len(self.shape) != 3:
            return noisy
        shift = h.slice_shift * torch.randn(*noisy.shape[:1], noisy.shape[2], 2, device=noisy.device)
        organs = shift_slices(noisy[:, 1:], shift)
        return torch.cat([(1 - organs.sum(1, keepdim=True)).clamp(0, 1), organs], 1)

    def losses(self, output: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the reconstruction against the clean labels (B, ...), and a weighted Dice loss."""
        terms = super().losses(output, batch)
        weight: float = self.hparams["dice_weight"]
        if weight:
            truth = one_hot(batch["labels"].long(), len(self.labels) + 1)
            terms["dice"] = weight * label_dice_loss(output[1].float().softmax(1), truth)
        return terms

    def configure_optimizers(self) -> Any:
        """Adam at a constant rate, or with a cosine schedule."""
        h: Any = self.hparams
        optimizer = torch.optim.Adam(self.parameters(), lr=h.lr, weight_decay=h.weight_decay)
        return optimizer if h.schedule == "constant" else cosine(self, optimizer)
