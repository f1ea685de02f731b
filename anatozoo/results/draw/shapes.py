"""Pictures of several shapes side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.io.figures import QUIET, WARNING, shares
from anatozoo.results.draw.style import display_name, organ_colors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST, _COLUMNS, _INCHES, _FILL = 40, 8, 1.35, 0.25


def plot_shapes(
    shapes: Sequence[Mapping[str, npt.NDArray[np.float64]]],
    captions: Sequence[str],
    size: tuple[int, int],
    crossed: Sequence[bool],
) -> Figure:
    """Draw the contours of shapes, one panel for each of the first 40.

    Args:
        shapes: organ -> (N, 2) pixels, of each shape.
        captions: of each shape.
        size: (width, height) of their frame in pixels.
        crossed: which of them cross themselves; their captions say so.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Polygon

    shown = min(len(shapes), _MOST)
    columns = min(_COLUMNS, shown)
    rows = -(-shown // columns)
    height = _INCHES * size[1] / size[0]
    figure = Figure(figsize=(_INCHES * columns, (height + 0.2) * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colors = {organ: shares(color) for organ, color in organ_colors(list(shapes[0])).items()}
    for ax, shape, caption, is_crossed in zip(axes, shapes, captions, crossed, strict=False):
        for organ, points in shape.items():
            ax.add_patch(Polygon(points, fc=(*colors[organ], _FILL), ec=colors[organ], lw=1.0))
        text = f"{caption}, crossed" if is_crossed else caption
        ax.set_title(text, fontsize=7, color=WARNING if is_crossed else QUIET)
        ax.set(xlim=(-0.5, size[0] - 0.5), ylim=(size[1] - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
    for ax in axes[shown:]:
        ax.set_axis_off()
    figure.legend(
        handles=[Patch(fc=color, label=display_name(organ)) for organ, color in colors.items()],
        loc="outside lower center",
        ncols=len(colors),
        fontsize=7,
        frameon=False,
        title=None if shown == len(shapes) else f"the first {shown} of {len(shapes)}",
        title_fontsize=7,
    )
    return figure
