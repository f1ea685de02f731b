"""Mask-HybridGNet in training: losses of contours against masks."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.methods.maskhybridgnet.model import MaskHybridGNetModel
from anatozoo.nn import graphs, losses
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.nn.outline_losses import annealed, chamfer, curvature, elasticity, raster_loss, uneven_edges
from anatozoo.training.contours import ContourModule
from anatozoo.training.encoders import EncoderModule
from anatozoo.training.optim import Optim

SHAPE_TERMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "edges": uneven_edges,
    "elasticity": elasticity,
    "curvature": curvature,
}
"""Terms of the loss that look at a contour alone."""


class MaskHybridGNetModule(ContourModule, EncoderModule, MaskHybridGNetModel):
    """Mask-HybridGNet as a LightningModule.

    Each organ with an outline gives, at the final contour and at every one before it, a Chamfer distance to
    that outline and three terms of its own shape, and at the final contour the loss of its region; terms are
    means over organs and contours. Weights with two numbers go from the first to the second over
    `anneal_epochs`, see `anatozoo.nn.outline_losses.annealed`.

    Args:
        chamfer_weight: weight of the Chamfer distance.
        edge_weight: weight of unequal edges.
        elasticity_weight: weight of the squared edge lengths.
        curvature_weight: weight of the squared second differences.
        raster_weight: weight of cross-entropy and soft Dice of the drawn contours.
        raster_epoch: first epoch of that term: it does not find an organ that is elsewhere.
        dense_weight: weight of the loss of the refiner's auxiliary masks.
        anneal_epochs: epochs over which weights change; 0 has the second ones from the start on.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `MaskHybridGNetModel`, `anatozoo.training.contours.ContourModule` and
            `anatozoo.training.encoders.EncoderModule`.

    Raises:
        ConfigError: a weight is negative or no pair, or nothing draws the contours to the masks.
    """

    def __init__(
        self,
        *,
        chamfer_weight: list[float] = [1.0, 1.0],  # noqa: B006 - jsonargparse shows it, nothing changes it
        edge_weight: list[float] = [0.1, 0.1],  # noqa: B006
        elasticity_weight: list[float] = [0.1, 0.001],  # noqa: B006
        curvature_weight: list[float] = [0.1, 0.001],  # noqa: B006
        raster_weight: float = 1.0,
        raster_epoch: int = 0,
        dense_weight: float = 1.0,
        anneal_epochs: int = 0,
        optim: Optim = Optim("adam", 1e-4, 1e-6),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        pairs = {
            "chamfer_weight": chamfer_weight,
            "edge_weight": edge_weight,
            "elasticity_weight": elasticity_weight,
            "curvature_weight": curvature_weight,
        }
        for name, pair in pairs.items():
            if len(pair) != 2 or not all(0 <= value < math.inf for value in pair):
                raise ConfigError(f"{name}={pair} must be two numbers of at least 0, the first and the last.")
        for name, value in {
            "raster_weight": raster_weight,
            "raster_epoch": raster_epoch,
            "dense_weight": dense_weight,
            "anneal_epochs": anneal_epochs,
        }.items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name}={value} must be a number of at least 0.")
        if not chamfer_weight[1] and not raster_weight:
            raise ConfigError(
                "nothing draws the contours to the masks: give chamfer_weight or raster_weight above 0."
            )
        self.chamfer_weight, self.edge_weight = list(chamfer_weight), list(edge_weight)
        self.elasticity_weight, self.curvature_weight = list(elasticity_weight), list(curvature_weight)
        self.raster_weight, self.raster_epoch, self.dense_weight = raster_weight, raster_epoch, dense_weight
        self.anneal_epochs = anneal_epochs

    def losses(self, output: HybridGNetOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            output: of the network.
            batch: ``outlines`` (B, organs, P, 2) in [0, 1], ``drawn`` (B, organs) bool, which of them exist,
                ``masks`` (B, organs, s, s), shares of cells, and ``known`` (B, organs) bool, which of these
                exist.
        """
        share = self.current_epoch / self.anneal_epochs if self.anneal_epochs else 1.0
        weights = {
            "chamfer": annealed(self.chamfer_weight[0], self.chamfer_weight[1], share),
            "edges": annealed(self.edge_weight[0], self.edge_weight[1], share),
            "elasticity": annealed(self.elasticity_weight[0], self.elasticity_weight[1], share),
            "curvature": annealed(self.curvature_weight[0], self.curvature_weight[1], share),
        }
        outlines, drawn = batch["outlines"].float(), batch["drawn"].float()
        sums: dict[str, list[Tensor]] = {name: [] for name, weight in weights.items() if weight}
        for nodes in (*output.positions, output.landmarks):
            for organ, contour in self._contours_of(nodes.float()):
                for name, found in sums.items():
                    value = (
                        SHAPE_TERMS[name](contour)
                        if name in SHAPE_TERMS
                        else chamfer(contour, outlines[:, organ], delta=self.huber_delta)
                    )
                    found.append(losses.weighted_mean(value, drawn[:, organ]))
        terms = {name: weights[name] * torch.stack(found).mean() for name, found in sums.items()}
        if self.raster_weight and self.current_epoch >= self.raster_epoch:
            regions = [
                losses.weighted_mean(
                    raster_loss(contour + 0.5 / self.side, batch["masks"][:, organ]), drawn[:, organ]
                )
                for organ, contour in self._contours_of(output.landmarks.float())
            ]
            terms["raster"] = self.raster_weight * torch.stack(regions).mean()
        if output.dense is not None and self.dense_weight:
            where = batch["known"][:, :, None, None].to(output.dense.dtype).expand_as(output.dense)
            terms["dense"] = self.dense_weight * losses.dense_loss(output.dense, batch["masks"], where)
        return terms | self.kl_term(output) | self.uncrossing_term(output)

    def _contours_of(self, nodes: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Number and nodes (B, n, 2) of each organ, on the fine graph or on the coarse one."""
        fine = nodes.shape[1] == sum(self.organs.values())
        parts = self.parts if fine else graphs.organ_slices(graphs.coarse(self.organs))
        for number, part in enumerate(parts.values()):
            yield number, nodes[:, part]
