"""PCA and FC baselines in training: their loss, and the principal components of the training shapes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from anatozoo.errors import DataError
from anatozoo.methods.landmarkvae.model import LandmarkVAEModel
from anatozoo.nn import losses
from anatozoo.nn.augment import ShapeAugment, move_shapes
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.training.contours import ContourModule
from anatozoo.training.encoders import EncoderModule
from anatozoo.training.optim import Optim

COPIES = 100
"""Augmented copies of each training shape for the principal components; Gaggion et al., IEEE TMI 2022."""


class LandmarkVAEModule(ContourModule, EncoderModule, LandmarkVAEModel):
    """PCA or FC baseline as a LightningModule.

    The loss is the mean squared error of the landmarks; ``"fc"`` adds the KL divergence. Before a fit of
    ``"pca"``, the components are found from the training shapes, of each 100 copies that the augmentation of
    the data has moved, turned and stretched.

    Args:
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `LandmarkVAEModel`, `anatozoo.training.contours.ContourModule` and
            `anatozoo.training.encoders.EncoderModule`.
    """

    def __init__(
        self,
        *,
        optim: Optim = Optim("adam", 1e-4, 1e-5, schedule="step", lr_step=50, lr_gamma=0.9, warmup_steps=200),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)

    def on_fit_start(self) -> None:
        """Find the principal components of the training shapes, unless starting weights bring them.

        Raises:
            DataError: too few shapes have all their landmarks.
        """
        if self.decoder != "pca" or self.init_weights or self.trainer.ckpt_path:
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        items = [data.sets["train"][i] for i in range(len(data.sets["train"]))]
        whole = [item["landmarks"] for item in items if bool((item["landmark_weight"] > 0).all())]
        if not whole:
            raise DataError("no training case has the landmarks of all organs, which PCA needs.")
        shapes = copies_of(torch.stack(whole), data.augment_config)
        self.network.fit(shapes.to(self.device))

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        error = losses.landmark_mse(output.landmarks, batch["landmarks"], batch["landmark_weight"])
        return {"landmarks": error} | self.kl_term(output) | self.uncrossing_term(output)


def copies_of(shapes: Tensor, config: ShapeAugment | None) -> Tensor:
    """Shapes (n, N, 2) in [0, 1], each `COPIES` times, as an augmentation moves them; the shapes without one.

    The same shapes and configuration always give the same.
    """
    if config is None:
        return shapes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return move_shapes(shapes.repeat(COPIES, 1, 1), config)
