"""Objectives: callbacks that add terms to the loss of any method."""

from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.training.step import Step

VIEWS = frozenset({"maps", "points", "images"})
"""What a module may offer; everything else that an objective needs is in the batches."""


class Objective(L.Callback):
    """A further term of the loss: a prior, a regulariser, or a use of unlabelled data.

    Trainers take it like any callback; ``--objectives`` and the block ``objectives:`` of a configuration
    name it. Its state and its frozen models are in its `state_dict`, hence in the training checkpoint, but
    never among the module's weights or settings.

    Attributes:
        needs: of ``"maps"``, ``"points"``, ``"images"``, ``"domain"``, ``"unlabelled"``.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Check, before a fit, that the module offers what the objective needs.

        Raises:
            ConfigError: it does not; the message says what is missing.
        """
        if stage != "fit":
            return
        missing = sorted((self.needs & VIEWS) - getattr(pl_module, "offers", frozenset()))
        if missing:
            raise ConfigError(
                f"objective {type(self).__name__} needs {', '.join(missing)}, which "
                f"{type(pl_module).__name__} does not give."
            )

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Weighted terms of the loss by name: (B,), which the module averages, or a scalar."""
        return {}

    def backward(self, step: Step, terms: Mapping[str, Tensor]) -> bool:
        """Set the gradients instead of backpropagation.

        Args:
            step: the step.
            terms: all terms of the loss, averaged.

        Returns:
            Whether it set them; at most one objective of a fit may.
        """
        return False
