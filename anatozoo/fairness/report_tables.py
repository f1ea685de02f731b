"""The tables of a report."""

from __future__ import annotations

from anatozoo.fairness.blocks import Table
from anatozoo.fairness.frame import GroupFrame
from anatozoo.fairness.wording import group_words, metric_words, number, p_value, ratio, span


def means_table(frame: GroupFrame) -> Table:
    """Every group by every metric."""
    header = ("group", "metric", "patients", "images", "mean", "95 % interval", "remark")
    rows = []
    for group in frame.groups:
        for mean in (mean for mean in frame.means if mean.group == group):
            cells = (number(mean.mean, mean.metric), span(mean.ci_low, mean.ci_high, mean.metric))
            flag = f"fewer than {frame.least[mean.metric]}" if mean.small else ""
            who = group_words(frame.name, group)
            rows.append((who, metric_words(mean.metric), str(mean.patients), str(mean.images), *cells, flag))
    return Table(header, tuple(rows))


def summary_table(frame: GroupFrame) -> Table:
    """What the groups of each metric make together."""
    header = (
        "metric",
        "all",
        "gap",
        "95 % interval",
        "ratio",
        "SD",
        "SER",
        "95 % interval",
        "equity-scaled",
        "worst",
    )
    rows = []
    for metric, s in frame.summary().to_dict(orient="index").items():
        name = str(metric)
        sers = "–" if s["ser_low"] != s["ser_low"] else f"{ratio(s['ser_low'])} to {ratio(s['ser_high'])}"
        rows.append(
            (
                metric_words(name),
                number(s["overall"], name),
                number(s["gap"], name),
                span(s["gap_low"], s["gap_high"], name),
                ratio(s["ratio"]),
                number(s["sd"], name),
                ratio(s["ser"]),
                sers,
                number(s["equity_scaled"], name),
                s["worst"] or "all equal",
            )
        )
    return Table(header, tuple(rows))


def pairs_table(frame: GroupFrame) -> Table:
    """Every two groups."""
    header = ("groups", "metric", "patients", "gap", "95 % interval", "p", "corrected p", "worse")
    rows = []
    for pair in frame.pairs:
        rows.append(
            (
                f"{pair.a} vs {pair.b}{' *' if pair.small else ''}",
                metric_words(pair.metric),
                f"{pair.n_a}, {pair.n_b}",
                number(pair.gap, pair.metric, sign=True),
                span(pair.ci_low, pair.ci_high, pair.metric, sign=True),
                p_value(pair.p),
                p_value(pair.p_corrected),
                pair.worse or "equal",
            )
        )
    return Table(header, tuple(rows))


def adjusted_table(frame: GroupFrame) -> Table:
    """Every two groups within the strata of the controls."""
    header = ("groups", "metric", "strata", "patients", "adjusted gap", "95 % interval", "p", "corrected p")
    rows = []
    for gap in frame.adjusted:
        rows.append(
            (
                f"{gap.a} vs {gap.b}",
                metric_words(gap.metric),
                str(gap.strata),
                f"{gap.n_a}, {gap.n_b}",
                number(gap.gap, gap.metric, sign=True),
                span(gap.ci_low, gap.ci_high, gap.metric, sign=True),
                p_value(gap.p),
                p_value(gap.p_corrected),
            )
        )
    return Table(header, tuple(rows))
