"""The shape prior of ACNN as a LightningModule: an autoencoder of label maps, the first stage."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.io.grid import read_labels
from anatozoo.methods.acnn.augment import shift_slices
from anatozoo.methods.acnn.autoencoder import ShapeAutoencoder
from anatozoo.methods.acnn.blocks import channels_last
from anatozoo.methods.acnn.cases import HEART
from anatozoo.methods.acnn.frames import StackFit, check_fit, fit_frame
from anatozoo.methods.base import ZooModule
from anatozoo.methods.frames import frame_shape
from anatozoo.nn.labels import check_labels, dice_per_label, one_hot, swap_neighbours

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case


class AcnnPriorModule(ZooModule):
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
        lr: learning rate of Adam.
        weight_decay: L2 in the gradient.

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
        lr: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the autoencoder."""
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
        check_fit(h.fit, self.shape, h.spacing_mm, h.long_side)
        if not self.labels or not 0 <= h.swap_probability <= 1 or h.slice_shift < 0:
            raise ConfigError(
                f"labels={h.labels} must not be empty, swap_probability={h.swap_probability} within 0 … 1, "
                f"slice_shift={h.slice_shift} not negative."
            )
        network = ShapeAutoencoder(self.shape, len(self.labels) + 1, h.code, h.widths)
        self.network = channels_last(network) if len(self.shape) == 3 else network

    def configure_metrics(self) -> None:
        """Dice of the reconstruction, over all labels and for each."""
        self.judge_by(["dice", *(f"dice/{name}" for name in self.labels)])

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, K) and logits (B, C, ...) of one-hot or soft labels (B, C, ...)."""
        return self.network(labels)

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...)."""
        return self.network.encode(labels)

    @torch.no_grad()
    def reconstruct(self, mask: Any) -> npt.NDArray[np.uint8]:
        """The plausible label map that the code of a given one stands for.

        Args:
            mask: label map of any size, with the values 1, 2, ... of the classes: path, array, tensor, PIL or
                SimpleITK image.

        Returns:
            (H, W) or (D, H, W) uint8 on the same grid; background beyond the frame.

        Raises:
            ImageError: the label map cannot be read or has another number of dimensions.
            GeometryError: the model works in millimetres and the spacing is unknown.
            DataError: it holds other values than those of the classes.
        """
        h: Any = self.hparams
        values, grid = read_labels(mask, len(self.shape))
        frame = fit_frame(grid, self.shape, h.fit, h.spacing_mm, h.long_side)
        given = torch.from_numpy(frame.labels(values).astype(np.int64))[None].to(self.device)
        was_training = self.training
        self.eval()
        try:
            _, logits = self.network(one_hot(given, len(self.labels) + 1))
        finally:
            self.train(was_training)
        probability = logits[0].softmax(0).cpu().numpy()
        planes = [frame.to_source(plane) for plane in probability]
        planes[0] = 1 - np.sum(planes[1:], axis=0)  # beyond the frame every probability is 0
        return np.argmax(planes, 0).astype(np.uint8)

    def losses(self, output: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the reconstruction against the clean labels (B, ...)."""
        return {"reconstruction": F.cross_entropy(output[1].float(), batch["labels"].long())}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on corrupted labels."""
        return self.total(
            self.losses(self.network(self.corrupted(batch["labels"])), batch), len(batch["labels"])
        )

    @torch.no_grad()
    def corrupted(self, labels: Tensor) -> Tensor:
        """One-hot labels (B, C, ...) with noise, of labels (B, ...)."""
        h: Any = self.hparams
        noisy = swap_neighbours(one_hot(labels, len(self.labels) + 1), h.swap_probability)
        if not h.slice_shift or len(self.shape) != 3:
            return noisy
        shift = h.slice_shift * torch.randn(*noisy.shape[:1], noisy.shape[2], 2, device=noisy.device)
        organs = shift_slices(noisy[:, 1:], shift)
        return torch.cat([(1 - organs.sum(1, keepdim=True)).clamp(0, 1), organs], 1)

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C, ...) of the reconstruction of the batch's ``labels``."""
        _, logits = self.network(one_hot(batch["labels"], len(self.labels) + 1))
        return logits

    def measure(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Dice of the reconstruction of each label map; see the base class."""
        dice = dice_per_label(output.argmax(1), batch["labels"], len(self.labels) + 1)
        return torch.cat([dice.nanmean(1, keepdim=True), dice], 1)

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Reconstructed label maps beside the given ones."""
        from anatozoo.methods.base_cases import label_cases

        return label_cases(output.argmax(1), batch["labels"], self.labels, batch, image=batch.get("image"))

    def configure_optimizers(self) -> Any:
        """Adam at a constant rate."""
        h: Any = self.hparams
        return torch.optim.Adam(self.parameters(), lr=h.lr, weight_decay=h.weight_decay)
