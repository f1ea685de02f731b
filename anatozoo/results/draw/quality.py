"""Pictures of estimated quality: the judged segmentation, and how it fits each atlas image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.io.figures import WARNING, flag_words, shares
from anatozoo.results.draw.style import display_name, organ_colors
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anatozoo.results.quality import QualityResult

_PANEL_INCHES = 2.6
_TRUTH_COLOR = "#ffffff"


def plot_quality(result: QualityResult) -> Figure:
    """Draw the judged image with its organs, and each atlas image with its own contours and the warped ones.

    White lines are the atlas's own contours, coloured ones the judged segmentation after registration. In
    3-D each picture is the slice with the most of the atlas's organs.

    Args:
        result: a result, 2-D or 3-D.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    count = 1 + len(result.matches)
    columns = min(count, 6)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(columns * _PANEL_INCHES, rows * (_PANEL_INCHES + 0.35) + 0.6), layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False).flat
    colors = {organ: shares(color) for organ, color in organ_colors(result.organs).items()}
    _draw(axes[0], result.pixels, (result.labels, None), list(colors.values()))
    axes[0].set_title("Judged segmentation", fontsize=9)
    for ax, match in zip(axes[1:], result.matches, strict=False):
        _draw(ax, match.pixels, (match.labels, match.truth), list(colors.values()))
        ax.set_title(f"{in_figure(match.id)}\nDice {match.values['dice']:.3f}", fontsize=8)
    for ax in axes:
        ax.set_axis_off()
    handles = [Line2D([], [], color=c, label=_label(result, organ)) for organ, c in colors.items()]
    handles.append(Line2D([], [], color="#888888", linestyle=":", label="Atlas (white)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle(
        f"{in_figure(result.image.rpartition('/')[2])}: estimated Dice {result.best():.3f} (best of "
        f"{len(result.matches)}), {result.mean():.3f} (mean)   {result.engine}, atlas {result.atlas}",
        fontsize=10,
    )
    if result.flags:
        figure.supxlabel(flag_words(result.flags), fontsize=8, color=WARNING)
    return figure


def _label(result: QualityResult, organ: str) -> str:
    """An organ's name, with its calibrated Dice and interval if it has one."""
    found = result.intervals.get(organ)
    if found is None or result.coverage is None:
        return display_name(organ)
    return (
        f"{display_name(organ)} {found.dice:.2f} ({100 * result.coverage:g} %: "
        f"{found.dice_low:.2f} … {found.dice_high:.2f})"
    )


def _draw(
    ax: Axes,
    pixels: npt.NDArray[Any],
    maps: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None],
    colors: Sequence[tuple[float, float, float]],
) -> None:
    """Draw an image with contours of each label, those of the second map in white."""
    judged, truth = maps
    if pixels.ndim == 3:
        shown = judged if truth is None else truth
        index = int((shown > 0).sum((1, 2)).argmax())
        pixels, judged = pixels[index], judged[index]
        truth = None if truth is None else truth[index]
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    for value, color in enumerate(colors, start=1):
        if truth is not None and (truth == value).any():
            ax.contour(truth == value, [0.5], colors=_TRUTH_COLOR, linewidths=0.8, linestyles=":")
        if (judged == value).any():
            ax.contour(judged == value, [0.5], colors=color, linewidths=1.2)
