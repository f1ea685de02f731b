"""Building an atlas: a fit that takes the training images and takes no gradient step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from anatozoo.data.base import CaseDataset
from anatozoo.errors import ConfigError, DataError
from anatozoo.methods.multiatlas.model import STEPS, MultiAtlasModel, found_engine, resemblance
from anatozoo.training.module import ZooModule

ROUNDED = 1e4
"""The least resemblance is stored in whole parts of this number."""


class MultiAtlasModule(ZooModule, MultiAtlasModel):
    """A multi-atlas model as a LightningModule: a fit is one pass over the training images.

    Args:
        **settings: see `MultiAtlasModel` and `anatozoo.training.module.ZooModule`; nothing is optimised, so
            that ``optim`` changes nothing.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.automatic_optimization = False

    def start(self) -> None:
        """Check the settings of a new fit.

        Raises:
            ConfigError: it is to start from weights or has objectives, or there is no such engine.
        """
        if self.init_weights:
            raise ConfigError(
                "an atlas is built of images and starts from no weights; leave init_weights out."
            )
        if self.objectives:
            name = type(self.objectives[0]).__name__
            raise ConfigError(f"building an atlas minimises no loss; leave the objective {name} out.")
        found_engine(self.engine)

    def on_fit_start(self) -> None:
        """Take the training images, unless the fit goes on from a checkpoint."""
        if not self.trainer.ckpt_path:
            self.collect(self.trainer.datamodule.sets["train"])  # type: ignore[attr-defined]

    def collect(self, items: CaseDataset) -> None:
        """Take the images that have landmarks of all organs as the atlas, in their order.

        The least resemblance becomes the lowest at which an image of the atlas resembles the others.

        Args:
            items: ``image`` (1, S, S) in [0, 1], ``landmarks`` (N, 2) in [0, 1], ``landmark_weight`` (N,).

        Raises:
            DataError: no image has landmarks of all organs.
            ConfigError: they are fewer than ``count``.
        """
        names, images, landmarks, left_out = [], [], [], []
        for index in range(len(items)):
            item, name = items[index], str(items.identity(index)["id"])
            if not bool((item["landmark_weight"] > 0).all()):
                left_out.append(name)
                continue
            names.append(name)
            images.append((255 * item["image"][0]).round().to(torch.uint8))
            landmarks.append((STEPS * item["landmarks"].double()).round().to(torch.int32))
        if not names:
            raise DataError(
                f"no image of the training split has landmarks of {', '.join(self.organs)}; an atlas needs "
                "them: choose other organs or data."
            )
        self.put(names, torch.stack(images).to(self.device), torch.stack(landmarks).to(self.device))
        self.least_resemblance = self._least_resemblance()
        rank_zero_info(
            f"anatozoo: the atlas has {len(names)} images; {len(left_out)} lack landmarks of an organ. "
            f"Images that resemble none by {self.least_resemblance} will be flagged."
        )

    def _least_resemblance(self) -> float:
        images = self.atlas_images.cpu().numpy()
        if len(images) < 2:
            return -1.0
        alike = np.stack([resemblance(each, images) for each in images])
        np.fill_diagonal(alike, -1.0)
        return float(np.floor(alike.max(1).min() * ROUNDED) / ROUNDED)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:  # type: ignore[override]
        """Count the step: the atlas is there, and Lightning stores no checkpoint of a fit without steps."""
        self.optimizers().step()  # type: ignore[union-attr]

    def configure_optimizers(self) -> Any:
        """An optimiser of nothing, by which Lightning counts steps."""
        return torch.optim.SGD([torch.zeros(())], lr=0.0)
