"""A callback that logs how much each term of the loss pulls at the weights."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, distributed

from anatozoo.errors import ConfigError
from anatozoo.training.module import ZooModule
from anatozoo.training.objective import flat_gradient


class GradientShare(L.Callback):
    """Logs ``train/share/NAME``, the share of each term in the sum of the gradients' norms.

    The norm is that of the gradient that the optimiser would get of the term alone: over all trained weights,
    averaged over processes, summed over the batches that are accumulated, before any clipping. A term whose
    share is far from those of the others either does nothing or drowns them.

    Each logged step has one more backward pass for each term; others cost nothing. Gradients themselves are
    as without the callback.

    Args:
        every: optimiser steps from one that is logged to the next, from the first step on.

    Raises:
        ConfigError: `every` is below 1, or the module has no terms, because it is not a `ZooModule`.
    """

    def __init__(self, every: int = 50) -> None:
        if every < 1:
            raise ConfigError(f"GradientShare's every={every} must be at least 1.")
        self.every = every
        self._sums: dict[str, Tensor] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that the module has terms.

        Raises:
            ConfigError: it has none.
        """
        if not isinstance(pl_module, ZooModule):
            raise ConfigError(
                f"GradientShare needs the terms of the loss, which {type(pl_module).__name__} does not name; "
                "it works with modules on ZooModule."
            )

    def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Add up the gradient of each term, while the graph of the step is there."""
        if trainer.global_step % self.every:
            return
        weights = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
        for name, term in pl_module.current_terms.items():
            found = flat_gradient(term, weights)[0] / trainer.accumulate_grad_batches
            self._sums[name] = self._sums[name] + found if name in self._sums else found

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Log the shares of the step that the optimiser is about to take."""
        if not self._sums:
            return
        names = sorted(self._sums)
        if distributed.is_available() and distributed.is_initialized():
            for name in names:
                distributed.all_reduce(self._sums[name])
        norms = torch.stack([self._sums[name].norm() for name in names])
        shares = norms / norms.sum().clamp_min(torch.finfo(norms.dtype).tiny)
        pl_module.log_dict({f"train/share/{name}": s for name, s in zip(names, shares, strict=True)})
        self._sums = {}
