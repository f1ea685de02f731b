"""HybridVNet in training."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.methods.hybridvnet.model import HybridVNetModel
from anatozoo.methods.hybridvnet.network import UNIT
from anatozoo.nn.labels import one_hot
from anatozoo.nn.losses import kl_divergence
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim

Output = tuple[list[Tensor], ...]


class HybridVNetModule(ZooModule, HybridVNetModel):
    """HybridVNet as a LightningModule.

    Mean squared errors of the vertices and, for each level of the decoder, of its own; KL divergence; and the
    roughness of the error, by the uniform Laplacian of the mesh. Errors are in units of a twentieth of the
    frame. A new fit takes the mean of the training's vertices first.

    Args:
        level_weight: weight of the errors of the levels, 1 in the paper.
        kl_weight: weight of the KL divergence. In the paper 1e-5 for errors in units of the frame, which
            is 4e-3 here.
        label_weight: weight of the cross-entropy of the soft label maps. Not part of the paper.
        laplacian_weight: weight of the squared roughness. The paper takes that of the mesh, by cotangents,
            with 0.01; that of the error flattens no heart.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `HybridVNetModel` and `ZooModule`.

    Raises:
        ConfigError: a weight is negative.
    """

    extra_links: ClassVar[Mapping[str, str]] = {"rings": "rings", "angles": "angles"}

    def __init__(
        self,
        *,
        level_weight: float = 1.0,
        kl_weight: float = 1e-3,
        label_weight: float = 5.0,
        laplacian_weight: float = 1.0,
        optim: Optim = Optim("adam", 1e-3, 1e-5, schedule="cosine"),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        self.level_weight, self.kl_weight = level_weight, kl_weight
        self.label_weight, self.laplacian_weight = label_weight, laplacian_weight
        for name in ("level_weight", "kl_weight", "label_weight", "laplacian_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)} must be a number of at least 0.")

    @property
    def encoder_part(self) -> nn.Module:
        """The network's contracting part."""
        return self.network.encoder

    def on_fit_start(self) -> None:
        """Take the mean of the training's meshes, unless a run goes on or starts from weights."""
        if not self.trainer.ckpt_path and not self.init_weights:
            vertices: Tensor = self.trainer.datamodule.training_vertices()  # type: ignore[attr-defined]
            self.network.take_mean(vertices.to(self.device))

    def answer(self, batch: Mapping[str, Tensor]) -> Output:
        """Vertices, final ones first, then those of each level; mean and log-variance; logits of labels."""
        found: Output = self.network(batch["image"], batch.get("views"))
        return found

    def losses(self, output: Output, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised."""
        (final, *levels), (mu, logvar), [logits] = output
        truth = batch["vertices"]
        error = (final - truth) / UNIT
        pairs = zip(levels, self.network.coarser(truth), strict=True)
        of_levels = torch.stack([((found - wanted) / UNIT).square().mean() for found, wanted in pairs]).sum()
        wanted = one_hot(batch["labels"].long(), 1 + len(self.organs))
        depth, height, width = logits.shape[2:]
        shares = F.adaptive_avg_pool3d(wanted, (depth, height, width))
        return {
            "vertices": error.square().mean(),
            "levels": self.level_weight * of_levels,
            "kl": self.kl_weight * kl_divergence(mu, logvar),
            "labels": self.label_weight * F.cross_entropy(logits.float(), shares),
            "laplacian": self.laplacian_weight * self.network.roughness(error).square().mean(),
        }
