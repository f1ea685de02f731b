"""MEEP: reduces overconfidence in errors by the entropy of misclassified pixels."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step


class MEEP(Objective):
    """Maximum entropy on erroneous predictions: a calibration term for any segmenter.

    Larrazabal, Martínez, Dolz and Ferrante, MICCAI 2023: ``L = L_seg − λ · mean H(p_i)`` over the pixels i
    whose most probable label is wrong, with the entropy H; or its form with the divergence from the uniform
    distribution, ``L = L_seg + λ · mean KL(U ‖ p_i)``. Items whose annotation lacks an organ do not count;
    without misclassified pixels the term is 0.

    Args:
        weight: λ; 0.3 in the paper beside cross-entropy.
        form: ``"entropy"`` or ``"kl"``.
        pixels: ``"errors"``, or ``"all"`` for the entropy of every pixel (ME, the baseline of the paper).

    Raises:
        ConfigError: the weight is negative, or a word is unknown.
    """

    needs: ClassVar = frozenset({"maps"})

    def __init__(
        self,
        weight: float = 0.3,
        form: Literal["entropy", "kl"] = "entropy",
        pixels: Literal["errors", "all"] = "errors",
    ) -> None:
        if weight < 0 or form not in ("entropy", "kl") or pixels not in ("errors", "all"):
            raise ConfigError(
                f"MEEP's weight={weight} must not be negative, form={form!r} entropy or kl, "
                f"pixels={pixels!r} errors or all."
            )
        self.weight, self.form, self.pixels = weight, form, pixels

    def terms(self, step: Step) -> dict[str, Tensor]:
        """``meep``: the weighted term over the pixels of the batch, a scalar."""
        maps = step.maps
        log_p = maps.probability.float().clamp_min(torch.finfo(torch.float32).tiny).log()
        counts = torch.ones_like(log_p[:, 0], dtype=torch.bool)
        if self.pixels == "errors":
            counts = log_p.argmax(1) != maps.truth.argmax(1)
        if maps.complete is not None:
            counts = counts & maps.complete.view(-1, *[1] * (counts.ndim - 1))
        if self.form == "entropy":
            values = (log_p.exp() * log_p).sum(1)
        else:
            values = -log_p.mean(1) - math.log(log_p.shape[1])
        return {"meep": self.weight * (values * counts).sum() / counts.sum().clamp_min(1)}
