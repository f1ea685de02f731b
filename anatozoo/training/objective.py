"""Training ideas that any method can take: callbacks that add terms to the loss."""

from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.training.step import Step

VIEWS = frozenset({"maps", "points", "images"})
"""What a module may offer; all else that an objective needs comes with the batches."""


class Objective(L.Callback):
    """A term of the loss that is not the method's own: a prior, a regulariser, a way to use unlabelled data.

    Trainers take it like any callback, and ``--objectives`` and the block ``objectives:`` of a configuration
    name it. What it remembers and its frozen models are in its `state_dict`, so in the training checkpoint
    alone: never among the module's weights or settings.

    Attributes:
        needs: of ``"maps"``, ``"points"``, ``"images"``, ``"domain"``, ``"unlabelled"``.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Check, before a fit, that the module gives what is needed.

        Raises:
            ConfigError: it does not; the message says what.
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
        """Weighted terms of the loss by name: one value per image (B,), or a scalar; the module averages."""
        return {}

    def backward(self, step: Step, terms: Mapping[str, Tensor]) -> bool:
        """Set the gradients in place of backpropagation.

        Args:
            step: the step.
            terms: all terms of the loss, averaged.

        Returns:
            Whether it has; at most one objective of a fit may.
        """
        return False
