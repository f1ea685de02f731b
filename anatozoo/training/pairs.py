"""Training of registration models: label loss, and starting weights independent of the organs."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.nn.registration_losses import label_cross_entropy, label_dice_loss
from anatozoo.tasks.views import Maps
from anatozoo.training.module import ZooModule
from anatozoo.training.step import Step

LabelLoss = Literal["cross_entropy", "dice"]


class PairModule(ZooModule):
    """A registration model in training.

    Args:
        label_loss: ``"cross_entropy"`` or ``"dice"``.
        label_weight: weight of the label loss; 0 trains without labels.
        **settings: see `ZooModule`.

    Raises:
        ConfigError: settings that contradict one another.
    """

    organs: list[str]

    def __init__(
        self, *, label_loss: LabelLoss = "cross_entropy", label_weight: float = 1.0, **settings: Any
    ) -> None:
        super().__init__(**settings)
        if label_weight < 0:
            raise ConfigError(f"label_weight={label_weight} must not be negative.")
        self.label_loss, self.label_weight = label_loss, label_weight

    def setup(self, stage: str) -> None:
        """Before a fit, check its settings and load its starting weights.

        Raises:
            ConfigError: the label loss has a weight, but no organs are given.
        """
        if stage == "fit" and self.label_weight and not self.organs:
            raise ConfigError("label_weight needs organs; set it to 0 to compare images alone.")
        super().setup(stage)

    def answer(self, batch: Mapping[str, Tensor]) -> Any:
        """The registration of the batch's ``moving`` to its ``fixed``."""
        return self(batch["moving"], batch["fixed"])

    def own_terms(self, step: Step) -> dict[str, Tensor]:
        """The terms of a step, computed on the warped labels that objectives receive."""
        return self.losses(step.output, step.batch, step.maps if self.label_weight else None)

    def losses(self, output: Any, batch: Mapping[str, Tensor], maps: Maps | None = None) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            output: the network's output.
            batch: ``moving`` and ``fixed`` (B, 1, ...) in [0, 1]; for the label loss ``moving_labels`` and
                ``fixed_labels`` (B, ...).
            maps: warped and fixed labels, if computed already; None takes them from the batch.
        """
        raise TypeError(f"{type(self).__name__} does not define losses.")

    def label_terms(self, output: Any, batch: Mapping[str, Tensor], maps: Maps | None) -> dict[str, Tensor]:
        """``label``: the weighted loss of warped against fixed labels; empty if its weight is 0.

        Labels are warped linearly, one channel each, so that their gradient reaches the network.

        Args:
            output: the network's output.
            batch: ``moving_labels`` and ``fixed_labels`` (B, ...).
            maps: as for `losses`.
        """
        if not self.label_weight:
            return {}
        maps = maps or self.maps(output, batch)  # type: ignore[operator]
        agreement = label_cross_entropy if self.label_loss == "cross_entropy" else label_dice_loss
        return {"label": self.label_weight * agreement(maps.probability, maps.truth)}

    def adapted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Starting weights, for any organs: the network registers images."""
        own = self.state_dict()
        wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
        wrong += [k for k in state if k not in own]
        if wrong:
            raise ConfigError(
                f"init_weights={self.init_weights} is of another network: {len(wrong)} tensors differ, "
                f"first {wrong[0]!r}."
            )
        return state
