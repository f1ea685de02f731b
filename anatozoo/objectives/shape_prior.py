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
from collections.abc import Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.registration_losses import code_distances
from anatozoo.objectives.shape_layers import (
    RESIDUAL,
    check_layers,
    implausibility,
    layer_distances,
    layer_weights,
)
from anatozoo.organs import parts_of
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step
from anatozoo.training.weights import frozen, restored, stored


class ShapeCode(nn.Module):
    """Codes of a network's output, adapted to the classes and the resolution of a shape model.

    The shape model is frozen and always stays in evaluation mode; gradients pass through it. A network of
    another resolution may use it if both frames have the same proportions, or the same number of slices with
    the same proportions: maps are then averaged or interpolated to its resolution. If the model has ``lungs``
    or ``clavicles`` and the network each side, the sides are joined.

    Args:
        model: has ``encode``, codes (B, K) of one-hot or soft labels (B, 1 + organs, ...), or
            ``encode_image``, codes of images (B, 1, ...).
        of_images: the input is images, not label maps.
        organs: the network's organs, in the order of its channels; None takes the model's.
        frame: the network's frame; None does not compare it with the model's.

    Raises:
        ConfigError: organs or frame of network and model differ.
    """

    merge: Tensor | None

    def __init__(
        self,
        model: Any,
        *,
        of_images: bool = False,
        organs: Sequence[str] | None = None,
        frame: FrameSpec | None = None,
    ) -> None:
        super().__init__()
        if of_images and not hasattr(model, "encode_image"):
            raise ConfigError(
                f"{type(model).__name__} knows label maps alone; a network that gives images needs a T-L "
                "network."
            )
        if frame is not None:
            check_shape(model.frame.shape, frame.shape)
            check_view(field_of_view(model.frame), field_of_view(frame))
        table = None
        if organs is not None and not of_images:
            table = merging(list(organs), list(model.organs))
        same = table is None or torch.equal(table, torch.eye(len(table)))
        self.register_buffer("merge", None if same else table, persistent=False)
        self.of_images = of_images
        self.model = model.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "ShapeCode":
        """Stay in evaluation mode: batch statistics of predictions must not change the codes."""
        return super().train(False)

    def forward(self, answer: Tensor) -> Tensor:
        """Codes (B, K) in float32.

        Args:
            answer: one-hot or soft labels (B, 1 + organs, ...), background first; or images (B, 1, ...),
                clipped to [0, 1].
        """
        # Codes are differences of many numbers: rounding in half precision would hide them.
        with torch.autocast(answer.device.type, enabled=False):
            if self.of_images:
                values = answer.float().clamp(0, 1)
                codes: Tensor = self.model.encode_image(fit_to(values, self.model.frame.shape))
                return codes
            codes = self.model.encode(self.fitted(answer))
            return codes

    def fitted(self, answer: Tensor) -> Tensor:
        """Label maps (B, 1 + organs, ...) with the organs and the resolution of the model, float32."""
        values = answer.float()
        if self.merge is not None:
            values = torch.einsum("kc,bc...->bk...", self.merge, values)
        return fit_to(values, self.model.frame.shape)


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
        if weight < 0 or start < 0:
            raise ConfigError(f"weight={weight} and start={start} of the shape prior must not be negative.")
        self.source, self.weight, self.start = source, weight, start
        self.layers = None if layers is None else layer_weights(layers)
        self.unlabelled = unlabelled
        self.needs = frozenset({"unlabelled"} if unlabelled else ())
        if unlabelled < 0 or (unlabelled and RESIDUAL not in (self.layers or ())):
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


def merging(organs: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """How a network's channels make up a model's, (1 + wanted, 1 + organs) of zeros and ones.

    Args:
        organs: those of the network.
        wanted: those of the model; ``lungs`` and ``clavicles`` may stand for both sides.

    Raises:
        ConfigError: an organ of one is not among the other's.
    """
    table = torch.zeros(1 + len(wanted), 1 + len(organs))
    table[0, 0] = 1
    whole = True
    for row, name in enumerate(wanted, start=1):
        parts = (name,) if name in organs else parts_of(name)
        whole = whole and all(part in organs for part in parts)
        for part in parts:
            if part in organs:
                table[row, 1 + list(organs).index(part)] = 1
    if not whole or not bool((table.sum(0) == 1).all()):
        raise ConfigError(
            f"the shape prior knows {', '.join(wanted)}, the network {', '.join(organs)}; both must be the "
            "same organs."
        )
    return table


def fit_to(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Maps (B, C, ...) at another resolution: averaged where that is coarser, interpolated where finer."""
    size = tuple(maps.shape[2:])
    if size == tuple(shape):
        return maps
    coarser = all(theirs <= ours for theirs, ours in zip(shape, size, strict=True))
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(maps, tuple(shape), mode="area" if coarser else mode)


def check_shape(model: Sequence[int], network: Sequence[int]) -> None:
    """Refuse frames of different dimensions or proportions; volumes may have as many slices in both.

    Args:
        model: shape of the frame of what knows shapes.
        network: the same of the network that learns from it.

    Raises:
        ConfigError: they differ.
    """
    same = len(model) == len(network) and _proportions(model) == _proportions(network)
    same_slices = len(model) == len(network) == 3 and model[0] == network[0]
    if not same and not (same_slices and _proportions(model[1:]) == _proportions(network[1:])):
        raise ConfigError(
            f"the shape prior sees {' x '.join(map(str, model))} pixels, the network "
            f"{' x '.join(map(str, network))}; both need the same number of dimensions and the same "
            "proportions."
        )


def field_of_view(frame: FrameSpec) -> str:
    """What a frame shows of an image, in words that are the same where the view is."""
    if frame.fit == "spacing":
        steps = frame.spacing_mm or ()
        sizes = [f"{side * step:g}" for side, step in zip(frame.shape[::-1], steps, strict=True)]
        return f"{' x '.join(sizes)} mm"
    if frame.fit == "slices":
        share = 100 * frame.shape[-1] / (frame.long_side or 1)
        return f"{frame.shape[0]} slices, {share:.3g} % of their longer side"
    # What padding shows beside the image depends on the frame's proportions.
    return (
        f"the whole image ({' : '.join(map(str, _proportions(frame.shape)))})"
        if frame.fit == "pad"
        else "the whole image"
    )


def _proportions(shape: Sequence[int]) -> tuple[int, ...]:
    """The sides in lowest terms."""
    common = math.gcd(*shape)
    return tuple(side // common for side in shape)


def check_view(model: str, network: str) -> None:
    """Refuse frames that show different parts of an image, as `field_of_view` tells them.

    Raises:
        ConfigError: they differ.
    """
    if model != network:
        raise ConfigError(
            f"the shape prior sees {model}, the network {network}; both need the same field of view."
        )
