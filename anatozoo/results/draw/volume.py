"""Pictures of segmented volumes: slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.io.figures import shares
from anatozoo.results.draw.style import HEAT, display_name, heat_layer, organ_colors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SLICES, _COLUMNS, _INCHES = 40, 5, 2.2


def plot_volume(
    labels: npt.NDArray[np.uint8],
    classes: Sequence[str],
    pixels: npt.NDArray[np.float32] | None,
    spacing_mm: Sequence[float] | None,
    heat: npt.NDArray[np.float32] | None = None,
) -> Figure:
    """Draw the slices with the contours of the organs.

    Args:
        labels: (D, H, W), 0 for background; of more than 40 slices those around the anatomy are drawn.
        classes: organs in the order of their labels 1, 2, ...
        pixels: (D, H, W) of the volume; None draws on black.
        spacing_mm: (x, y, z) millimetres per voxel, or None.
        heat: (D, H, W) in 0..1, where the members of an ensemble differ; None draws none.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = _slices(labels)
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(_INCHES * columns, _INCHES * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colors = {organ: shares(color) for organ, color in organ_colors(classes).items()}
    low, high = (0, 1) if pixels is None else np.percentile(pixels, [1, 99.5])
    aspect = 1.0 if spacing_mm is None else spacing_mm[1] / spacing_mm[0]
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, z in zip(axes, shown, strict=False):
        picture = np.zeros(labels.shape[1:]) if pixels is None else pixels[z]
        ax.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=aspect)
        if heat is not None:
            ax.imshow(heat_layer(heat[z]), aspect=aspect)
        for value, color in enumerate(colors.values(), start=1):
            mask = labels[z] == value
            if mask.any():
                ax.contour(mask, levels=[0.5], colors=[color], linewidths=1.2)
        ax.set_title(f"slice {z}", fontsize=8)
        ax.set(xticks=[], yticks=[])
    handles = [Patch(fc=color, label=display_name(organ)) for organ, color in colors.items()]
    if heat is not None:
        handles.append(Patch(fc=shares(HEAT), label="members differ"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 5),
        fontsize=8,
        frameon=False,
    )
    return figure


def _slices(labels: npt.NDArray[np.uint8]) -> list[int]:
    """The slices to draw: all, or as many as fit, around the anatomy."""
    depth = len(labels)
    if depth <= _MOST_SLICES:
        return list(range(depth))
    with_anatomy = np.flatnonzero(labels.any((1, 2)))
    first, last = (with_anatomy[0], with_anatomy[-1]) if len(with_anatomy) else (0, depth - 1)
    return np.unique(np.linspace(first, last, _MOST_SLICES).round().astype(int)).tolist()
