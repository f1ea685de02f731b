"""What chance alone may do to differences between groups: bootstrap draws and permutations of patients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from anatozoo.fairness.cells import Array, Cells, Whole, divided

RESAMPLES = 2000
PERMUTATIONS = 5000
SEED = 0
_CHUNK_VALUES = 2**22
_MOST_MISSING = 0.5


def bootstrap_means(cells: Cells, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Values of groups and strata in samples of patients drawn with replacement.

    Where every patient is in one group, patients are drawn within groups, so that every sample has as many of
    a group as there are. Where some have images in several groups, patients are drawn from all together, and
    each moves all groups that it is in: to draw within each set of groups would never leave out a patient who
    is alone in such a set. Efron & Tibshirani, "An introduction to the bootstrap", 1993, sections 8.3 and
    13.3.

    Returns:
        (resamples, G, K); NaN where a stratum of a group was not drawn, or its draw defines no value.
    """
    n, groups, strata = cells.sizes.shape
    member = cells.sizes.sum(axis=2) > 0
    blocks = _alike(member) if (member.sum(axis=1) == 1).all() else [np.arange(n)]
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, groups, strata))
    for start, stop in _chunks(resamples, n):
        counts = np.zeros((stop - start, n))
        for block in blocks:
            index = rng.integers(0, len(block), (stop - start, len(block)))
            rows = np.arange(stop - start)[:, None] * len(block)
            count = np.bincount((index + rows).ravel(), minlength=(stop - start) * len(block))
            counts[:, block] = count.reshape(stop - start, len(block))
        drawn[start:stop] = cells.drawn(counts)
    return drawn


def difference(means: Array, weights: Array) -> Array:
    """Value of the first of two groups minus that of the second, averaged over strata.

    Args:
        means: (..., 2, K), NaN where a group has nobody, or no value.
        weights: (K,) of the strata; where one of the two means is NaN the others take over its weight.

    Returns:
        (...); NaN where no stratum is left.
    """
    gap = means[..., 0, :] - means[..., 1, :]
    held = np.where(np.isnan(gap), 0.0, weights)
    return divided((np.nan_to_num(gap) * held).sum(-1), held.sum(-1))


def interval(draws: Array, level: float) -> tuple[Array, Array]:
    """Percentile interval over the first axis of draws, NaN left out; NaN where more than half are."""
    tail = 50 * (1 - level)
    known = np.isnan(draws).mean(0) <= _MOST_MISSING
    ends = np.full((2, *draws.shape[1:]), np.nan)
    ends[:, known] = np.nanpercentile(draws[:, known], [tail, 100 - tail], axis=0)
    return ends[0], ends[1]


def permutation_p(cells: Cells, weights: Array, permutations: int = PERMUTATIONS, seed: int = SEED) -> float:
    """Two-sided p-value of the difference of two groups if the group were of no account.

    Groups are dealt anew among patients who have images in the same strata, which holds the strata's share of
    each group; the images of a patient who is in both groups change sides together. With one stratum and one
    image per patient it is the two-sample test of Efron & Tibshirani, chapter 15. What is observed counts as
    one of the permutations (Phipson & Smyth, "Permutation p-values should never be zero", 2010).

    Args:
        cells: of two groups.
        weights: (K,) of the strata.
        permutations: number of random permutations; the smallest p is ``1 / (permutations + 1)``. Those that
            define no difference, such as the AUC of a group without a positive case, do not count.
        seed: of the permutations.

    Returns:
        NaN where there is no difference to test.
    """
    observed = abs(float(difference(cells.means, weights)))
    if np.isnan(observed):
        return float("nan")
    here: npt.NDArray[np.bool_] = cells.sizes.sum(axis=2) > 0
    both, single = np.flatnonzero(here[:, 0] & here[:, 1]), here[:, 0] != here[:, 1]
    occupied = cells.sizes.sum(1) > 0
    blocks = [block for block in _alike(occupied) if single[block].any()]
    blocks = [block[single[block]] for block in blocks]
    rng = np.random.default_rng(seed)
    extreme = defined = 0
    for start, stop in _chunks(permutations, len(here)):
        rows = stop - start
        dealt = [
            (block, rng.permuted(np.broadcast_to(here[block, 0], (rows, len(block))), axis=1))
            for block in blocks
        ]
        swapped = rng.integers(0, 2, (rows, len(both))).astype(bool)
        # Equal sums differ in their last digits by the order of addition.
        found = np.abs(difference(cells.dealt(dealt, both, swapped), weights))
        extreme += int((found >= observed * (1 - 1e-9) - 1e-12).sum())
        defined += int((~np.isnan(found)).sum())
    return (extreme + 1) / (defined + 1)


def _alike(patterns: npt.NDArray[np.bool_]) -> list[Whole]:
    """Numbers of the rows of each different pattern (n, …)."""
    _, member = np.unique(patterns.reshape(len(patterns), -1), axis=0, return_inverse=True)
    member = member.ravel()
    return [np.flatnonzero(member == number) for number in range(int(member.max()) + 1)]


def _chunks(count: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CHUNK_VALUES // max(1, width))
    return ((start, min(start + step, count)) for start in range(0, count, step))
