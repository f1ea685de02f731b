"""Pictures of scores: the image beside a bar for each finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.io.figures import WARNING, flag_words
from anatozoo.results.draw.style import display_grey
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR, _INK = "#0072B2", "#222222"


def plot_scores(
    scores: Mapping[str, float],
    pixels: npt.NDArray[np.float32] | None,
    size: tuple[int, int],
    flags: Sequence[str] = (),
) -> Figure:
    """Draw the image beside a bar for each finding.

    Args:
        scores: finding -> probability.
        pixels: (H, W) grey values; None draws black.
        size: (width, height) of the image.
        flags: written above.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, max(3.0, 0.3 * len(scores) + 1)), layout="constrained")
    left, right = figure.subplots(1, 2)
    grey = np.zeros(size[::-1], np.uint8) if pixels is None else display_grey(pixels)
    left.imshow(grey, cmap="gray", vmin=0, vmax=255)
    left.set(xticks=[], yticks=[])
    places = np.arange(len(scores))
    right.barh(places, list(scores.values()), color=_BAR)
    right.set(xlim=(0, 1), xlabel="probability", yticks=places)
    right.set_yticklabels([in_figure(finding) for finding in scores], color=_INK)
    right.invert_yaxis()
    for place, score in zip(places, scores.values(), strict=True):
        right.annotate(
            f"{score:.2f}", (min(score, 0.9), place), xytext=(3, 0), textcoords="offset points", va="center"
        )
    if words := flag_words(flags):
        figure.suptitle(words, fontsize=9, color=WARNING)
    return figure
