"""What a sample of images says about all images: bootstrap intervals and paired tests."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
SEED = 0
_CHUNK_VALUES = 2**22

Array = npt.NDArray[np.float64]


def bootstrap_interval(
    values: npt.ArrayLike,
    clusters: Sequence[object] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[Array, Array]:
    """Percentile bootstrap interval of the mean of each column; the same seed gives the same interval.

    Efron & Tibshirani, "An introduction to the bootstrap", 1993, section 13.3.

    Args:
        values: (n, k) finite numbers, one row per image, n of at least 1.
        clusters: (n,) rows of one value are drawn together, such as several images of one patient, for they
            do not vary independently; None draws rows.
        level: share of the means that lie inside, above 0 and below 1.
        resamples: number of samples drawn with replacement.
        seed: of the draws.

    Returns:
        Lower and upper ends, (k,) each.

    Raises:
        ValueError: `values` is not (n, k) with a row, holds NaN, or `clusters` has another length.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not len(table) or not np.isfinite(table).all():
        raise ValueError(f"values must be finite and (n, k) with n of at least 1, not {table.shape}.")
    sizes = np.ones(len(table))
    if clusters is not None:
        if len(clusters) != len(table):
            raise ValueError(f"{len(clusters)} clusters for {len(table)} rows.")
        numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
        member = np.array([numbers[cluster] for cluster in clusters])
        if len(numbers) < len(table):
            sums = np.zeros((len(numbers), table.shape[1]))
            np.add.at(sums, member, table)
            table, sizes = sums, np.bincount(member).astype(np.float64)
    n = len(table)
    draw = np.random.default_rng(seed)
    means = np.empty((resamples, table.shape[1]))
    chunk = max(1, _CHUNK_VALUES // n)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        # How often each row is drawn is all that a mean needs, and makes the sums one matrix product.
        index = draw.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(index.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        means[start : start + rows] = counts @ table / (counts @ sizes)[:, None]
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return low, high


def bootstrap_interval_of(
    statistic: Callable[[npt.NDArray[np.intp]], float],
    clusters: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of any number; of means, `bootstrap_interval` is quicker.

    Args:
        statistic: gives the number for the indices of the drawn rows; NaN where it has no value, and such
            draws do not count.
        clusters: (n,) rows of one value are drawn together.
        resamples: number of samples drawn with replacement.

    Returns:
        Lower and upper end; NaN if no draw has a value.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, cluster in enumerate(clusters):
        groups.setdefault(cluster, []).append(place)
    members = [np.asarray(places) for places in groups.values()]
    draw = np.random.default_rng(SEED)
    drawn = [
        statistic(np.concatenate([members[i] for i in draw.integers(len(members), size=len(members))]))
        for _ in range(resamples)
    ]
    finite = [value for value in drawn if np.isfinite(value)]
    low, high = np.quantile(finite, [0.025, 0.975]) if finite else (np.nan, np.nan)
    return float(low), float(high)


@dataclass(frozen=True)
class PairedTest:
    """Two measurements of the same images.

    Attributes:
        n: number of pairs.
        zeros: pairs without a difference, which the test leaves out.
        difference: mean of the differences.
        ci_low: lower end of its 95 % bootstrap interval.
        ci_high: upper end.
        p: two-sided p-value of the Wilcoxon signed-rank test; 1 where no pair differs.
        effect: matched-pairs rank-biserial correlation in −1..1; 0 where no pair differs.
    """

    n: int
    zeros: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    effect: float


def paired_test(differences: npt.ArrayLike, clusters: Sequence[object] | None = None) -> PairedTest:
    """Is the median difference between two measurements zero?

    The test and its effect size take the pairs as independent; the bootstrap interval knows of clusters.

    Args:
        differences: (n,) finite numbers, n of at least 1.
        clusters: see `bootstrap_interval`.
    """
    from scipy.stats import wilcoxon

    d = np.asarray(differences, dtype=np.float64)
    low, high = bootstrap_interval(d[:, None], clusters)
    moved = d[d != 0]
    p = float(wilcoxon(moved).pvalue) if moved.size else 1.0
    return PairedTest(
        len(d), len(d) - moved.size, float(d.mean()), float(low[0]), float(high[0]), p, rank_biserial(d)
    )


def rank_biserial(differences: npt.ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation ``(W+ − W−) / (W+ + W−)`` of differences (n,).

    W+ and W− are the sums of the ranks of absolute differences above and below zero; zeros are left out.
    Kerby, "The simple difference formula", Comprehensive Psychology 2014.

    Returns:
        −1 where every difference is negative, 1 where every one is positive, 0 where there is none.
    """
    from scipy.stats import rankdata

    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if not d.size:
        return 0.0
    ranks = rankdata(np.abs(d))
    return float((ranks * np.sign(d)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the given order, at most 1.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in corrected]
