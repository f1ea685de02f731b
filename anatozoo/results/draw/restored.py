"""Pictures of restored volumes: planes across the slices, as given and restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = 3.0
_NAMES = "zyx"
"""Names of the axes of the array."""


def plot_restored(
    volume: npt.NDArray[np.float32],
    given: npt.NDArray[np.float32],
    across: int,
    spacing_mm: Sequence[float] | None,
) -> Figure:
    """Draw two planes through the middle, across the slices, as given and restored.

    Args:
        volume: (D, H, W), the fine slices.
        given: the thick slices, fewer along one axis.
        across: axis of the array across the slices.
        spacing_mm: (x, y, z) millimetres per fine voxel, or None.
    """
    from matplotlib.figure import Figure

    within = [axis for axis in range(3) if axis != across]
    figure = Figure(figsize=(2 * _INCHES, 2 * _INCHES + 0.6), layout="constrained")
    axes = figure.subplots(2, len(within), squeeze=False)
    low, high = np.percentile(given, [1, 99.5])
    thick = np.repeat(given, volume.shape[across] // given.shape[across], across)
    steps = (1.0, 1.0, 1.0) if spacing_mm is None else tuple(spacing_mm)[::-1]
    # A view is at right angles to one axis within the slices and runs along the other.
    for column, (axis, along) in enumerate(zip(within, reversed(within), strict=True)):
        for ax, values in zip(axes[:, column], (thick, volume), strict=True):
            plane = np.moveaxis(values, (across, along), (0, 1))[..., values.shape[axis] // 2]
            aspect = steps[across] / steps[along]
            # The first slice, usually the lowest of the body, is drawn at the bottom.
            ax.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=aspect, origin="lower")
            ax.set(xticks=[], yticks=[])
        axes[0, column].set_title(f"across the slices, along {_NAMES[along]}", fontsize=8)
    for ax, words in zip(axes[:, 0], ("as given", "restored"), strict=True):
        ax.set_ylabel(words, fontsize=8)
    return figure
