"""Agreement of estimated with true quality, on cases with ground truth."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.metrics.statistics import bootstrap_interval_of


@dataclass(frozen=True)
class EstimateAgreement:
    """Agreement of estimated and true values.

    Attributes:
        n: number of values.
        r: Pearson's correlation; NaN where one side is constant.
        r_low: lower end of its 95 % bootstrap interval.
        r_high: upper end.
        mae: mean absolute error.
        bias: mean of estimate minus truth; above 0 the estimates are too high.
    """

    n: int
    r: float
    r_low: float
    r_high: float
    mae: float
    bias: float


def estimate_agreement(
    estimated: npt.ArrayLike, true: npt.ArrayLike, clusters: Sequence[Hashable] | None = None
) -> EstimateAgreement:
    """Compare estimated with true values.

    Args:
        estimated: (N,).
        true: (N,).
        clusters: cluster of each value, such as its image; the bootstrap then draws clusters, because the
            values of one are not independent.

    Raises:
        DataError: the lengths differ, there are less than three values, or some are not finite.
    """
    x, y = np.asarray(estimated, dtype=float), np.asarray(true, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or (clusters is not None and len(clusters) != len(x)):
        raise DataError(f"{x.shape} estimates do not go with {y.shape} true values.")
    if len(x) < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(
            "at least three finite pairs of values are needed; say what is to become of NaN first."
        )
    low, high = bootstrap_interval_of(
        lambda rows: _correlation(x[rows], y[rows]), range(len(x)) if clusters is None else clusters
    )
    return EstimateAgreement(
        n=len(x),
        r=_correlation(x, y),
        r_low=low,
        r_high=high,
        mae=float(np.abs(x - y).mean()),
        bias=float((x - y).mean()),
    )


def _correlation(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    if not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
