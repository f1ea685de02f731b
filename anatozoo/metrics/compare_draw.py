"""Pictures of two evaluations side by side: a box for each, and a line for each image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from anatozoo.io.figures import QUIET, tint
from anatozoo.metrics.paired import Comparison, Paired, p_words
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 8
_COLUMNS = 4
_COLORS = ("#0072b2", "#d55e00")
_WIDTH, _HEIGHT = 2.5, 2.7
_SPREAD = 0.07
_ENOUGH = 40
"""Above so many images lines and points become fainter."""


def plot_comparison(comparison: Comparison) -> Figure:
    """Draw both evaluations of each metric: boxes, and between them every image as a line.

    Args:
        comparison: two evaluations; of more than eight metrics the first eight are drawn.

    Returns:
        A figure of its own, which pyplot does not hold on to. Boxes span the quartiles with the median,
        whiskers reach to 1.5 times their distance; a line rises where the second has the larger value.
    """
    from matplotlib.figure import Figure

    shown = list(comparison.metrics.items())[:MOST_PANELS]
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(max(columns * _WIDTH, 4.6), rows * _HEIGHT + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, pairs) in zip(axes, shown, strict=False):
        _draw_panel(ax, name, pairs)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    left_out = len(comparison.metrics) - len(shown)
    words = [in_figure(f"{letter}  {name}") for letter, name in zip("AB", comparison.names, strict=True)]
    figure.suptitle("\n".join(words), fontsize=9, x=0.01, ha="left")
    if left_out:
        figure.supxlabel(f"{left_out} more metrics are in the table", fontsize=8, color=QUIET)
    return figure


def _draw_panel(ax: Axes, name: str, pairs: Paired) -> None:
    sides = (pairs.a, pairs.b)
    faint = min(1.0, math.sqrt(_ENOUGH / len(pairs.a)))
    boxes = ax.boxplot(sides, positions=(0, 1), widths=0.32, showfliers=False, patch_artist=True, zorder=1)
    for part in ("boxes", "medians", "whiskers", "caps"):
        for index, artist in enumerate(boxes[part]):
            color = _COLORS[index * 2 // len(boxes[part])]
            artist.set(color=color, linewidth=1.1)
            if part == "boxes":
                artist.set(facecolor=tint(color, 0.15), edgecolor=color)
    draw = np.random.default_rng(0)
    places = np.stack([np.full(len(pairs.a), 0.28), np.full(len(pairs.a), 0.72)])
    places += draw.uniform(-_SPREAD, _SPREAD, places.shape)
    ax.plot(places, np.stack(sides), color=QUIET, linewidth=0.6, alpha=0.45 * faint, zorder=2)
    for place, values, color in zip(places, sides, _COLORS, strict=True):
        ax.scatter(place, values, s=7, color=color, alpha=0.8 * faint, linewidths=0, zorder=3)
    n = pairs.test
    ax.set_title(in_figure(name), fontsize=9)
    ax.set_xlabel(f"B − A {n.difference:+.3g}, Holm p {p_words(pairs.p_holm)}", fontsize=8, color=QUIET)
    ax.set_xticks((0, 1), ("A", "B"))
    ax.set_xlim(-0.35, 1.35)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
