"""An audit: the group frames of a table of scores, and the estimate beside the truth where both exist."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from anatozoo.errors import DataError
from anatozoo.fairness.directions import higher_is_better
from anatozoo.fairness.estimates import Estimate, compare_estimate, true_and_estimated
from anatozoo.fairness.frame import GroupFrame
from anatozoo.fairness.repeats import check_images
from anatozoo.fairness.rows import classifier_metrics
from anatozoo.fairness.tables import Scores, choose_metrics, measured_dice
from anatozoo.metrics.columns import check_probabilities, metric_values

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Audit:
    """The content of a report.

    Attributes:
        name: name of the scores.
        scores: the table, and the rows that it leaves out.
        frames: one per grouping.
        crossed: the intersections of all groupings; None where there is only one grouping.
        alone: groupings of which the table has one group only, with that group.
        estimates: estimated metrics.
    """

    name: str
    scores: Scores
    frames: tuple[GroupFrame, ...]
    crossed: GroupFrame | None
    alone: Mapping[str, str] = field(default_factory=dict)
    estimates: tuple[Estimate, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the audited metrics."""
        return self.frames[0].metrics

    @property
    def controls(self) -> tuple[str, ...]:
        """Columns that gaps are adjusted for."""
        return tuple(dict.fromkeys(name for frame in self.frames for name in frame.control_names))

    @property
    def comparisons(self) -> int:
        """Number of tested pairs of groups, including adjusted gaps."""
        return sum(len(frame.pairs) + len(frame.adjusted) for frame in self.frames)

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions made in reading the tables."""
        return tuple(dict.fromkeys([*self.scores.notes, *(note for f in self.frames for note in f.notes)]))

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as JSON; NaN and infinity are null."""
        value = {
            "scores": self.name,
            "rows": self.scores.rows,
            "left_out": [dataclasses.asdict(entry) for entry in self.scores.left_out],
            "joined": [dataclasses.asdict(each) for each in self.scores.joined],
            "notes": list(self.notes),
            "one_group_only": dict(self.alone),
            "smallest_group": dict(self.frames[0].least),
            "metrics": {m: "higher" if self.frames[0].higher[m] else "lower" for m in self.metrics},
            "groupings": {frame.name: _frame_dict(frame) for frame in self.frames},
            "intersections": _frame_dict(self.crossed, tests=False) if self.crossed else None,
            "estimates": [dataclasses.asdict(estimate) for estimate in self.estimates],
        }
        plain: dict[str, Any] = _plain(value)
        return plain


def audit(
    scores: Scores,
    groups: Sequence[str],
    *,
    name: str = "scores",
    metrics: Sequence[str] | None = None,
    classifiers: Sequence[str] = (),
    controls: Sequence[str] = (),
    estimated: Sequence[str] = (),
    higher: Sequence[str] = (),
    lower: Sequence[str] = (),
    **settings: Any,
) -> Audit:
    """Compare groups of patients by each column of groups, and by all columns together.

    Args:
        scores: rows of images, see `anatozoo.fairness.tables.read_scores`.
        groups: columns, see `anatozoo.fairness.groups.make_groups`.
        name: name of the scores.
        metrics: names or patterns, see `anatozoo.fairness.tables.choose_metrics`.
        classifiers: see `anatozoo.fairness.rows.classifier_metrics`; with them and without `metrics`, no
            other metric is audited.
        controls: columns to adjust gaps for; none is used for groups of its own.
        estimated: columns with estimated quality, as ``COLUMN`` or ``TRUE=COLUMN``; without TRUE it is
            compared with the Dice of the same organ, if the table has it. ``dice_rca_mean/ORGAN`` is always
            compared with ``dice/ORGAN`` if both are audited, unless another estimate is given here.
        higher: metrics of which more is better, whatever their names.
        lower: metrics of which less is better.
        settings: further arguments of `GroupFrame`.

    Raises:
        DataError: a column is missing, an image is in several rows, or every column has only one group.
        ConfigError: a setting is unknown, or it is unknown whether more is better.
    """
    check_images(scores, settings.get("subject"))
    table = scores.table
    truths = dict(true_and_estimated(table, text) for text in estimated)
    over = [metric for text in classifiers for metric in classifier_metrics(text)]
    for score in dict.fromkeys(metric.columns[-1] for metric in over):
        check_probabilities(table, score)
    by_image = metrics is not None or not over
    chosen = choose_metrics(table, metrics, higher=higher, lower=lower) if by_image else []
    known = [true for true in truths.values() if true is not None]
    chosen = list(dict.fromkeys([*chosen, *known, *truths]))
    truths |= {column: true for true, column in _pairs_unasked(table, chosen, truths)}
    # An estimate is good where what it estimates is good, whatever it is called.
    like = {column: higher_is_better(true, higher, lower) for column, true in truths.items() if true}
    higher = [*higher, *(column for column, up in like.items() if up)]
    lower = [*lower, *(column for column, up in like.items() if not up)]
    common = {"higher": higher, "lower": lower, **settings}
    every = [
        GroupFrame(table, [*chosen, *over], group, [c for c in controls if c != group], **common)
        for group in groups
    ]
    frames = tuple(frame for frame in every if len(frame.groups) > 1)
    alone = {frame.name: frame.groups[0] for frame in every if len(frame.groups) == 1}
    if not frames:
        words = "; ".join(f"by {key} all are {group}" for key, group in alone.items())
        raise DataError(f"there is nothing to compare: {words}.")
    several = [g for g, frame in zip(groups, every, strict=True) if len(frame.groups) > 1]
    crossed = GroupFrame(table, [*chosen, *over], several, **common) if len(several) > 1 else None
    estimates = tuple(compare_estimate(table, true, column, frames) for column, true in truths.items())
    return Audit(name, scores, frames, crossed, alone, estimates)


def _pairs_unasked(
    table: pd.DataFrame, metrics: Sequence[str], asked: Mapping[str, str | None]
) -> list[tuple[str, str]]:
    """Measured Dice and its estimate by their names, where an image has both and nobody said otherwise."""
    return [
        (true, column)
        for true, column in measured_dice(metrics).items()
        if column not in asked
        and true not in asked.values()
        and np.isfinite(metric_values(table, true) + metric_values(table, column)).any()
    ]


def _frame_dict(frame: GroupFrame, *, tests: bool = True) -> dict[str, Any]:
    value: dict[str, Any] = {
        "groups": [dataclasses.asdict(mean) for mean in frame.means],
        "left_out": [dataclasses.asdict(entry) for entry in frame.left_out],
        "small": list(frame.small),
        "summary": frame.summary().to_dict(orient="index"),
    }
    if tests:
        value |= {
            "controls": list(frame.control_names),
            "adjustment": frame.adjustment,
            "correction": frame.correction,
            "pairs": [dataclasses.asdict(pair) for pair in frame.pairs],
            "adjusted": [dataclasses.asdict(gap) for gap in frame.adjusted],
        }
    return value


def _plain(value: Any) -> Any:
    """JSON values: numbers of NumPy become Python's, what is not finite null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
