"""How far the members of an ensemble differ from one another."""

import math
from itertools import combinations

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from anatozoo.errors import GeometryError


def disagreement(labels: ArrayLike) -> float:
    """The share of pixels on which two members differ, on average over all pairs of members.

    Only pixels count that at least one member gives to an organ: in the background, which is most of an
    image, all agree.

    Args:
        labels: (members, ...) label maps, 0 for background.

    Returns:
        A number in 0..1; 0 where no member finds anything.

    Raises:
        GeometryError: there are fewer than two members.
    """
    each = np.asarray(labels)
    if len(each) < 2:
        raise GeometryError(f"{len(each)} label map has nothing to disagree with; give two or more.")
    each = each[:, (each > 0).any(0)]
    if not each.shape[1]:
        return 0.0
    return float(np.mean([np.mean(a != b) for a, b in combinations(each, 2)]))


def vote_variance(probabilities: ArrayLike) -> npt.NDArray[np.float32]:
    """The variance of the members' probabilities at each pixel: of its organs the largest.

    Args:
        probabilities: (members, organs, ...) in 0..1, without background.

    Returns:
        (...) float32 in 0..0.25; 0.25 where half of the members are sure of an organ and half of its absence.
    """
    # The mean square of differences from the mean, over all members: they are the ensemble, not a sample.
    found: npt.NDArray[np.float32] = np.asarray(probabilities, np.float32).var(0).max(0)
    return found


def variance_on_errors(variance: ArrayLike, found: ArrayLike, truth: ArrayLike) -> float:
    """The mean of a variance map over the pixels whose label is wrong; NaN where all are right.

    Args:
        variance: (...), see `vote_variance`.
        found: (...) labels that were predicted.
        truth: (...) labels that are true.
    """
    wrong = np.asarray(found) != np.asarray(truth)
    return float(np.asarray(variance)[wrong].mean()) if wrong.any() else math.nan
