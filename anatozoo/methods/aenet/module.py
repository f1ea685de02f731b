"""The label autoencoder as a LightningModule: the first stage of AC-RegNet."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.io.grid import Grid, read_labels
from anatozoo.methods.aenet.network import AENet
from anatozoo.methods.base import ZooModule
from anatozoo.methods.frames import Frame, frame_shape
from anatozoo.methods.planes import labels_on_grid
from anatozoo.methods.sources import read_weights
from anatozoo.nn.labels import check_labels, dice_per_label, one_hot, swap_neighbours

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case
    from anatozoo.results import SegmentationResult
    from anatozoo.results_volume import VolumeResult


class AeNetModule(ZooModule):
    """Learns a short code of plausible label maps by removing noise from them.

    Mansilla et al., Neural Networks 2020; the defaults are the paper's.

    Args:
        labels: names of the foreground classes, in the order of their values 1, 2, ...
        image_size: side S of a square frame, [H, W] or [D, H, W]; multiples of 8.
        fit: how label maps of other sizes get into the frame, see `anatozoo.methods.frames.Frame.fit`.
        spacing_mm: (x, y[, z]) of the frame, for ``"spacing"``.
        code: length of the code.
        swap_probability: how often two neighbouring pixels change places in training.
        lr: learning rate of Adam.

    Raises:
        ConfigError: settings out of range.
    """

    architecture = ("labels", "image_size", "fit", "spacing_mm", "code")
    links = {  # noqa: RUF012 - typed in the base class
        "labels": "labels",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
    }

    def __init__(
        self,
        labels: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        image_size: int | list[int] = 64,
        fit: Literal["pad", "stretch", "spacing"] = "pad",
        spacing_mm: list[float] | None = None,
        code: int = 32,
        swap_probability: float = 0.1,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the autoencoder."""
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
        if h.fit == "spacing" and len(h.spacing_mm or ()) != len(self.shape):
            raise ConfigError(f"fit='spacing' needs spacing_mm with {len(self.shape)} numbers.")
        if not self.labels or not 0 <= h.swap_probability <= 1:
            raise ConfigError(
                f"labels={h.labels} must not be empty, swap_probability={h.swap_probability} within 0 … 1."
            )
        self.network = AENet(self.shape, len(self.labels) + 1, h.code)

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
    def reconstruct(self, mask: Any, *, spacing_mm: float | Sequence[float] | None = None) -> np.ndarray:
        """The plausible label map that the code of a given one stands for.

        Args:
            mask: label map of any size, with the values 1, 2, ... of the classes: path, array, tensor, PIL or
                SimpleITK image.
            spacing_mm: one number or (x, y[, z]), in place of what the source says.

        Returns:
            (H, W) or (D, H, W) uint8 on the same grid.

        Raises:
            ImageError: the label map cannot be read or has another number of dimensions.
            DataError: it holds other values than those of the classes.
            GeometryError: the model works in millimetres and the spacing is unknown, or it is not positive.
        """
        return self._reconstruct(*self._read(mask, spacing_mm))

    def _read(self, mask: Any, spacing_mm: float | Sequence[float] | None) -> tuple[np.ndarray, Grid]:
        values, grid = read_labels(mask, len(self.shape))
        return values, grid if spacing_mm is None else grid.with_spacing(spacing_mm)

    def _reconstruct(self, values: np.ndarray, grid: Grid) -> np.ndarray:
        frame = Frame.fit(grid, self.shape, self.hparams["fit"], self.hparams["spacing_mm"])
        given = torch.from_numpy(frame.labels(values).astype(np.int64))[None].to(self.device)
        was_training = self.training
        self.eval()
        try:
            _, logits = self.network(one_hot(given, len(self.labels) + 1))
        finally:
            self.train(was_training)
        probability = logits[0].float().softmax(0).cpu().numpy()
        return labels_on_grid(probability, frame)

    @torch.no_grad()
    def predict(
        self, mask: Any, *, spacing_mm: float | Sequence[float] | None = None
    ) -> "SegmentationResult | VolumeResult":
        """`reconstruct` as a result that can be drawn and saved; arguments and errors are the same."""
        from anatozoo.results import SegmentationResult
        from anatozoo.results_volume import VolumeResult

        values, grid = self._read(mask, spacing_mm)
        labels, classes = self._reconstruct(values, grid), tuple(self.labels)
        name, version = self.checkpoint_name, self.checkpoint_version
        image = os.fspath(mask) if isinstance(mask, str | os.PathLike) else "array"
        if grid.dims == 3:
            return VolumeResult(name, version, image, grid, classes, labels)
        return SegmentationResult(
            checkpoint=name,
            version=version,
            image=image,
            size=(grid.size[0], grid.size[1]),
            spacing_mm=None if grid.spacing_mm is None else (grid.spacing_mm[0], grid.spacing_mm[1]),
            landmarks={},
            label_map=labels,
            classes=classes,
        )

    def golden_input(self) -> np.ndarray:
        """A label map that anybody may have, for the golden test."""
        from anatozoo.io.samples import sample_label_map

        return sample_label_map(self.shape, len(self.labels))

    def losses(self, output: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the reconstruction against the clean labels (B, ...)."""
        return {"reconstruction": F.cross_entropy(output[1].float(), batch["labels"].long())}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on noisy labels."""
        clean = one_hot(batch["labels"], len(self.labels) + 1)
        terms = self.losses(self.network(swap_neighbours(clean, self.hparams["swap_probability"])), batch)
        return self.total(terms, len(batch["labels"]))

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
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def load_shape_model(source: str) -> AeNetModule:
    """An autoencoder from a checkpoint name, a folder or a ``.ckpt`` file of a fit of the first stage.

    Raises:
        ConfigError: the source is another method's or does not exist.
    """
    state, hparams = read_weights(source, "aenet")
    module = AeNetModule(**hparams)
    own = module.state_dict()
    module.load_state_dict({k: v.to(own[k].dtype) if k in own else v for k, v in state.items()})
    return module.eval()
