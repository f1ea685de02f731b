"""A shape prior as a fit would have it, and the term that it adds to a step, without a trainer."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor

from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.training.step import Step


def prior_for(module: Any, shapes: Any, weight: float = 1.0) -> ShapePrior:
    """The prior with a model of shapes from memory, as it is when a fit of the module begins."""
    prior = ShapePrior(weight=weight)
    prior._model = shapes.eval()
    trainer: Any = SimpleNamespace()
    prior.setup(trainer, module, "fit")
    prior.on_fit_start(trainer, module)
    return prior


def with_shape(module: Any, output: Any, batch: dict[str, Tensor], *priors: ShapePrior) -> dict[str, Tensor]:
    """All terms of a training step: the module's own and those of the priors, averaged."""
    terms: dict[str, Tensor] = module.losses(output, batch)
    for prior in priors:
        found = prior.terms(Step(module, batch, output))
        terms |= {name: value.mean() for name, value in found.items()}
    return terms
