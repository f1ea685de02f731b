"""What an audit found, one plain sentence each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from anatozoo.fairness.audit import Audit
from anatozoo.fairness.estimates import Estimate
from anatozoo.fairness.frame import GroupFrame
from anatozoo.fairness.pairs import Adjusted, Pair
from anatozoo.fairness.wording import group_words, listing, metric_words, number, p_value, span

SIGNIFICANT = 0.05
Kind = Literal["gap", "no gap", "few", "estimate"]


@dataclass(frozen=True)
class Finding:
    """One sentence.

    Attributes:
        kind: ``"gap"`` between groups, ``"no gap"`` that could be shown, ``"few"`` patients to say
            anything, or how good an ``"estimate"`` is.
        text: the sentence, or two.
    """

    kind: Kind
    text: str


def findings(audit: Audit) -> list[Finding]:
    """Sentences in the order in which they matter: gaps, what could not be shown, small groups, estimates."""
    gaps: list[Finding] = []
    others: list[Finding] = []
    few: list[Finding] = []
    for frame in audit.frames:
        for metric in frame.metrics:
            shown = list(_gaps(frame, metric))
            gaps += shown
            others += [] if shown else _no_gap(frame, metric)
        few += _undefined(frame)
        few += _few(frame)
    for grouping, group in audit.alone.items():
        words = group_words(grouping, group)
        few.append(Finding("few", f"Nothing can be said by {grouping}: all rows are {words}."))
    return gaps + others + few + [_estimate(estimate) for estimate in audit.estimates]


def _gaps(frame: GroupFrame, metric: str) -> Iterator[Finding]:
    """Gaps that chance does not explain, before or after adjustment, the largest first."""
    alike = {(gap.metric, gap.a, gap.b): gap for gap in frame.adjusted}
    pairs = sorted((p for p in frame.pairs if p.metric == metric), key=lambda pair: -abs(pair.gap))
    for pair in pairs:
        adjusted = alike.get((metric, pair.a, pair.b))
        if pair.p_corrected < SIGNIFICANT:
            yield Finding("gap", _gap_sentence(frame, pair) + _adjusted_sentence(frame, pair, adjusted))
        elif adjusted is not None and adjusted.p_corrected < SIGNIFICANT:
            yield Finding("gap", _hidden_sentence(frame, pair, adjusted))


def _gap_sentence(frame: GroupFrame, pair: Pair) -> str:
    worse, better = (pair.a, pair.b) if pair.worse == pair.a else (pair.b, pair.a)
    values = {pair.a: (pair.mean_a, pair.n_a), pair.b: (pair.mean_b, pair.n_b)}
    side = math.copysign(1, pair.gap)
    low, high = sorted((side * pair.ci_low, side * pair.ci_high))
    interval = "" if math.isnan(low) else f"95 % interval {span(low, high, pair.metric)}; "
    least = frame.least[pair.metric]
    few = [group_words(frame.name, group) for group in (worse, better) if values[group][1] < least]
    doubt = f" There are fewer than {least} {listing(few)}: take it as a hint only." if few else ""
    first, second = number(values[worse][0], pair.metric), number(values[better][0], pair.metric)
    return (
        f"{_worse_in(frame, pair.metric, worse, better)}: {first} against {second}, a gap of "
        f"{number(abs(pair.gap), pair.metric)} ({interval}corrected p {p_value(pair.p_corrected)}; "
        f"{values[worse][1]} and {values[better][1]} patients).{doubt}"
    )


def _worse_in(frame: GroupFrame, metric: str, worse: str, better: str) -> str:
    name = frame.name
    return (
        f"{metric_words(metric)} is worse in {group_words(name, worse)} than in {group_words(name, better)}"
    )


def _adjusted_sentence(frame: GroupFrame, pair: Pair, adjusted: Adjusted | None) -> str:
    """Whether the gap remains between patients who are alike."""
    if adjusted is None:
        return ""
    names = listing(list(frame.control_names))
    if math.isnan(adjusted.gap):
        return f" No patients of the two groups are alike in {names}, which may or may not be the reason."
    found = (
        f"{number(adjusted.gap * math.copysign(1, pair.gap), pair.metric)}, "
        f"corrected p {p_value(adjusted.p_corrected)}"
    )
    if adjusted.p_corrected >= SIGNIFICANT:
        return f" Between patients alike in {names} no gap could be shown ({found}): it may be the reason."
    if adjusted.gap * pair.gap > 0:
        return f" It remains between patients alike in {names} ({found})."
    return f" Between patients alike in {names} it is the other way round ({found})."


def _hidden_sentence(frame: GroupFrame, pair: Pair, adjusted: Adjusted) -> str:
    worse, better = pair.a, pair.b
    if (adjusted.gap > 0) == frame.higher[pair.metric]:
        worse, better = better, worse
    before = f"{number(abs(pair.gap), pair.metric)}, p {p_value(pair.p_corrected)}"
    return (
        f"{_worse_in(frame, pair.metric, worse, better)} between patients alike in "
        f"{listing(list(frame.control_names))}, by {number(abs(adjusted.gap), pair.metric)} (corrected p "
        f"{p_value(adjusted.p_corrected)}; without this adjustment {before})."
    )


def _no_gap(frame: GroupFrame, metric: str) -> list[Finding]:
    """The largest gap that the intervals leave possible, where none could be shown."""
    ends = [max(abs(p.ci_low), abs(p.ci_high)) for p in frame.pairs if p.metric == metric and not p.small]
    ends = [end for end in ends if not math.isnan(end)]
    if not ends:
        return []
    text = f"{metric_words(metric)}: no gap by {frame.name} could be shown"
    return [Finding("no gap", f"{text}; one of up to {number(max(ends), metric)} remains possible.")]


def _undefined(frame: GroupFrame) -> Iterator[Finding]:
    """Groups in which a metric of rows has no value, such as the AUC where all images have the finding."""
    for mean in frame.means:
        if mean.metric in frame.over and mean.images and math.isnan(mean.mean):
            who, why = group_words(frame.name, mean.group), frame.over[mean.metric].undefined
            yield Finding(
                "few", f"{metric_words(mean.metric)} is not defined for {who}: {why} ({mean.images})."
            )


def _few(frame: GroupFrame) -> Iterator[Finding]:
    for least in sorted(set(frame.least.values())):
        small = [mean for mean in frame.means if mean.small and frame.least[mean.metric] == least]
        fewest = {
            group: min(mean.patients for mean in small if mean.group == group)
            for group in frame.groups
            if any(mean.group == group for mean in small)
        }
        words = [f"{group_words(frame.name, group)} ({count})" for group, count in fewest.items()]
        if words:
            yield Finding("few", f"Too few to judge, fewer than {least}: {listing(words)}.")


def _estimate(estimate: Estimate) -> Finding:
    name = metric_words(estimate.estimated)
    if estimate.true is None:
        return Finding("estimate", f"{name} is an estimate that nothing here can be compared with.")
    r = "" if math.isnan(estimate.r) else f", correlation {estimate.r:.2f}"
    text = (
        f"{name} estimates {metric_words(estimate.true)} with a mean absolute error of {estimate.mae:.3f}"
        f"{r} ({estimate.n} images)."
    )
    same = sum(gap.same_sign for gap in estimate.gaps)
    if estimate.gaps:
        text += f" It names the group that is served worse in {same} of {len(estimate.gaps)} pairs of groups."
    return Finding("estimate", text)
