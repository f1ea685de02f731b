"""How well scores tell images with a finding from those without."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.metrics.calibration import ece
from anatozoo.metrics.statistics import bootstrap_interval_of

Column = npt.NDArray[np.float64]


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

    there = there_of(label)
    count = int(there.sum())
    if count in (0, len(there)):
        return float("nan")
    ranks = float(rankdata(score)[there].sum())
    return (ranks - count * (count + 1) / 2) / (count * (len(there) - count))


def there_of(label: Column) -> npt.NDArray[np.bool_]:
    """Where a finding is, (rows,).

    Raises:
        DataError: a label is neither 0 nor 1.
    """
    if not np.isin(label, (0, 1)).all():
        raise DataError(
            f"labels are 0 and 1, not {np.setdiff1d(label, (0, 1))[0]:g}; make a column of these."
        )
    return np.asarray(label == 1)


def finding_numbers(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]]
) -> dict[str, dict[str, float | int | None]]:
    """What the rows of an evaluation say about each finding, as JSON values; None where it is not defined.

    Args:
        rows: of images; those of one ``patient`` are drawn together.
        columns: finding -> columns of its truth, 0 or 1, and of its score; a row counts if it has both.

    Returns:
        finding -> ``images``, ``with`` (those that show it), ``patients``, ``auc`` with the ends ``ci_low``
        and ``ci_high`` of its 95 % bootstrap interval over patients, and ``ece`` in 15 bins.
    """
    found = {}
    for finding, pair in columns.items():
        counted = [row for row in rows if all(_is_number(row.get(column)) for column in pair)]
        y, p = (np.array([float(row[column]) for row in counted]) for column in pair)
        patients = [row.get("patient") or row["id"] for row in counted]
        value = auc(y, p) if len(y) else float("nan")
        ends = (float("nan"),) * 2
        if np.isfinite(value):
            ends = bootstrap_interval_of(lambda drawn, y=y, p=p: auc(y[drawn], p[drawn]), patients)  # type: ignore[misc]
        numbers = {
            "auc": value,
            "ci_low": ends[0],
            "ci_high": ends[1],
            "ece": ece(p, y) if len(y) else float("nan"),
        }
        counts = {"images": len(y), "with": int(y.sum()), "patients": len(set(patients))}
        found[finding] = counts | {k: v if np.isfinite(v) else None for k, v in numbers.items()}
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
