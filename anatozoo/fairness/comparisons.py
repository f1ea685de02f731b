"""Every two groups side by side: as they are, and within the strata of what may explain a gap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anatozoo.fairness.cells import Array, Cells
from anatozoo.fairness.pairs import Adjusted, Pair
from anatozoo.fairness.resampling import bootstrap_means, difference, interval, permutation_p

Adjustment = Literal["standardise", "match"]


@dataclass(frozen=True)
class Chance:
    """How intervals and tests are made.

    Attributes:
        level: of the intervals.
        resamples: bootstrap samples.
        permutations: of each test.
        seed: the same seed gives the same numbers.
    """

    level: float
    resamples: int
    permutations: int
    seed: int


def compared(
    metric: str,
    groups: Sequence[str],
    cells: Cells,
    draws: Array,
    higher: bool,
    least: int,
    chance: Chance,
) -> Iterator[Pair]:
    """Every two groups that have a patient.

    Args:
        metric: its name.
        groups: names of the G groups.
        cells: of one stratum.
        draws: (resamples, G), bootstrap values of the groups.
        higher: whether more is better.
        least: patients; smaller groups are flagged.
        chance: see `Chance`.
    """
    patients, means = cells.patients[:, 0], cells.means[:, 0]
    for a, b in itertools.combinations(np.flatnonzero(patients).tolist(), 2):
        gap = float(means[a] - means[b])
        low, high = interval(draws[:, [a]] - draws[:, [b]], chance.level)
        alone = min(patients[a], patients[b]) < 2
        p = permutation_p(cells.pair(a, b), np.ones(1), chance.permutations, chance.seed)
        yield Pair(
            metric,
            groups[a],
            groups[b],
            int(patients[a]),
            int(patients[b]),
            float(means[a]),
            float(means[b]),
            gap,
            math.nan if alone else float(low[0]),
            math.nan if alone else float(high[0]),
            p,
            p,
            None if gap == 0 or math.isnan(gap) else groups[b if (gap > 0) == higher else a],
            bool(min(patients[a], patients[b]) < least),
        )


def compared_within(
    metric: str, groups: Sequence[str], cells: Cells, adjustment: Adjustment, chance: Chance
) -> Iterator[Adjusted]:
    """Every two groups that have a patient, within strata; arguments as of `compared`.

    Args:
        metric: its name.
        groups: names of the G groups.
        cells: of all strata.
        adjustment: how strata weigh, see `anatozoo.fairness.frame.GroupFrame`.
        chance: see `Chance`.
    """
    for a, b in itertools.combinations(np.flatnonzero(cells.patients.sum(1)).tolist(), 2):
        names = (metric, groups[a], groups[b])
        alike = cells.pair(a, b).shared()
        count = alike.sizes.shape[2]
        if not count:
            yield Adjusted(*names, math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0, 0)
            continue
        images = alike.sizes.sum(0)
        weights = images.sum(0) if adjustment == "standardise" else images.min(0)
        draws = difference(bootstrap_means(alike, chance.resamples, chance.seed), weights)
        low, high = interval(draws[:, None], chance.level)
        n_a, n_b = (int(alike.sizes[:, side].any(axis=1).sum()) for side in (0, 1))
        p = permutation_p(alike, weights, chance.permutations, chance.seed)
        ends = (math.nan, math.nan) if min(n_a, n_b) < 2 else (float(low[0]), float(high[0]))
        yield Adjusted(*names, float(difference(alike.means, weights)), *ends, p, p, count, n_a, n_b)
