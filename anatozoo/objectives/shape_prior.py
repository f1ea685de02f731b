"""The shape loss of ACNN, for any network that segments: distance of codes of prediction and truth.

A segmentation module takes it in four lines, in 2-D or 3-D::

    self.shape_prior = PriorSlot()                                  # in configure_network
    self.shape_prior.fill(h.shape_prior, h.shape_weight, labels=..., shape=...)  # in setup("fit")
    if self.shape_prior.filled:                                     # in losses
        terms["shape"] = self.shape_prior(logits.softmax(1), one_hot(labels, classes))

The loss is a tool of training, like the images: its weights are no part of the module's state dict.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.io.annotation import parts_of
from anatozoo.nn.registration_losses import code_distance
from anatozoo.training.weights import read_hparams, read_weights
from anatozoo.zoo.kinds import CODES
from anatozoo.zoo.registry import find_method


class ShapeModel(Protocol):
    """What a module that knows shapes has: `AcnnPriorModule`, `AeNetModule`, or another one like them."""

    labels: list[str]
    shape: tuple[int, ...]

    @property
    def hparams(self) -> Any:
        """Its settings: ``fit``, and ``spacing_mm`` or ``long_side`` where the fit has one."""

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...)."""


class ShapePrior(nn.Module):
    """``weight * ||f(prediction) - f(truth)||²``, summed over the code and averaged over the batch.

    Equation 5 of Oktay et al., IEEE TMI 2018, where the weight is λ1. The encoder f is frozen and stays in
    evaluation mode, whatever is asked of this module; the gradient goes through it to the prediction.

    A segmenter of another resolution may use the model if both frames have the same proportions, or as many
    slices of the same proportions: probabilities and labels are then averaged or interpolated to the model's.
    Where the model has ``lungs`` or ``clavicles`` and the segmenter each side, the sides are put together.

    Args:
        model: gives the codes, for example a fitted `AcnnPriorModule` or `AeNetModule`.
        weight: λ1.
        labels: names of the segmenter's foreground classes, in the order of its channels; None takes the
            model's.
        shape: (H, W) or (D, H, W) of what the segmenter gives; None takes the model's.
        frame: how the segmenter's images get into its frame: ``fit``, and ``spacing_mm`` or ``long_side``
            where the fit has one; None does not compare it with the model's.

    Raises:
        ConfigError: the weight is negative, or the segmenter's classes or frame are not the model's.
    """

    merge: Tensor

    def __init__(
        self,
        model: ShapeModel,
        weight: float,
        *,
        labels: Sequence[str] | None = None,
        shape: Sequence[int] | None = None,
        frame: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"shape_weight={weight} must not be negative.")
        if not isinstance(model, nn.Module):
            raise ConfigError(f"a shape prior needs a torch module, not {type(model).__name__}.")
        self.weight = weight
        self.shape = tuple(model.shape)
        ours = self.shape if shape is None else tuple(shape)
        check_shape(self.shape, ours)
        if frame is not None:
            check_view(field_of_view(self.shape, model.hparams), field_of_view(ours, frame))
        merge = merging(list(model.labels if labels is None else labels), list(model.labels))
        self.register_buffer("merge", merge, persistent=False)
        self._merges = not torch.equal(merge, torch.eye(len(merge)))
        self.model: Any = model
        self.model.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "ShapePrior":
        """Stay in evaluation mode: batch statistics of predictions must not change what a shape is."""
        return super().train(False)

    def code(self, probability: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...), in float32.

        Args:
            probability: the segmenter's channels, background first.
        """
        # Codes are differences of many numbers: half precision would drown them in rounding.
        with torch.autocast(probability.device.type, enabled=False):
            maps = probability.float()
            if self._merges:
                maps = torch.einsum("kc,bc...->bk...", self.merge, maps)
            result: Tensor = self.model.encode(fit_to(maps, self.shape))
        return result

    def forward(self, probability: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
        """The weighted loss, a scalar.

        Args:
            probability: (B, C, ...) of the prediction, after the softmax.
            truth: (B, C, ...), one-hot.
            known: (B,) bool, which items have a truth for every class; the others do not count. None takes
                all of them.
        """
        if known is not None:
            if not bool(known.any()):
                return probability.sum() * 0
            probability, truth = probability[known], truth[known]
        with torch.no_grad():
            target = self.code(truth)
        return self.weight * code_distance(self.code(probability), target)


class PriorSlot:
    """Where a module keeps its shape prior: outside its parameters, its state dict and its checkpoints.

    Which prior it was is in the module's hyper-parameters; a prediction needs none.
    """

    def __init__(self) -> None:
        self._prior: ShapePrior | None = None

    @property
    def filled(self) -> bool:
        """Whether there is a prior."""
        return self._prior is not None

    @property
    def prior(self) -> ShapePrior:
        """The prior.

        Raises:
            ConfigError: there is none yet.
        """
        if self._prior is None:
            raise ConfigError("the shape term has no shape prior; give one by use_shape_prior().")
        return self._prior

    def fill(
        self,
        source: str | None,
        weight: float,
        *,
        labels: Sequence[str],
        shape: Sequence[int],
        frame: Mapping[str, Any] | None = None,
    ) -> None:
        """Read the prior that a fit needs, unless there is one already or its weight is 0.

        Args:
            source: checkpoint name, folder or ``.ckpt`` file of an autoencoder of label maps.
            weight: λ1.
            labels: the segmenter's foreground classes.
            shape: the shape of its answer.
            frame: how its images get into its frame, see `ShapePrior`.

        Raises:
            ConfigError: there is a weight without a source, or the prior does not fit.
        """
        if self.filled or not weight:
            return
        if not source:
            raise ConfigError(
                f"shape_weight={weight} needs shape_prior, an autoencoder of label maps: a checkpoint name, "
                "a folder or the .ckpt file of a fit; for a fit without it set shape_weight to 0."
            )
        model = load_shape_model(source)
        self.put(ShapePrior(model, weight, labels=labels, shape=shape, frame=frame))

    def put(self, prior: ShapePrior) -> None:
        """Take this prior."""
        self._prior = prior

    def __call__(self, probability: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
        """The prior's loss, on the device of the prediction; see `ShapePrior.forward`."""
        self._prior = self.prior.to(probability.device)
        loss: Tensor = self._prior(probability, truth, known)
        return loss


def load_shape_model(source: str) -> Any:
    """A module that knows shapes, from a checkpoint name, a folder or a ``.ckpt`` file.

    Raises:
        ConfigError: it does not exist, or is of a method that gives no codes of label maps.
    """
    method, _ = read_hparams(source)
    entry = find_method(method)
    kind = entry.module_class()
    if entry.kind is not CODES or not hasattr(kind, "encode"):
        raise ConfigError(
            f"{source} is a {entry.title} checkpoint, which gives no codes of label maps; shape_prior takes "
            "an autoencoder of them, such as a fit of acnnprior/acdc.yaml or aenet/jsrt.yaml."
        )
    state, hparams = read_weights(source, method)
    module = kind(**hparams)
    own = module.state_dict()
    module.load_state_dict({k: v.to(own[k].dtype) if k in own else v for k, v in state.items()})
    return module.eval()


def merging(labels: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """How a segmenter's channels make up a model's, (1 + wanted, 1 + labels) of zeros and ones.

    Args:
        labels: foreground classes of the segmenter.
        wanted: foreground classes of the model; ``lungs`` and ``clavicles`` may stand for both sides.

    Raises:
        ConfigError: a class of one is not among the other's.
    """
    table = torch.zeros(1 + len(wanted), 1 + len(labels))
    table[0, 0] = 1
    for row, name in enumerate(wanted, start=1):
        for part in (name,) if name in labels else parts_of(name):
            if part in labels:
                table[row, 1 + list(labels).index(part)] = 1
    whole = all(name in labels or all(part in labels for part in parts_of(name)) for name in wanted)
    if not whole or not bool((table.sum(0) == 1).all()):
        raise ConfigError(
            f"the shape prior knows {', '.join(wanted)}, the segmenter {', '.join(labels)}; both must be the "
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


def field_of_view(shape: Sequence[int], frame: Mapping[str, Any]) -> str:
    """What a frame shows of an image, in words that are the same where the view is.

    Args:
        shape: (H, W) or (D, H, W).
        frame: ``fit``, and ``spacing_mm`` or ``long_side`` where the fit has one.
    """
    fit = frame["fit"]
    if fit == "spacing":
        sizes = [f"{side * step:g}" for side, step in zip(shape[::-1], frame["spacing_mm"], strict=True)]
        return f"{' x '.join(sizes)} mm"
    if fit == "slices":
        return f"{shape[0]} slices, {100 * shape[-1] / frame['long_side']:.3g} % of their longer side"
    # What padding shows beside the image depends on the frame's proportions.
    return (
        f"the whole image ({' : '.join(map(str, _proportions(shape)))})"
        if fit == "pad"
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
