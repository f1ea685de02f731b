"""Pictures of an audit, outside pyplot: scores by group, gaps with intervals, estimated and true quality."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.fairness.wording import metric_words, p_value
from anatozoo.io.figures import tint
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anatozoo.fairness.frame import GroupFrame
    from anatozoo.fairness.pairs import Adjusted, Pair

MOST_PAIRS = 12
MOST_PANELS = 6
_COLUMNS = 3
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito, Color Universal Design, 2008."""
_INK, _GREY, _PALE = "#222222", "#5f6a72", "#d8dde1"
_ENOUGH = 60
_DOTS_SPREAD = 0.16


def plot_groups(frame: GroupFrame) -> Figure:
    """Draw the scores of each group: a box, every image as a dot, and the mean as a diamond.

    Args:
        frame: of any groups; of more than six metrics the first six are drawn. Those that single images do
            not have are left out; where there is no other, `plot_means` draws them.

    Returns:
        A figure outside pyplot. Boxes span the quartiles with the median, whiskers reach to 1.5 times their
        distance; groups of too few patients are hatched.
    """
    shown = [metric for metric in frame.metrics if metric in frame.values][:MOST_PANELS]
    if not shown:
        return plot_means(frame)
    figure, axes = _panels(len(shown), 3.3, 2.0 + 0.28 * len(frame.groups))
    for ax, metric in zip(axes, shown, strict=False):
        _draw_groups(ax, frame, metric)
    return figure


def _draw_groups(ax: Axes, frame: GroupFrame, metric: str) -> None:
    values = frame.values[metric]
    sides = [values[(frame.labels == group).to_numpy() & np.isfinite(values)] for group in frame.groups]
    places = np.arange(len(sides))
    boxes = ax.boxplot(
        sides, positions=places, orientation="horizontal", widths=0.6, showfliers=False, patch_artist=True
    )
    rng = np.random.default_rng(0)
    patients = frame.patients[metric]
    for place, (group, side) in enumerate(zip(frame.groups, sides, strict=True)):
        color = _COLORS[place % len(_COLORS)]
        boxes["boxes"][place].set(
            facecolor=tint(color, 0.15), edgecolor=color, hatch="////" if group in frame.small else None
        )
        for part in ("whiskers", "caps"):
            for artist in boxes[part][2 * place : 2 * place + 2]:
                artist.set(color=color)
        boxes["medians"][place].set(color=color, linewidth=2)
        fade = min(0.75, max(0.12, _ENOUGH / max(1, len(side))))
        spread = rng.uniform(-_DOTS_SPREAD, _DOTS_SPREAD, len(side))
        ax.scatter(side, place + spread, s=9, color=color, alpha=fade, linewidths=0, zorder=3)
        if len(side):
            ax.scatter(side.mean(), place, s=42, marker="D", color="white", edgecolors=_INK, zorder=4)
    names = [f"{in_figure(group)}\n{_count(int(patients[group]))}" for group in frame.groups]
    ax.set_yticks(places, names)
    ax.set_ylim(len(sides) - 0.4, -0.6)
    _finish(ax, metric, "better →" if frame.higher[metric] else "← better")


def plot_gaps(frame: GroupFrame) -> Figure:
    """Draw the gap of every two groups with its interval: as it is, and adjusted where there are controls.

    Args:
        frame: with two groups or more; of more than twelve pairs those with the smallest p are drawn.

    Returns:
        A figure outside pyplot, one panel per metric.
    """
    shown = frame.metrics[:MOST_PANELS]
    pairs = {metric: _foremost([p for p in frame.pairs if p.metric == metric]) for metric in shown}
    most = max(map(len, pairs.values()), default=1)
    figure, axes = _panels(len(shown), 3.5, 1.55 + 0.42 * most)
    adjusted = {(gap.metric, gap.a, gap.b): gap for gap in frame.adjusted}
    for ax, metric in zip(axes, shown, strict=False):
        _draw_gaps(ax, frame, metric, pairs[metric], adjusted)
    if adjusted:
        _legend(figure, in_figure(f"between patients alike in {', '.join(frame.control_names)}"))
    return figure


def _foremost(pairs: Sequence[Pair]) -> list[Pair]:
    kept = sorted(pairs, key=lambda pair: pair.p)[:MOST_PAIRS]
    return [pair for pair in pairs if pair in kept]


def _draw_gaps(
    ax: Axes,
    frame: GroupFrame,
    metric: str,
    pairs: Sequence[Pair],
    adjusted: dict[tuple[str, str, str], Adjusted],
) -> None:
    ax.axvline(0, color=_GREY, linewidth=1)
    names = []
    for place, pair in enumerate(pairs):
        alike = adjusted.get((metric, pair.a, pair.b))
        lift = 0.16 if alike is not None else 0.0
        color = _COLORS[1] if pair.p_corrected < 0.05 else _GREY
        _draw_interval(ax, place - lift, pair.gap, (pair.ci_low, pair.ci_high), color, "o", filled=True)
        if alike is not None and not math.isnan(alike.gap):
            color = _COLORS[1] if alike.p_corrected < 0.05 else _GREY
            ends = (alike.ci_low, alike.ci_high)
            _draw_interval(ax, place + lift, alike.gap, ends, color, "D", filled=False)
        mark = " *" if pair.small else ""
        names.append(f"{in_figure(f'{pair.a} vs {pair.b}')}{mark}\np {p_value(pair.p_corrected)}")
    ax.set_yticks(range(len(pairs)), names)
    ax.set_ylim(len(pairs) - 0.4, -0.6)
    limit = max((abs(x) for x in ax.get_xlim()), default=1.0)
    ax.set_xlim(-limit, limit)
    first = "first group worse" if frame.higher[metric] else "first group better"
    second = "first group better" if frame.higher[metric] else "first group worse"
    _finish(ax, metric, f"← {first}   |   {second} →")


def _draw_interval(
    ax: Axes,
    place: float,
    value: float,
    ends: tuple[float, float],
    color: str,
    marker: str,
    *,
    filled: bool,
) -> None:
    if not math.isnan(ends[0]):
        ax.plot(ends, (place, place), color=color, linewidth=2, solid_capstyle="round", zorder=2)
    face = color if filled else "white"
    ax.scatter(value, place, s=44, marker=marker, facecolors=face, edgecolors=color, linewidths=1.6, zorder=3)


def plot_means(frame: GroupFrame) -> Figure:
    """Draw the mean of each group with its interval, beside the overall mean: for many groups.

    Args:
        frame: of any groups; of more than six metrics the first six are drawn.

    Returns:
        A figure outside pyplot; groups of too few patients are hollow.
    """
    shown = frame.metrics[:MOST_PANELS]
    figure, axes = _panels(len(shown), 3.5, 1.2 + 0.36 * len(frame.groups))
    for ax, metric in zip(axes, shown, strict=False):
        ax.axvline(frame.overall[metric], color=_GREY, linewidth=1, linestyle="--")
        means = [mean for mean in frame.means if mean.metric == metric]
        for place, mean in enumerate(means):
            if mean.images:
                color = _COLORS[1] if mean.group == frame.worst()[metric] else _COLORS[0]
                ends = (mean.ci_low, mean.ci_high)
                _draw_interval(ax, place, mean.mean, ends, color, "o", filled=not mean.small)
        ax.set_yticks(range(len(means)), [f"{in_figure(mean.group)}  (n {mean.patients})" for mean in means])
        ax.set_ylim(len(means) - 0.4, -0.6)
        _finish(ax, metric, "better →" if frame.higher[metric] else "← better")
    return figure


def plot_estimate(frame: GroupFrame, true: str, estimated: str) -> Figure:
    """Draw each image's estimated value against the true one, coloured by group, and the means of the groups.

    Args:
        frame: with both metrics.
        true: metric with the truth.
        estimated: metric with the estimate.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 4.9), layout="constrained", facecolor="white")
    ax = figure.subplots()
    x, y = frame.values[true], frame.values[estimated]
    both = np.isfinite(x) & np.isfinite(y)
    ends = _ends(np.concatenate([x[both], y[both]]))
    ax.plot(ends, ends, color=_PALE, linewidth=1.5, zorder=1)
    ax.annotate(
        "equal", (ends[1], ends[1]), textcoords="offset points", xytext=(-38, -10), color=_GREY, fontsize=8
    )
    for place, group in enumerate(frame.groups):
        rows = both & (frame.labels == group).to_numpy()
        color = _COLORS[place % len(_COLORS)]
        fade = min(0.7, max(0.15, _ENOUGH / max(1, rows.sum())))
        ax.scatter(x[rows], y[rows], s=16, color=color, alpha=fade, linewidths=0, zorder=2)
        if rows.any():
            label = f"{in_figure(group)} (n {int(rows.sum())})"
            ax.scatter(
                x[rows].mean(),
                y[rows].mean(),
                s=90,
                marker="D",
                color=color,
                edgecolors=_INK,
                label=label,
                zorder=4,
            )
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.set_xlabel(in_figure(f"true: {metric_words(true)}"), fontsize=9)
    ax.set_ylabel(in_figure(f"estimated: {metric_words(estimated)}"), fontsize=9)
    ax.grid(color=_PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, color=_PALE)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        title=in_figure(f"mean by {frame.name}"),
        fontsize=8,
        title_fontsize=8,
        frameon=False,
        loc="upper left",
    )
    return figure


def plot_agreement(true: npt.ArrayLike, estimated: npt.ArrayLike, title: str) -> Figure:
    """Draw estimated gaps against true ones, with the least-squares line.

    Args:
        true: signed gaps of any shape.
        estimated: the same of the estimate.
        title: what is shown.

    Returns:
        A figure outside pyplot; gaps of opposite signs are orange.
    """
    from matplotlib.figure import Figure

    from anatozoo.fairness.discovery import gap_agreement

    x, y = (np.asarray(side, np.float64).ravel() for side in (true, estimated))
    fit = gap_agreement(x, y)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained", facecolor="white")
    ax = figure.subplots()
    same = np.sign(x) == np.sign(y)
    for rows, color in ((same, _COLORS[0]), (~same, _COLORS[1])):
        ax.scatter(x[rows], y[rows], s=18, color=color, alpha=0.7, linewidths=0, zorder=3)
    ax.axhline(0, color=_GREY, linewidth=0.8)
    ax.axvline(0, color=_GREY, linewidth=0.8)
    if not math.isnan(fit.slope):
        ends = _ends(x)
        ax.plot(ends, [fit.slope * end + fit.intercept for end in ends], color=_INK, linewidth=1, zorder=2)
    ax.set_title(in_figure(f"{title}: r = {fit.r:.3f}"), fontsize=10, color=_INK)
    ax.set_xlabel("true gap", fontsize=9)
    ax.set_ylabel("estimated gap", fontsize=9)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = 2 if count == 4 else min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    size = (max(1, columns) * width + 0.4, rows * height)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes


def _finish(ax: Axes, metric: str, direction: str) -> None:
    ax.set_title(in_figure(metric_words(metric)), fontsize=10, color=_INK, loc="left")
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel(direction, fontsize=8, color=_GREY)
    ax.grid(axis="x", color=_PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, color=_PALE)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(_PALE)


def _legend(figure: Figure, alike: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], color=_GREY, marker=marker, markerfacecolor=face, markersize=6, linewidth=2, label=label
        )
        for marker, face, label in (("o", _GREY, "all patients"), ("D", "white", alike))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _count(patients: int) -> str:
    return f"{patients} patient" + ("" if patients == 1 else "s")


def _ends(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The range of values with a little room, even where there is one value only."""
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) or 0.05
    return low - room, high + room
