"""Pictures of translated images: before, after, and the difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = 3.0


def plot_translated(
    given: npt.NDArray[np.float32],
    translated: npt.NDArray[np.float32],
    domains: tuple[str, str],
    aspect: float,
) -> Figure:
    """Draw an image before and after, and where it was made brighter (red) or darker (blue).

    Args:
        given: (H, W) in [0, 1].
        translated: (H, W) in [0, 1].
        domains: where it comes from, and whose look it has.
        aspect: height over width of a pixel.
    """
    from matplotlib.figure import Figure

    from anatozoo.text import in_figure

    height, width = given.shape
    tall = min(2.0, max(0.4, height * aspect / width))
    figure = Figure(figsize=(3 * _INCHES, _INCHES * tall + 0.8), layout="constrained")
    axes = figure.subplots(1, 3)
    titles = (f"{in_figure(domains[0])}, as given", f"in the look of {in_figure(domains[1])}", "difference")
    for ax, picture, title in zip(axes, (given, translated, translated - given), titles, strict=True):
        if title == "difference":
            ax.imshow(picture, cmap="RdBu_r", vmin=-0.5, vmax=0.5, aspect=aspect)
        else:
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect=aspect)
        ax.set_title(title, fontsize=9)
        ax.set(xticks=[], yticks=[])
    return figure
