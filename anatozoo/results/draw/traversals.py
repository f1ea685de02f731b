"""Pictures of what each latent of an autoencoder of hearts changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.meshes.heart import EPI, RIGHT, SHEETS
from anatozoo.meshes.sheets import SheetSize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = ("#2166ac", "#777777", "#b2182b")
_NAMES = ("low", "middle", "high")
_COLUMNS = 4
Floats = npt.NDArray[np.float64]


def plot_traversals(
    shapes: Sequence[tuple[Floats, Floats, Floats]], names: Sequence[str], size: SheetSize, units: str
) -> Figure:
    """Draw hearts in two sections for each latent: along the axis above, across it below.

    Args:
        shapes: of each latent the aligned vertices (N, 3) of three hearts, of a low, the middle and a high
            value.
        names: of the latents.
        size: of each sheet.
        units: of the vertices, for the axes.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(_COLUMNS, len(shapes))
    rows = -(-len(shapes) // columns)
    figure = Figure(figsize=(2.6 * columns, 4.6 * rows + 0.4), layout="constrained")
    axes: Any = figure.subplots(2 * rows, columns, squeeze=False)
    everything = np.concatenate([np.concatenate(three) for three in shapes])
    low, high = everything.min(0) - 1, everything.max(0) + 1
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (three, name) in enumerate(zip(shapes, names, strict=True)):
        row, column = divmod(number, columns)
        along, across = axes[2 * row, column], axes[2 * row + 1, column]
        for vertices, color in zip(three, _COLORS, strict=True):
            sheets = vertices.reshape(len(SHEETS), size.vertices, 3)
            for organ, sheet in zip(SHEETS, sheets, strict=True):
                style = {"color": color, "lw": 1.0 if organ == EPI else 1.6}
                rings = sheet[:-1].reshape(size.rings, size.angles, 3)
                left, right = _sides(rings, sheet[-1], extremes=organ == RIGHT)
                for side in (left, right):
                    along.plot(side[:, 0], side[:, 2], **style)
                ring = rings[size.rings // 3]
                across.plot(*np.vstack([ring, ring[:1]])[:, :2].T, **style)
        along.set(xlim=(low[0], high[0]), ylim=(high[2], low[2]), title=name)
        # In-plane pixels and slices differ in size: along the axis the picture is stretched to its panel.
        along.set_aspect("equal" if units == "mm" else "auto")
        across.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    handles = [Line2D([], [], color=c, label=n) for c, n in zip(_COLORS, _NAMES, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _sides(rings: Floats, tip: Floats, *, extremes: bool) -> tuple[Floats, Floats]:
    """Two lines (rings + 1, 3) from base to tip.

    At the angles towards and away from the septum, or where each ring lies farthest to either side.
    """
    if extremes:
        each = np.arange(len(rings))
        left, right = rings[each, rings[..., 0].argmin(1)], rings[each, rings[..., 0].argmax(1)]
    else:
        left, right = rings[:, rings.shape[1] // 2], rings[:, 0]
    return np.vstack([left, tip]), np.vstack([right, tip])
