"""Pictures of repaired masks: before, after, and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.io.figures import shares
from anatozoo.results.draw.style import PLANES, display_name, organ_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMN_INCHES = 3.1
_ADDED, _REMOVED, _EXCHANGED, _KEPT = (255, 255, 255), (222, 45, 38), (158, 102, 255), (70, 74, 82)
_LONGEST = 900
"""Longer side of a drawn plane in pixels."""
Picture = npt.NDArray[np.uint8]


def plot_repair(
    before: Picture, after: Picture, classes: Sequence[str], spacing_mm: Sequence[float] | None
) -> Figure:
    """Draw the mask before and after the repair, and where it was changed.

    In the difference, white was added to an organ, red removed, violet passed from one organ to another, and
    grey stayed.

    Args:
        before: (H, W) or (D, H, W), the labels as given; in 3-D one row of pictures is drawn for each of the
            slices through the middle of the anatomy.
        after: the repaired labels.
        classes: organs in the order of their labels 1, 2, ...
        spacing_mm: (x, y[, z]) millimetres per pixel, or None.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    views = _views(before, after, spacing_mm or (1.0,) * before.ndim)
    heights = [
        min(2.0, max(0.4, before.shape[0] * aspect / before.shape[1])) for _, before, _, aspect in views
    ]
    figure = Figure(
        figsize=(3 * _COLUMN_INCHES + 0.3, _COLUMN_INCHES * sum(heights) + 0.4 * len(views) + 0.9),
        layout="constrained",
    )
    axes = figure.subplots(len(views), 3, squeeze=False, gridspec_kw={"height_ratios": heights})
    colors = organ_colors(classes)
    palette = np.array([(17, 19, 24), *colors.values()], np.uint8)
    for row, (name, before, after, aspect) in zip(axes, views, strict=True):
        titles = (f"{name}: before" if name else "Before", "After", _changes(before, after))
        pictures = (palette[before], palette[after], _difference(before, after))
        for ax, picture, title in zip(row, pictures, titles, strict=True):
            _show(ax, picture, title, aspect)
    marks = {display_name(organ): color for organ, color in colors.items()}
    marks |= {"added": _ADDED, "removed": _REMOVED, "exchanged": _EXCHANGED}
    figure.legend(
        handles=[Patch(fc=shares(color), ec="#888888", label=name) for name, color in marks.items()],
        loc="outside lower center",
        ncols=min(len(marks), 5),
        fontsize=8,
        frameon=False,
    )
    return figure


def _views(
    before: Picture, after: Picture, spacing: Sequence[float]
) -> list[tuple[str, Picture, Picture, float]]:
    """Name, labels before and after, and height over width of a pixel, for each plane to draw."""
    if before.ndim == 2:
        return [("", before, after, spacing[1] / spacing[0])]
    views = []
    either = np.argwhere((before > 0) | (after > 0))
    # Without anatomy, the centre of the volume is shown.
    middle = either.mean(0).round().astype(int) if len(either) else np.array(before.shape) // 2
    # Array axes are z, y, x: leaving out one of them leaves rows and columns.
    for axis, (across, down) in enumerate(((0, 1), (0, 2), (1, 2))):
        planes = [np.take(labels, middle[axis], axis) for labels in (before, after)]
        if axis > 0:  # the head is up
            planes = [plane[::-1] for plane in planes]
        views.append((PLANES[axis], planes[0], planes[1], spacing[down] / spacing[across]))
    return views


def _difference(before: Picture, after: Picture) -> Picture:
    picture = np.full((*before.shape, 3), (17, 19, 24), np.uint8)
    picture[(before == after) & (after > 0)] = _KEPT
    picture[(before == 0) & (after > 0)] = _ADDED
    picture[(before > 0) & (after == 0)] = _REMOVED
    picture[(before > 0) & (after > 0) & (before != after)] = _EXCHANGED
    return picture


def _changes(before: Picture, after: Picture) -> str:
    """Title of the difference: how much of the anatomy changed."""
    anatomy = np.count_nonzero((before > 0) | (after > 0))
    changed = np.count_nonzero(before != after)
    return f"Changed: {changed / anatomy:.1%}" if anatomy else "Nothing here"


def _show(ax: Axes, picture: npt.NDArray[Any], title: str, aspect: float) -> None:
    step = max(1, max(picture.shape[:2]) // _LONGEST)
    ax.imshow(picture[::step, ::step], interpolation="nearest", aspect=aspect)
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_color("#bbbbbb")
