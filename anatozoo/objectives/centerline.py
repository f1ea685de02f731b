"""The agreement of centrelines as a term of the loss: soft clDice, for vessels, roots and the like.

With the probability p of an organ, its truth y, and S(·) a soft skeleton::

    precision = Σ S(p) y / Σ S(p)        sensitivity = Σ S(y) p / Σ S(y)
    L = L_seg + λ · mean over organs of  1 − 2 · precision · sensitivity / (precision + sensitivity)

Structures count by their length, not by their width: a thin branch that is missing costs as much as a thick
one of the same length, and a gap costs where Dice hardly sees it.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step

_SMOOTH = 1.0


class Centerline(Objective):
    """Keeps thin structures whole; see the module's text.

    Shit et al., "clDice: a novel topology-preserving loss function for tubular structure segmentation", CVPR
    2021. Organs that are not annotated in an item do not count.

    Args:
        weight: λ. The paper mixes α times this with 1 − α times Dice, and α of .3 to .5 was best; beside a
            loss of weight 1, .5 is α = 1/3.
        width: of the thickest structure whose skeleton matters, in pixels of the frame: a skeleton is what
            openings of erosions take away, and half as many erosions as this are made.

    Raises:
        ConfigError: the weight is negative or not finite, or the width below 1.
    """

    needs = frozenset({"maps"})

    def __init__(self, weight: float = 0.5, width: int = 10) -> None:
        if not 0 <= weight < math.inf or width < 1:
            raise ConfigError(
                f"Centerline's weight={weight} must be finite and not negative, width={width} at least 1."
            )
        self.weight, self.width = weight, width

    def terms(self, step: Step) -> dict[str, Tensor]:
        """``centerline``: the weighted term of each item whose organs are all annotated."""
        maps = step.maps
        probability, truth = maps.probability.float(), maps.truth.float()
        if maps.complete is not None:
            if not bool(maps.complete.any()):
                return {"centerline": probability.sum()[None] * 0}
            probability, truth = probability[maps.complete], truth[maps.complete]
        # The background is no thin structure.
        return {"centerline": self.weight * soft_cldice_loss(probability[:, 1:], truth[:, 1:], self.width)}


def soft_cldice_loss(probability: Tensor, truth: Tensor, width: int) -> Tensor:
    """One minus the soft clDice of each image, the mean over its organs, (B,) in [0, 1].

    An organ that is neither there nor found costs nothing.

    Args:
        probability: (B, organs, ...) in [0, 1], of two or three dimensions.
        truth: as `probability`.
        width: of the thickest structure whose skeleton matters, in pixels.
    """
    found, wanted = (soft_skeleton(maps, width).flatten(2) for maps in (probability, truth))
    p, y = probability.flatten(2), truth.flatten(2)
    precision = ((found * y).sum(2) + _SMOOTH) / (found.sum(2) + _SMOOTH)
    sensitivity = ((wanted * p).sum(2) + _SMOOTH) / (wanted.sum(2) + _SMOOTH)
    return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean(1)


def soft_skeleton(maps: Tensor, width: int) -> Tensor:
    """The skeleton of soft masks (B, C, ...), 2-D or 3-D: what is left of each erosion by its opening.

    Args:
        maps: in [0, 1].
        width: erosions are made until a structure of this width is gone.
    """
    skeleton = F.relu(maps - _opened(maps))
    for _ in range(-(-width // 2)):
        maps = _eroded(maps)
        rest = F.relu(maps - _opened(maps))
        skeleton = skeleton + F.relu(rest - skeleton * rest)
    return skeleton


def _eroded(maps: Tensor) -> Tensor:
    """The smallest value of a pixel and its neighbours along each axis."""
    dims = maps.ndim - 2
    pool = F.max_pool2d if dims == 2 else F.max_pool3d
    found = maps
    for axis in range(dims):
        sides = [3 if each == axis else 1 for each in range(dims)]
        found = torch.minimum(found, -pool(-maps, sides, 1, [side // 2 for side in sides]))
    return found


def _opened(maps: Tensor) -> Tensor:
    pool = F.max_pool2d if maps.ndim == 4 else F.max_pool3d
    return pool(_eroded(maps), 3, 1, 1)
