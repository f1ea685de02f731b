"""Metrics of a group that are not means over its images but a function of its rows, such as an AUC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError

Column = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OverRows:
    """A metric that is a function of the rows of a group.

    Attributes:
        name: its name in tables.
        function: called with one array per column, (rows,) each and finite; NaN where these rows do not
            define the metric. Bootstrap and permutations call it some thousand times for each group.
        columns: columns of its arguments, in order; a row counts if all of them are measured.
        higher: whether more is better.
    """

    name: str
    function: Callable[..., float]
    columns: tuple[str, ...]
    higher: bool = True


def auc_of(label: str, score: str) -> OverRows:
    """Area under the ROC curve of a column of scores, as ``auc/SCORE``.

    Args:
        label: column of the truth, 1 where the finding is there and 0 where it is not.
        score: column of scores, larger where the finding is more likely.
    """
    return OverRows(f"auc/{score}", auc, (label, score))


def sensitivity_of(label: str, score: str, threshold: float) -> OverRows:
    """Share of the images with a finding whose score reaches a threshold, as ``sensitivity/SCORE``."""
    return OverRows(f"sensitivity/{score}", partial(_share, threshold, True), (label, score))


def specificity_of(label: str, score: str, threshold: float) -> OverRows:
    """Share of the images without a finding whose score stays below a threshold, as ``specificity/SCORE``."""
    return OverRows(f"specificity/{score}", partial(_share, threshold, False), (label, score))


def auc(label: Column, score: Column) -> float:
    """Chance that an image with a finding has a larger score than one without; equal scores count half.

    Args:
        label: (rows,) of 0 and 1.
        score: (rows,).

    Returns:
        0..1; NaN where all labels are alike.

    Raises:
        DataError: a label is neither 0 nor 1.
    """
    from scipy.stats import rankdata

    there = _found(label)
    count = int(there.sum())
    if count in (0, len(there)):
        return float("nan")
    ranks = float(rankdata(score)[there].sum())
    return (ranks - count * (count + 1) / 2) / (count * (len(there) - count))


def _share(threshold: float, there: bool, label: Column, score: Column) -> float:
    """Share of the rows with this label on the right side of the threshold."""
    rows = _found(label) == there
    right = (score >= threshold) == there
    return float(right[rows].mean()) if rows.any() else float("nan")


def _found(label: Column) -> npt.NDArray[np.bool_]:
    if not np.isin(label, (0, 1)).all():
        raise DataError(
            f"labels are 0 and 1, not {np.setdiff1d(label, (0, 1))[0]:g}; make a column of these."
        )
    return np.asarray(label == 1)
