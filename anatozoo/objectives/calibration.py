r"""The marginal average calibration error as a term of the loss: mL1-ACE.

For each image and class c, the pixels are sorted into M bins of equal width by the probability p_c. With the
n_m > 0 pixels of bin m::

    L = L_seg + λ · 1/C Σ_c 1/M_c Σ_m | 1/n_m Σ_{i in m} p_{i,c}  −  1/n_m Σ_{i in m} y_{i,c} |

where M_c counts the bins of the class that hold pixels, and y is the one-hot truth.
"""

import math

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step


class Calibration(Objective):
    """Brings the mean probability of each bin to how often the class is true there; see the module's text.

    Barfoot et al., "Average calibration error: a differentiable loss for improved reliability in image
    segmentation", MICCAI 2024 (arXiv 2403.06759), in its hard-binned form, which their code for MONAI has. A
    bin holds its lower edge, the last one 1 too; which bin a pixel is in is not differentiated, its
    probability is. All classes count the same, background among them, however few pixels they have. Items
    whose annotation lacks an organ do not count.

    Args:
        weight: λ; 1 in the paper, beside Dice and cross-entropy.
        bins: M; 20 in the paper.

    Raises:
        ConfigError: the weight is negative or not finite, or there is no bin.
    """

    needs = frozenset({"maps"})

    def __init__(self, weight: float = 1.0, bins: int = 20) -> None:
        if not 0 <= weight < math.inf or bins < 1:
            raise ConfigError(
                f"Calibration's weight={weight} must be finite and not negative, bins={bins} at least 1."
            )
        self.weight, self.bins = weight, bins

    def terms(self, step: Step) -> dict[str, Tensor]:
        """``calibration``: the weighted error of each item whose organs are all annotated."""
        maps = step.maps
        probability, truth = maps.probability.float(), maps.truth
        if maps.complete is not None:
            if not bool(maps.complete.any()):
                return {"calibration": probability.sum()[None] * 0}
            probability, truth = probability[maps.complete], truth[maps.complete]
        return {"calibration": self.weight * marginal_ace(probability, truth, self.bins)}


def marginal_ace(probability: Tensor, truth: Tensor, bins: int) -> Tensor:
    """The marginal L1 average calibration error of each image, (B,) in [0, 1].

    Args:
        probability: (B, C, ...) in [0, 1].
        truth: (B, C, ...) in [0, 1].
        bins: number of bins.
    """
    p, y = probability.flatten(2), truth.flatten(2)
    place = (p.detach() * bins).long().clamp_(0, bins - 1)
    empty = p.new_zeros(*p.shape[:2], bins)
    count = empty.scatter_add(2, place, torch.ones_like(p))
    # The difference of the two means of a bin is the mean of the differences.
    gap = empty.scatter_add(2, place, p - y).abs() / count.clamp_min(1)
    return (gap.sum(2) / (count > 0).sum(2)).mean(1)
