"""Metrics of a group that are not means over its images but a function of its rows, such as an AUC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from anatozoo.errors import ConfigError
from anatozoo.metrics.calibration import ece
from anatozoo.metrics.classification import Column, auc, there_of


@dataclass(frozen=True)
class OverRows:
    """A metric that is a function of the rows of a group.

    Attributes:
        name: its name in tables.
        function: called with one array per column, (rows,) each and finite; NaN where these rows do not
            define the metric. Bootstrap and permutations call it some thousand times for each group.
        columns: columns of its arguments, in order; a row counts if all of them are measured.
        higher: whether more is better.
        undefined: why rows do not define it, in words that follow "of a group:".
    """

    name: str
    function: Callable[..., float]
    columns: tuple[str, ...]
    higher: bool = True
    undefined: str = "its images do not define it"


ALIKE = "all its images have the finding, or none has"
PRESENT, ABSENT = "no image has the finding", "every image has the finding"


def classifier_metrics(text: str) -> list[OverRows]:
    """The metrics of a classifier: AUC and ECE, and with a threshold sensitivity and specificity.

    A gap of sensitivities is that of equal opportunity (Hardt et al., NeurIPS 2016).

    Args:
        text: ``LABEL=SCORE`` or ``LABEL=SCORE@THRESHOLD``: the column of the truth, 0 or 1, that of the
            probability of the finding, and the probability from which it counts as found, the same in all
            groups.

    Raises:
        ConfigError: it is none of these.
    """
    label, _, rest = text.partition("=")
    score, _, number = rest.partition("@")
    try:
        threshold = float(number) if number else None
    except ValueError:
        threshold = float("nan")
    if not label or not score or (threshold is not None and not 0 <= threshold <= 1):
        raise ConfigError(
            f"{text!r} must be LABEL=SCORE, or LABEL=SCORE@THRESHOLD with 0 to 1, as in y=p@0.5."
        )
    found = [auc_of(label, score), ece_of(label, score)]
    if threshold is not None:
        found += [sensitivity_of(label, score, threshold), specificity_of(label, score, threshold)]
    return found


def ece_of(label: str, score: str) -> OverRows:
    """Expected calibration error of a column of probabilities in 15 bins, as ``ece/SCORE``."""
    return OverRows(f"ece/{score}", _ece, (label, score), higher=False)


def auc_of(label: str, score: str) -> OverRows:
    """Area under the ROC curve of a column of scores, as ``auc/SCORE``.

    Args:
        label: column of the truth, 1 where the finding is there and 0 where it is not.
        score: column of scores, larger where the finding is more likely.
    """
    return OverRows(f"auc/{score}", auc, (label, score), undefined=ALIKE)


def sensitivity_of(label: str, score: str, threshold: float) -> OverRows:
    """Share of the images with a finding whose score reaches a threshold, as ``sensitivity/SCORE``."""
    function = partial(_share, threshold, True)
    return OverRows(f"sensitivity/{score}", function, (label, score), undefined=PRESENT)


def specificity_of(label: str, score: str, threshold: float) -> OverRows:
    """Share of the images without a finding whose score stays below a threshold, as ``specificity/SCORE``."""
    function = partial(_share, threshold, False)
    return OverRows(f"specificity/{score}", function, (label, score), undefined=ABSENT)


def _ece(label: Column, score: Column) -> float:
    return ece(score, there_of(label).astype(int)) if len(label) else float("nan")


def _share(threshold: float, there: bool, label: Column, score: Column) -> float:
    """Share of the rows with this label on the right side of the threshold."""
    rows = there_of(label) == there
    right = (score >= threshold) == there
    return float(right[rows].mean()) if rows.any() else float("nan")
