r"""The shape prior of ACNN, for any network whose output is label maps or images.

Oktay et al., IEEE TMI 2018, equation 5: ``weight * ||f(answer) - f(truth)||²``, where f is the encoder of an
autoencoder of label maps or, for networks that give images, the predictor of a T-L network. The paper calls
the weight λ1. Beyond the paper, the distance may be taken in several layers of the autoencoder, and in what
it would change; see `anatozoo.objectives.shape_layers`.

With a fit of this package::

    anatozoo fit --config unet/jsrt.yaml --objectives+=ShapePrior \
        --objectives.source aenet-jsrt --objectives.weight 0.01

In a LightningModule of your own, `ShapePrior.on` gives the term. The trainer stores the prior with the
checkpoints if it is among its callbacks::

    prior = ShapePrior("aenet-jsrt", weight=0.01)

    def training_step(self, batch, batch_idx):
        logits = self(batch["image"])
        truth = one_hot(batch["labels"], 3)
        return cross_entropy(logits, batch["labels"]) + prior.on(logits.softmax(1), truth).mean()
"""

import math
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.nn.registration_losses import code_distances
from anatozoo.objectives.shape_code import ShapeCode
from anatozoo.objectives.shape_layers import (
    RESIDUAL,
    check_layers,
    implausibility,
    layer_distances,
    layer_weights,
)
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step
from anatozoo.training.weights import frozen, restored, stored


class ShapePrior(Objective):
    """Penalises implausible shapes by the distance between the codes of prediction and reference.

    Label maps are encoded by an autoencoder (a fit of ``acnnprior``, ``aenet``, ``acnntl`` or ``postdae``),
    images of a super-resolution network by a T-L network (a fit of ``acnntl``). Items whose annotation lacks
    an organ do not count.

    With `layers`, the distance is the weighted mean over layers, each in units of the truth's own distance
    from an empty map; see `anatozoo.objectives.shape_layers.layer_distances` for the equation. `unlabelled`
    adds what the autoencoder would change of the predictions for images without annotation, relative to the
    size of the anatomy of those with one.

    Args:
        source: the shape model: checkpoint name, folder or ``.ckpt`` file; read when a fit begins.
        weight: λ1, weight of the term; 0 switches it off.
        start: optimiser steps before the term counts. Early predictions are far from any shape; their codes
            say little and slow the training down.
        layers: ``"code"``, ``"level1"`` (the finest map of the encoder), ``"level2"``, ..., ``"residual"``
            (what the autoencoder would change), as a list, or as a mapping to weights. None is the code in
            its own units, as in the paper.
        unlabelled: weight of the predictions for images without annotation (``data.unlabelled``), in units of
            `weight`; it needs ``"residual"`` among the layers.

    Raises:
        ConfigError: a weight or the start is negative, or a layer is unknown.
    """

    sources: ClassVar[frozenset[str]] = frozenset({"source"})

    def __init__(
        self,
        source: str | None = None,
        weight: float = 1.0,
        start: int = 0,
        layers: list[str] | dict[str, float] | None = None,
        unlabelled: float = 0.0,
    ) -> None:
        if not 0 <= weight < math.inf or start < 0:
            raise ConfigError(
                f"weight={weight} and start={start} of the shape prior must be finite and not negative."
            )
        self.source, self.weight, self.start = source, weight, start
        self.layers = None if layers is None else layer_weights(layers)
        self.unlabelled = unlabelled
        self.needs = frozenset({"unlabelled"} if unlabelled else ())
        if not 0 <= unlabelled < math.inf or (unlabelled and RESIDUAL not in (self.layers or ())):
            raise ConfigError(
                f"unlabelled={unlabelled} of the shape prior must not be negative, and needs residual among "
                "the layers: without a truth, nothing else says what is wrong."
            )
        self._model: Any = None
        self._code: ShapeCode | None = None
        self._answers: dict[str, Any] = {}

    @property
    def model(self) -> Any:
        """The frozen shape model, read on first use."""
        if self._model is None:
            if not self.source:
                raise ConfigError(
                    "the shape prior needs a source, an autoencoder of label maps or a T-L network: a "
                    "checkpoint name, a folder or the .ckpt file of a fit, by --objectives.source."
                )
            self._model = frozen(self.source, "encode")
        return self._model

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Note what the module predicts.

        Raises:
            ConfigError: it predicts neither label maps nor images.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "fit" or not self.weight or not hasattr(pl_module, "offers"):
            return
        if not {"maps", "images"} & pl_module.offers:
            raise ConfigError(
                f"the shape prior compares label maps or images; {type(pl_module).__name__} gives none."
            )
        organs = getattr(pl_module, "organs", None)
        if self.layers is not None and "maps" not in pl_module.offers:
            raise ConfigError(
                "layers of the shape prior are those of an autoencoder of label maps; leave layers out for "
                f"{type(pl_module).__name__}, which gives images."
            )
        self._code = None
        self._answers = {
            "of_images": "maps" not in pl_module.offers,
            "organs": None if organs is None else list(organs),
            "frame": pl_module.frame,
        }

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Read the model, unless it came with the checkpoint of a resumed fit.

        Raises:
            ConfigError: it cannot encode the module's output, or has other organs or another frame.
        """
        if self._answers:
            self._code = ShapeCode(self.model, **self._answers)
            if self.layers is not None:
                check_layers(self.layers, self.model)

    def terms(self, step: Step) -> dict[str, Tensor]:
        """``shape``: the weighted distance of each item whose organs are all annotated.

        With `unlabelled`, ``shape_unlabelled`` of each image without annotation as well.
        """
        if not self.weight or step.number < self.start:
            return {}
        if self._answers["of_images"]:
            return {"shape": self.on(step.images.found, step.images.truth)}
        found = {"shape": self.on(step.maps.probability, step.maps.truth, step.maps.complete)}
        if self.unlabelled and self._code is not None:
            answer = step.unlabelled.maps.probability
            share = implausibility(self._code.to(answer.device), answer, step.maps.truth)
            found["shape_unlabelled"] = self.weight * self.unlabelled * share
        return found

    def on(self, answer: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
        """The weighted squared distance of the codes, (items,).

        Args:
            answer: (B, 1 + organs, ...) after the softmax, or images (B, 1, ...).
            truth: one-hot of that shape, or images.
            known: (B,) bool, true for items whose organs are all annotated; others do not count. None is all.
        """
        if self._code is None:
            self._code = ShapeCode(self.model, **self._answers or {"of_images": answer.shape[1] == 1})
        code = self._code.to(answer.device)
        if known is not None:
            if not bool(known.any()):
                return answer.sum()[None] * 0
            answer, truth = answer[known], truth[known]
        if self.layers is not None:
            return self.weight * layer_distances(code, answer, truth, self.layers)
        with torch.no_grad():
            target = code(truth)
        return self.weight * code_distances(code(answer), target)

    def state_dict(self) -> dict[str, Any]:
        """The frozen model, so that a resumed fit does not depend on its source."""
        return {} if self._model is None else stored(self._model)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the model of the checkpoint."""
        if state_dict:
            self._model, self._code = restored(state_dict, "the shape prior"), None
