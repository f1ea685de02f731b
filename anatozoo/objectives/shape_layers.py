r"""Distances of label maps in layers of an autoencoder of shapes.

A code of few numbers describes pose and size, and is almost blind to small damage: an opened ring, a hole or
a stray part hardly change it. The maps of the encoder see these, for there a concentrated error counts more
than a border that lies elsewhere by a pixel. What the autoencoder would change sees them best, if it has
learned to undo damage: it follows a plausible change, and takes an implausible one away.

With x the prediction, y the truth, ∅ an empty map, g(f(.)) the reconstruction and w_l the weights::

    d(x, y) = Σ_l w_l ||h_l(x) - h_l(y)||² / ||h_l(y) - h_l(∅)||²  /  Σ_l w_l

    h_code = f,   h_level-k = map number k of the encoder,   h_residual(x) = x - g(f(x))

so that 1 is as far from the truth as an empty map is, in every layer. The scale of the residual is that of
the maps themselves, ||y - ∅||². No gradient passes through g(f(x)): the gradient of the residual draws each
voxel to where the autoencoder would put it, as in regularisation by denoising (Romano et al., SIAM J. Imaging
Sciences 10(4), 2017). Items without any organ have no scale and do not count.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError

CODE, LEVEL, RESIDUAL = "code", "level", "residual"
SMALLEST = 1.0
"""Squared distance from an empty map below which a map counts as empty: half a voxel of an organ."""


def layer_weights(layers: Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    """The weights of layers, which sum to 1.

    Args:
        layers: names that count alike, or a mapping to weights.

    Raises:
        ConfigError: a name is not that of a layer or comes twice, or weights are negative or all 0.
    """
    names = list(layers)
    known = re.compile(rf"{CODE}|{LEVEL}[1-9]\d*|{RESIDUAL}")
    weights = [float(w) for w in layers.values()] if isinstance(layers, Mapping) else [1.0] * len(names)
    wrong = [str(name) for name in names if not known.fullmatch(str(name))]
    if wrong or len(set(names)) < len(names):
        raise ConfigError(
            f"layers={names} of the shape prior: {', '.join(wrong) or 'a name'} "
            f"{'is no layer' if wrong else 'comes twice'}; layers are code, level1, level2, ... and residual."
        )
    if not names or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ConfigError(f"weights of the shape prior's layers must not be negative, nor all 0: {layers}.")
    return {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True) if weight}


def check_layers(layers: Mapping[str, float], model: Any) -> None:
    """Refuse layers that a shape model does not have.

    Raises:
        ConfigError: so it is; the message says which it has.
    """
    if not all(callable(getattr(model, name, None)) for name in ("levels", "rebuilt")):
        raise ConfigError(f"{type(model).__name__} has a code alone; leave layers of the shape prior out.")
    weight = next(model.parameters())
    empty = _empty(weight.new_zeros(1, 1 + len(model.organs), *model.frame.shape))
    with torch.no_grad():
        count = len(model.levels(empty))
    wrong = [name for name in layers if name.startswith(LEVEL) and int(name[len(LEVEL) :]) > count]
    if wrong:
        raise ConfigError(
            f"layers of the shape prior: {type(model).__name__} has level1 to level{count}, not "
            f"{', '.join(wrong)}."
        )


def layer_distances(code: Any, answer: Tensor, truth: Tensor, layers: Mapping[str, float]) -> Tensor:
    """The distance d of the module's equation, (B,), 0 for items without an organ.

    Args:
        code: a `anatozoo.objectives.shape_code.ShapeCode` of label maps.
        answer: (B, 1 + organs, ...) after the softmax, with a gradient.
        truth: one-hot of that shape.
        layers: weights by name, see `layer_weights`.
    """
    with torch.autocast(answer.device.type, enabled=False):
        found = code.fitted(answer)
        with torch.no_grad():
            right = code.fitted(truth)
            size = _squares(right - _empty(right))
            # The scale of the residual needs no empty map.
            scaled = set(layers) != {RESIDUAL}
            wanted = features(code.model, torch.cat([right, _empty(right[:1])]) if scaled else right, layers)
        total = found.new_zeros(len(found))
        for name, values in features(code.model, found, layers).items():
            aim, nothing = wanted[name][: len(found)], wanted[name][-1:]
            scale = size if name == RESIDUAL else _squares(aim - nothing)
            # An empty truth has no scale, and its layer's may be 0.
            share = _squares(values - aim) / torch.where(size > SMALLEST, scale, torch.inf)
            total = total + layers[name] * share
        return total


def implausibility(code: Any, answer: Tensor, truth: Tensor) -> Tensor:
    """What the autoencoder would change of predictions without a truth, (B,).

    ``||x - g(f(x))||² / mean ||y - ∅||²``, without a gradient through g(f(x)), where y are the truths of
    other images. The anatomy that g(f(x)) finds is no scale: it may be next to nothing. 0 if no y has an
    organ.

    Args:
        code: a `anatozoo.objectives.shape_code.ShapeCode` of label maps.
        answer: (B, 1 + organs, ...) after the softmax, with a gradient.
        truth: (N, 1 + organs, ...), one-hot, of the images with annotation.
    """
    with torch.autocast(answer.device.type, enabled=False):
        found, right = code.fitted(answer), code.fitted(truth)
        changes = features(code.model, found, (RESIDUAL,))[RESIDUAL]
        scale = _squares(right - _empty(right)).mean()
        return _squares(changes) / torch.where(scale > SMALLEST, scale, torch.inf)


def features(model: Any, maps: Tensor, layers: Sequence[str] | Mapping[str, float]) -> dict[str, Tensor]:
    """The values h_l (B, ...) of label maps in layers of a shape model.

    Args:
        model: the shape model.
        maps: (B, 1 + organs, ...) with its organs and resolution.
        layers: names of layers that it has.
    """
    found: dict[str, Tensor] = {}
    if any(name.startswith(LEVEL) for name in layers):
        levels = model.levels(maps)
        found = {f"{LEVEL}{number}": values for number, values in enumerate(levels, start=1)}
    if CODE in layers:
        found[CODE] = model.encode(maps)
    if RESIDUAL in layers:
        with torch.no_grad():
            rebuilt = model.rebuilt(maps).float().softmax(1)
        found[RESIDUAL] = maps - rebuilt
    return {name: found[name] for name in layers}


def _empty(like: Tensor) -> Tensor:
    """Label maps without an organ."""
    background = F.one_hot(torch.zeros((), dtype=torch.long, device=like.device), like.shape[1])
    return background.to(like.dtype).view(1, -1, *[1] * (like.ndim - 2)).expand_as(like)


def _squares(values: Tensor) -> Tensor:
    """Sums of squares (B,)."""
    return values.flatten(1).square().sum(1)
