"""Unsupervised bias discovery: gaps between groups from estimated quality, beside the true ones.

Gaggion et al., "Unsupervised bias discovery in medical image segmentation", MICCAI workshop FAIMI 2023. The
gap is ``ΔDSC = DSC(group A) − DSC(group B)`` of the groups' mean Dice; the estimated gap takes for each image
the Dice that Reverse Classification Accuracy expects of it, and needs no annotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError

THRESHOLDS = (0.0, 0.01, 0.02)
_LEAST_POINTS = 3


@dataclass(frozen=True)
class SignAccuracy:
    """How often the estimate names the right group.

    Attributes:
        threshold: gaps below it, in absolute terms, are taken for none: where both the true and the estimated
            gap are below, the pair is left out.
        n: pairs that remain.
        accuracy: share of these whose two gaps have the same sign; NaN where none remains.
    """

    threshold: float
    n: int
    accuracy: float


@dataclass(frozen=True)
class Agreement:
    """How well estimated gaps follow true ones.

    Attributes:
        n: number of gaps.
        r: Pearson's correlation; NaN with fewer than three gaps, or where one side does not vary.
        p: two-sided p-value of r. Gaps that share models are not independent, and their p says nothing.
        slope: of the least-squares line ``estimated = slope · true + intercept``.
        intercept: of the same line.
        mae: mean absolute difference of the two.
        signs: by threshold.
    """

    n: int
    r: float
    p: float
    slope: float
    intercept: float
    mae: float
    signs: tuple[SignAccuracy, ...]


def gap_agreement(
    true: npt.ArrayLike, estimated: npt.ArrayLike, thresholds: Sequence[float] = THRESHOLDS
) -> Agreement:
    """Compare estimated gaps with true ones.

    Args:
        true: signed gaps of any shape, such as one per model and pair of groups.
        estimated: the same, in the same order.
        thresholds: see `SignAccuracy`.

    Raises:
        DataError: shapes differ, there is no gap, or one is not finite.
    """
    from scipy.stats import linregress

    x, y = (np.asarray(side, np.float64) for side in (true, estimated))
    if x.shape != y.shape or not x.size or not (np.isfinite(x) & np.isfinite(y)).all():
        raise DataError(f"gaps must be finite and of one shape, not {x.shape} and {y.shape}.")
    x, y = x.ravel(), y.ravel()
    r = p = slope = intercept = float("nan")
    if len(x) >= _LEAST_POINTS and np.ptp(x) > 0:
        line = linregress(x, y)
        slope, intercept = float(line.slope), float(line.intercept)
        if np.ptp(y) > 0:
            r, p = float(line.rvalue), float(line.pvalue)
    signs = tuple(_signs(x, y, threshold) for threshold in thresholds)
    return Agreement(len(x), r, p, slope, intercept, float(np.abs(x - y).mean()), signs)


def _signs(true: npt.NDArray[np.float64], estimated: npt.NDArray[np.float64], least: float) -> SignAccuracy:
    kept = (np.abs(true) >= least) | (np.abs(estimated) >= least)
    same = np.sign(true[kept]) == np.sign(estimated[kept])
    return SignAccuracy(least, int(kept.sum()), float(same.mean()) if same.size else float("nan"))


def crossed_gaps(means_a: npt.ArrayLike, means_b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Gaps of every model on group A against every model on group B: fictitious models of known bias.

    Args:
        means_a: (m,) mean of group A by model.
        means_b: (k,) mean of group B by model.

    Returns:
        (m, k), ``means_a[i] − means_b[j]``.
    """
    a, b = (np.asarray(side, np.float64) for side in (means_a, means_b))
    return np.asarray(a[:, None] - b[None, :])
