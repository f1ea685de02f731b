"""One group, two groups side by side, and p-values of many such comparisons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from anatozoo.metrics.statistics import holm

SMALL, SMALL_OVER_ROWS = 10, 30
"""Groups of fewer patients are flagged, as no interval and no test makes up for them.

By metrics of single images, and by functions of rows such as an AUC, which counts pairs of patients with a
finding and without: of ten there are often two or three of one kind.
"""
Correction = Literal["holm", "fdr", "none"]


@dataclass(frozen=True)
class GroupMean:
    """One group by one metric.

    Attributes:
        metric: column.
        group: its name.
        patients: number of patients that have a value.
        images: number of images that have one.
        mean: over these images; NaN where there is none.
        ci_low: lower end of its bootstrap interval; NaN with a single patient.
        ci_high: upper end.
        small: whether there are too few patients, see `SMALL`.
    """

    metric: str
    group: str
    patients: int
    images: int
    mean: float
    ci_low: float
    ci_high: float
    small: bool


@dataclass(frozen=True)
class Pair:
    """Two groups compared by one metric.

    Attributes:
        metric: column.
        a: first group.
        b: second group.
        n_a: patients of the first that have a value.
        n_b: patients of the second.
        mean_a: mean over the images of the first.
        mean_b: mean over those of the second.
        gap: ``mean_a − mean_b``.
        ci_low: lower end of the bootstrap interval of the gap; NaN where a group has a single patient.
        ci_high: upper end.
        p: two-sided p-value of the permutation test.
        p_corrected: the same, corrected for the number of comparisons of the frame.
        worse: the group that the metric serves worse; None where the means are equal.
        small: whether a group has too few patients, see `SMALL`.
    """

    metric: str
    a: str
    b: str
    n_a: int
    n_b: int
    mean_a: float
    mean_b: float
    gap: float
    ci_low: float
    ci_high: float
    p: float
    p_corrected: float
    worse: str | None
    small: bool


@dataclass(frozen=True)
class Adjusted:
    """The gap of two groups among patients who are alike in the controls.

    Attributes:
        metric: column.
        a: first group.
        b: second group.
        gap: weighted mean over strata of ``mean_a − mean_b``; NaN where no stratum has both groups.
        ci_low: lower end of its bootstrap interval.
        ci_high: upper end.
        p: of the permutation test within strata; NaN where there is no gap.
        p_corrected: the same, corrected for the number of comparisons.
        strata: number of strata with patients of both groups.
        n_a: patients of the first group in them.
        n_b: patients of the second.
    """

    metric: str
    a: str
    b: str
    gap: float
    ci_low: float
    ci_high: float
    p: float
    p_corrected: float
    strata: int
    n_a: int
    n_b: int


Comparison = TypeVar("Comparison", Pair, Adjusted)


def corrected(found: Sequence[Comparison], correction: Correction) -> tuple[Comparison, ...]:
    """Comparisons with their p-values corrected for the number of those that have one.

    Args:
        found: comparisons.
        correction: ``"holm"`` holds the chance of any false alarm, ``"fdr"`` (Benjamini & Hochberg, JRSS B
            1995) their expected share among the alarms, ``"none"`` leaves p-values as they are.
    """
    from scipy.stats import false_discovery_control

    tested = [index for index, one in enumerate(found) if not math.isnan(one.p)]
    p_values = [found[index].p for index in tested]
    if correction == "holm":
        p_values = holm(p_values)
    elif correction == "fdr" and p_values:
        p_values = [float(p) for p in false_discovery_control(p_values)]
    new = dict(zip(tested, p_values, strict=True))
    return tuple(
        dataclasses.replace(one, p_corrected=new.get(index, math.nan)) for index, one in enumerate(found)
    )
