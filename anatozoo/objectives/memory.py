"""What an objective remembers of the label maps of each case, from visit to visit."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anatozoo.errors import ConfigError


class Memory:
    """The exponential mean of the label maps that a network found in each case, in their frame.

    After t visits it is ``(1 - α) / (1 - α^t) · Σ α^(t - s) p_s``: the mean without the bias towards 0 that
    an empty start brings. It is kept as that, not as the biased sum, so that 16 bits are enough: the organs
    alone, in float16, to within 5e-4; the background is the rest.

    Args:
        cases: names of the cases, in the order of their index.
        alpha: α, the share of the past; 0 remembers the last visit alone.
    """

    def __init__(self, cases: Sequence[str], alpha: float) -> None:
        self.alpha = alpha
        self.cases = hashlib.sha256("\n".join(cases).encode()).hexdigest()
        self.visits = torch.zeros(len(cases), dtype=torch.int32)
        self.organs: Tensor | None = None

    def recall(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        """What is remembered of some cases; None before the first visit of any.

        Args:
            index: (B,) of the cases.

        Returns:
            (B, 1 + organs, ...) float32, background first, and (B,) bool, false where a case is new.
        """
        if self.organs is None:
            return None
        organs = self.organs[index.to(self.organs.device)].float()
        background = (1 - organs.sum(1, keepdim=True)).clamp_min(0)
        return torch.cat([background, organs], 1), self.visits[index.cpu()] > 0

    def take(self, index: Tensor, found: Tensor) -> None:
        """Remember a visit of some cases, in their order.

        Args:
            index: (B,) of the cases; one that comes twice counts twice.
            found: organs of their label maps (B, organs, ...), without background.
        """
        if self.organs is None:
            self.organs = found.new_zeros(len(self.visits), *found.shape[1:], dtype=torch.float16)
        self.organs = self.organs.to(found.device)
        for place, maps in zip(index.tolist(), found.float(), strict=True):
            self.visits[place] += 1
            share = (1 - self.alpha) / (1 - self.alpha ** int(self.visits[place]))
            self.organs[place] = torch.lerp(self.organs[place].float(), maps, share).half()

    def state_dict(self) -> dict[str, Any]:
        """All of it, and which cases it is of."""
        state = {"cases": self.cases, "visits": self.visits.clone()}
        return state if self.organs is None else state | {"organs": self.organs.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the memory of a fit that goes on.

        Raises:
            ConfigError: it is of other cases, or of the same ones in another order.
        """
        if state["cases"] != self.cases:
            raise ConfigError(
                f"the fit that is to go on remembers {len(state['visits'])} unlabelled cases that are not "
                f"the {len(self.visits)} of this data set: give its data again (data.root, data.layout), or "
                "begin a new fit from its weights by --model.init_weights."
            )
        self.visits, self.organs = state["visits"].clone(), state.get("organs")
