r"""Entropy of predictions as a term of the loss: MEEP, which makes errors less sure, and its relatives.

Of the pixels i of a batch, with the probabilities p_i of C classes and the entropy H(p) = −Σ_c p_c log p_c:

* ``"me"``: ``L = L_seg − λ · mean_i H(p_i)`` over all pixels;
* ``"meep"``: ``L = L_seg − λ · mean_{i ∈ E} H(p_i)`` over the errors E, the pixels whose most probable class
  is not the true one;
* ``"kl"``: ``L = L_seg + λ · mean_{i ∈ E} KL(U ‖ p_i)`` with the uniform distribution U,
  ``KL(U ‖ p) = −(1/C) Σ_c log p_c − log C``.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step

Form = Literal["me", "meep", "kl"]
"""The entropy of all pixels, that of wrong pixels, or the divergence of wrong pixels from the uniform."""


class Entropy(Objective):
    """Makes a segmenter less sure, where it is wrong or everywhere; see the module's text for the equations.

    Larrazabal, Martínez, Dolz and Ferrante, "Maximum entropy on erroneous predictions", MICCAI 2023: MEEP is
    their method, ``"me"`` their baseline. It adds to any loss of the segmenter: cross-entropy, soft Dice or
    focal. Items whose annotation lacks an organ do not count; without wrong pixels the term is 0. Which
    pixels are wrong is not differentiated.

    Args:
        weight: λ; 0.3 in the paper beside cross-entropy.
        form: ``"meep"``, ``"me"`` or ``"kl"``.

    Raises:
        ConfigError: the weight is negative or not finite, or the form is unknown.
    """

    needs = frozenset({"maps"})

    def __init__(self, weight: float = 0.3, form: Form = "meep") -> None:
        if not 0 <= weight < math.inf or form not in get_args(Form):
            raise ConfigError(
                f"Entropy's weight={weight} must be finite and not negative, form={form!r} one of "
                f"{', '.join(get_args(Form))}."
            )
        self.weight, self.form = weight, form

    def terms(self, step: Step) -> dict[str, Tensor]:
        """``entropy``: the weighted term over the pixels of the batch, a scalar."""
        maps = step.maps
        log_p = maps.probability.float().clamp_min(torch.finfo(torch.float32).tiny).log()
        counts = torch.ones_like(log_p[:, 0], dtype=torch.bool)
        if self.form != "me":
            # On CPUs `argmax` over classes takes several times as long as the indices of `max`.
            counts = log_p.max(1).indices != maps.truth.max(1).indices
        if maps.complete is not None:
            counts = counts & maps.complete.view(-1, *[1] * (counts.ndim - 1))
        if self.form == "kl":
            values = -log_p.mean(1) - math.log(log_p.shape[1])
        else:
            values = (log_p.exp() * log_p).sum(1)
        return {"entropy": self.weight * (values * counts).sum() / counts.sum().clamp_min(1)}
