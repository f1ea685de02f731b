"""One training step as objectives see it: the batch, the network's answer, and what both say."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.tasks.base import Predictor
from anatozoo.tasks.views import Images, Maps, Points


@dataclass(frozen=True, eq=False)
class Step:
    """A training step.

    Args:
        module: the module that is trained.
        batch: the batch.
        output: the network's answer to it.
        number: optimiser steps before this one.
    """

    module: Predictor
    batch: Mapping[str, Tensor]
    output: Any
    number: int = 0

    @cached_property
    def maps(self) -> Maps:
        """Label maps, found and true, 2-D or 3-D, also drawn from contours.

        Raises:
            ConfigError: the module gives none.
        """
        return self._view("maps")

    @cached_property
    def points(self) -> Points:
        """Landmarks, found and true.

        Raises:
            ConfigError: the module gives none.
        """
        return self._view("points")

    @cached_property
    def images(self) -> Images:
        """Images, found and true, of a module that gives images.

        Raises:
            ConfigError: the module gives none.
        """
        return self._view("images")

    @property
    def domain(self) -> Tensor:
        """(B,) number of the data set or site of each item.

        Raises:
            ConfigError: the data does not say.
        """
        return self._of_batch("domain")

    @property
    def labelled(self) -> Tensor:
        """(B,) bool, whether an item has a truth; the rest are unlabelled.

        Raises:
            ConfigError: the data does not say.
        """
        return self._of_batch("labelled")

    @cached_property
    def unlabelled(self) -> "Step":
        """The images without annotation that came with the batch, answered when this is first asked for.

        Raises:
            ConfigError: there are none.
        """
        module, batch = cast(Any, self.module), cast(Any, self._of_batch("unlabelled"))
        return Step(module, batch, module.answer(batch), self.number)

    def _view(self, name: str) -> Any:
        if name not in self.module.offers:
            raise ConfigError(f"{type(self.module).__name__} gives no {name}, which an objective needs.")
        return getattr(self.module, name)(self.output, self.batch)

    def _of_batch(self, name: str) -> Tensor:
        if name not in self.batch:
            raise ConfigError(f"the batches hold no {name!r}, which an objective needs.")
        return self.batch[name]
