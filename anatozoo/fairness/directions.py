"""Which values of a metric are good, and the error that its ratios are taken of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_HIGHER = {
    "dice", "dsc", "nsd", "iou", "jaccard", "similarity", "accuracy", "sensitivity", "specificity", "recall",
    "precision", "auc", "ncc", "quality",
}  # fmt: skip
_LOWER = {
    "hd", "hd95", "hausdorff", "assd", "asd", "masd", "mcd", "mse", "rmse", "mae", "error", "error95",
    "folding", "missed", "invented", "holes", "loops", "self_intersections", "failed", "uncertainty", "ece",
    "brier",
}  # fmt: skip


def higher_is_better(metric: str, higher: Iterable[str] = (), lower: Iterable[str] = ()) -> bool:
    """Whether a larger value of a metric is the better one.

    The name says it: Dice, overlap and similarity up, distances, errors and faults down, whatever stands
    around the word (``dice/heart``, ``Dice RCA (Mean)``, ``hd95_mm/lungs``).

    Args:
        metric: name of the column.
        higher: metrics of which more is better, whatever their names.
        lower: metrics of which less is better.

    Raises:
        ConfigError: the name says nothing, or both, and neither list names it.
    """
    if metric in higher or metric in lower:
        if metric in higher and metric in lower:
            raise ConfigError(f"{metric!r} cannot be better both when it is higher and when it is lower.")
        return metric in higher
    words = {metric.split("/")[0].lower(), *re.findall(r"[a-z]+\d*", metric.lower())}
    up, down = bool(words & _HIGHER), bool(words & _LOWER)
    if up == down:
        raise ConfigError(
            f"the name {metric!r} does not say whether more is better; say it by `higher` or `lower` "
            "(--higher or --lower on the command line)."
        )
    return up


def error_of(values: npt.NDArray[np.float64], higher: bool) -> npt.NDArray[np.float64] | None:
    """The error behind values of a metric: ``1 − value`` where more is better, else the value itself.

    Args:
        values: of any shape, NaN allowed.
        higher: whether more is better.

    Returns:
        Errors of the same shape; None where a value is above 1, or a distance below 0, so that the metric has
        no such error.
    """
    errors = 1 - values if higher else values
    return None if (errors < 0).any() else errors
