"""An estimated metric beside the true one: image by image, and gap by gap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness.discovery import Agreement, gap_agreement
from anatozoo.fairness.frame import GroupFrame
from anatozoo.metrics.columns import metric_values

if TYPE_CHECKING:
    import pandas as pd

_LEAST_IMAGES = 3


@dataclass(frozen=True)
class GapPair:
    """The true and the estimated gap of two groups; both are ``a − b`` of means over the same images."""

    grouping: str
    a: str
    b: str
    true: float
    estimated: float

    @property
    def same_sign(self) -> bool:
        """Whether the estimate names the same group as the better one."""
        return bool(np.sign(self.true) == np.sign(self.estimated))


@dataclass(frozen=True, eq=False)
class Estimate:
    """An estimated metric beside the true one.

    Attributes:
        true: column with the truth; None where there is none.
        estimated: column with the estimate.
        n: images with both.
        r: Pearson's correlation over these images; NaN where it is undefined.
        mae: mean absolute difference.
        gaps: of all groupings that have two groups.
        agreement: of these gaps; None where there is no truth.
    """

    true: str | None
    estimated: str
    n: int = 0
    r: float = math.nan
    mae: float = math.nan
    gaps: tuple[GapPair, ...] = ()
    agreement: Agreement | None = None


def true_and_estimated(table: pd.DataFrame, text: str) -> tuple[str, str | None]:
    """The estimated column, and the true one where there is one.

    Args:
        table: rows of images.
        text: ``COLUMN``, or ``TRUE=COLUMN``; alone, its truth is the Dice of the same organ, if it is there.

    Raises:
        DataError: no such column, or one that holds words.
        ConfigError: both are the same.
    """
    true, equals, column = text.partition("=")
    if not equals:
        true, column = "", text
    for name in (column, *([true] if true else [])):
        metric_values(table, name)
    if true == column:
        raise ConfigError(f"{column} cannot be the estimate of itself.")
    organ = column.partition("/")[2]
    guess = f"dice/{organ}" if organ else "dice"
    if not true and guess in table and guess != column:
        true = guess
    return column, true or None


def compare_estimate(
    table: pd.DataFrame, true: str | None, column: str, frames: Sequence[GroupFrame]
) -> Estimate:
    """Compare an estimate with the truth, over the images that have both.

    Args:
        table: rows of images.
        true: column with the truth; None where there is none.
        column: column with the estimate.
        frames: the groupings whose gaps are compared.

    Raises:
        DataError: no image has both.
    """
    from scipy.stats import pearsonr

    if true is None:
        return Estimate(None, column)
    x, y = metric_values(table, true), metric_values(table, column)
    both = np.isfinite(x) & np.isfinite(y)
    if not both.any():
        raise DataError(f"no image has both {true} and {column}.")
    x, y = np.where(both, x, np.nan), np.where(both, y, np.nan)
    gaps = tuple(gap for frame in frames for gap in _gaps(frame, x, y))
    varies = both.sum() >= _LEAST_IMAGES and np.ptp(x[both]) > 0 and np.ptp(y[both]) > 0
    agreement = gap_agreement([g.true for g in gaps], [g.estimated for g in gaps]) if gaps else None
    return Estimate(
        true,
        column,
        int(both.sum()),
        float(pearsonr(x[both], y[both]).statistic) if varies else math.nan,
        float(np.abs(x[both] - y[both]).mean()),
        gaps,
        agreement,
    )


def _gaps(frame: GroupFrame, true: np.ndarray, estimated: np.ndarray) -> list[GapPair]:
    """Gaps of every two groups by both columns, over the images that have both."""
    means: list[tuple[str, float, float]] = []
    for group in frame.groups:
        rows = (frame.labels == group).to_numpy() & np.isfinite(true)
        if rows.any():
            means.append((group, float(true[rows].mean()), float(estimated[rows].mean())))
    return [
        GapPair(frame.name, a, b, true_a - true_b, est_a - est_b)
        for (a, true_a, est_a), (b, true_b, est_b) in itertools.combinations(means, 2)
    ]
