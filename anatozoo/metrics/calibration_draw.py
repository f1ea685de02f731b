"""Reliability diagrams: how often a model is right, by how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anatozoo.io.figures import QUIET, tint
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0072b2", "#d55e00")
_WIDTH, _HEIGHT = 4.2, 6.0
_TITLES = {"all": "All pixels of the images", "foreground": "Pixels of the organs"}


def plot_reliability(record: Mapping[str, Any], title: str) -> Figure:
    """Draw the curves of an evaluation's ``calibration``.

    Above, the accuracy of each bin of confidence at the bin's mean confidence, beside the diagonal of a
    calibrated model; below, how many pixels are in each bin, on a logarithmic axis. One column shows all
    pixels, the other those of the organs; a model with a temperature has two curves.

    Args:
        record: see `anatozoo.tasks.temperature.Calibrations.record`.
        title: words above the picture.

    Returns:
        A figure of its own, which pyplot does not hold on to.
    """
    from matplotlib.figure import Figure

    strata = list(dict.fromkeys(curve["pixels"] for curve in record["curves"]))
    figure = Figure(figsize=(_WIDTH * max(len(strata), 1), _HEIGHT), layout="constrained")
    axes = figure.subplots(
        2, max(len(strata), 1), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1.2)
    )
    for column, stratum in enumerate(strata):
        curves = [curve for curve in record["curves"] if curve["pixels"] == stratum]
        _draw(axes[0, column], axes[1, column], curves, record["bins"])
        axes[0, column].set_title(_TITLES.get(stratum, stratum), fontsize=10)
    axes[0, 0].set_ylabel("accuracy: share that is right", fontsize=9)
    axes[1, 0].set_ylabel("pixels", fontsize=9)
    figure.suptitle(in_figure(f"{title}\n{record['cases']} cases together"), fontsize=10, x=0.01, ha="left")
    return figure


def _draw(above: Axes, below: Axes, curves: Sequence[Mapping[str, Any]], bins: int) -> None:
    above.plot((0, 1), (0, 1), color=QUIET, linewidth=0.8, linestyle="--", zorder=1)
    width = 1 / bins / (len(curves) + 0.5)
    for number, (curve, color) in enumerate(zip(curves, _COLORS, strict=False)):
        told = "no pixels" if curve["ece"] is None else f"ECE {curve['ece']:.4f}"
        words = f"T = {curve['temperature']:.3g}, {told}"
        confidence, accuracy = (np.array(curve[name], float) for name in ("confidence", "accuracy"))
        there = np.isfinite(confidence)
        above.plot(
            confidence[there],
            accuracy[there],
            marker="o",
            markersize=4,
            color=color,
            label=words,
            clip_on=False,
        )
        places = (np.arange(bins) + 0.5) / bins + (number - (len(curves) - 1) / 2) * width
        below.bar(places, curve["counts"], width, color=tint(color, 0.75))
    above.set(xlim=(0, 1), ylim=(0, 1))
    above.legend(fontsize=8, loc="upper left", frameon=False)
    below.set_yscale("log")
    below.set_ylim(bottom=0.8)
    below.set_xlabel("confidence: the largest probability", fontsize=9)
    for ax in (above, below):
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
