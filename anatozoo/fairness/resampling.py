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
_MOST_DRAWN = 2048
"""Patients that are drawn one by one; of more, random bundles are drawn."""
_FEWEST_BUNDLES = 128
"""Bundles that the smaller of two groups has at least, or else its patients are dealt one by one."""


def bootstrap_means(cells: Cells, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Values of groups and strata in samples of patients drawn with replacement.

    Where every patient is in one group, patients are drawn within groups, so that every sample has as many of
    a group as there are. Where some have images in several groups, patients are drawn from all together, and
    each moves all groups that it is in: to draw within each set of groups would never leave out a patient who
    is alone in such a set. Efron & Tibshirani, "An introduction to the bootstrap", 1993, sections 8.3 and
    13.3. Of more than 2,048 patients in such a set, 2,048 random bundles are drawn: as patients of a bundle
    have nothing else in common, the variance of the draws is the same but for a relative error of
    ``sqrt(2 / 2048)``, about 3 %.

    Returns:
        (resamples, G, K); NaN where a stratum of a group was not drawn, or its draw defines no value.
    """
    n, groups, strata = cells.sizes.shape
    member = cells.sizes.sum(axis=2) > 0
    blocks = _alike(member) if (member.sum(axis=1) == 1).all() else [np.arange(n)]
    rng = np.random.default_rng(seed)
    if max(map(len, blocks)) > _MOST_DRAWN:
        cells, blocks = _bundled(cells, blocks, rng)
        n = len(cells.sizes)
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

    Among more than 2,048 patients, bundles are dealt: patients of one group (and the same strata), put
    together at random, as many in each bundle of either group. These permutations are a subgroup of all, so
    that the test is as exact (Hemerik & Goeman, "Exact testing with random permutations", TEST 2018), and
    thousands of bundles leave it its power (Koning, "More power by using fewer permutations", Biometrika
    2024). Patients who fill no bundle stay in their group.

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
    still = np.empty(0, np.int64)
    if len(here) > _MOST_DRAWN:
        cells, blocks, both, still = _bundled_alike(cells, blocks, both, here[:, 0], rng)
        here = cells.sizes.sum(axis=2) > 0
    extreme = defined = 0
    for start, stop in _chunks(permutations, len(here)):
        rows = stop - start
        dealt = [
            (block, rng.permuted(np.broadcast_to(here[block, 0], (rows, len(block))), axis=1))
            for block in blocks
        ]
        swapped = rng.integers(0, 2, (rows, len(both))).astype(bool)
        swapped = np.concatenate([swapped, np.zeros((rows, len(still)), bool)], axis=1)
        # Equal sums differ in their last digits by the order of addition.
        found = np.abs(difference(cells.dealt(dealt, np.concatenate([both, still]), swapped), weights))
        extreme += int((found >= observed * (1 - 1e-9) - 1e-12).sum())
        defined += int((~np.isnan(found)).sum())
    return (extreme + 1) / (defined + 1)


def _bundled(cells: Cells, blocks: list[Whole], rng: np.random.Generator) -> tuple[Cells, list[Whole]]:
    """Cells of which no block has more rows than are drawn: random bundles of patients of larger ones."""
    number, made, count = np.empty(len(cells.sizes), np.int64), [], 0
    for block in blocks:
        bundles = min(len(block), _MOST_DRAWN)
        number[block if bundles == len(block) else rng.permutation(block)] = count + np.arange(
            len(block)
        ) * bundles // len(block)
        made.append(np.arange(count, count + bundles))
        count += bundles
    return cells.merged(number), made


def _bundled_alike(
    cells: Cells,
    blocks: list[Whole],
    both: Whole,
    first: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Cells, list[Whole], Whole, Whole]:
    """Cells of bundles that may be dealt in place of patients: each of patients of one block and group.

    Args:
        cells: of two groups.
        blocks: numbers of patients in one group, among whom the group is dealt.
        both: numbers of patients in both.
        first: (n,) who is in the first group.
        rng: source of the bundles.

    Returns:
        The cells, the blocks and ``both`` in their new numbers, and the row of the patients who stay.
    """
    number, dealt, count = np.full(len(first), -1), [], 0
    usual = -(-len(first) // _MOST_DRAWN)
    for block in blocks:
        sides = [block[first[block]], block[~first[block]]]
        size = max(1, min(usual, min(map(len, sides)) // _FEWEST_BUNDLES))
        # A group far larger than the other one takes part with some of its patients; they stand for all.
        most = max(len(block) // usual, 4 * _FEWEST_BUNDLES)
        start = count
        for side in sides:
            bundles = min(len(side) // size, most)
            number[rng.permutation(side)[: bundles * size]] = count + np.repeat(np.arange(bundles), size)
            count += bundles
        dealt.append(np.arange(start, count))
    bundles = min(len(both), _MOST_DRAWN)
    number[rng.permutation(both)] = count + np.arange(len(both)) * bundles // max(1, len(both))
    still = np.flatnonzero(number < 0)
    number[still] = count + bundles
    return (
        cells.merged(number),
        dealt,
        np.arange(count, count + bundles),
        np.arange(count + bundles, count + bundles + min(1, len(still))),
    )


def _alike(patterns: npt.NDArray[np.bool_]) -> list[Whole]:
    """Numbers of the rows of each different pattern (n, …), in the order of the patterns."""
    member = np.zeros(len(patterns), np.int64)
    for byte in np.packbits(patterns.reshape(len(patterns), -1), axis=1).T:
        _, member = np.unique(256 * member + byte, return_inverse=True)
    return np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])


def _chunks(count: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CHUNK_VALUES // max(1, width))
    return ((start, min(start + step, count)) for start in range(0, count, step))
