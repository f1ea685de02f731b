"""Pictures of registrations: both images, the warped one, and the field as a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.io.figures import QUIET, WARNING, flag_words
from anatozoo.results.draw.style import PLANES, stretched
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anatozoo.results.field import RegistrationResult

_LINES = 24
"""Number of lines of the drawn grid along the longer side."""
_POINTS = 400
_COLUMN_INCHES = 2.6
_FOLD_COLOR, _LINE_COLOR = "#d62728", "#0072b2"


def plot_registration(result: RegistrationResult) -> Figure:
    """Draw moving, fixed and warped image, the deformed grid and the difference after registration.

    The grid shows the lines of the fixed image in the moving one, without the change of size between the two;
    red dots mark pixels where it folds. The difference is of grey levels stretched to 0 … 1: blue where the
    fixed image is brighter, red where the warped one is.

    Args:
        result: a result, 2-D or 3-D; in 3-D one row of pictures for each of the middle slices.
    """
    from matplotlib.figure import Figure

    views = _views(result)
    heights = [min(1.8, max(0.5, view.height / view.width)) for view in views]
    figure = Figure(
        figsize=(5 * _COLUMN_INCHES, _COLUMN_INCHES * sum(heights) + 0.45 * len(views) + 0.35),
        layout="constrained",
    )
    axes = figure.subplots(len(views), 5, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax in axes.flat:
        ax.set_anchor("N")
    for row, view in zip(axes, views, strict=True):
        _draw_view(row, view)
    about = f"{_short(result.moving)} → {_short(result.fixed)}   {result.checkpoint} {result.version}"
    figure.suptitle(in_figure(about), fontsize=9, color=QUIET)
    if result.flags:
        figure.supxlabel(flag_words(result.flags), fontsize=9, color=WARNING)
    return figure


class _View:
    """One plane through a result: pictures (h, w), and the deformation within the plane.

    Attributes:
        name: name of the plane; empty in 2-D.
        moving: plane of the moving image.
        fixed: plane of the fixed image.
        warped: plane of the warped image.
        shift: (h, w, 2) deformation within the plane in fixed pixels, (x, y).
        folds: (h, w) bool.
        aspects: height over width of a pixel, of the moving and of the fixed image.
    """

    def __init__(
        self,
        name: str,
        moving: npt.NDArray[Any],
        fixed: npt.NDArray[Any],
        warped: npt.NDArray[Any],
        shift: npt.NDArray[Any],
        folds: npt.NDArray[Any],
        aspects: tuple[float, float],
    ) -> None:
        self.name, self.moving, self.fixed, self.warped = name, moving, fixed, warped
        self.shift, self.folds, self.aspects = shift, folds, aspects

    @property
    def height(self) -> float:
        return max(self.fixed.shape[0] * self.aspects[1], 1e-6)

    @property
    def width(self) -> float:
        return float(self.fixed.shape[1])


def _views(result: RegistrationResult) -> list[_View]:
    # The deformation in fixed pixels: the positions after inverting the alignment, minus their start.
    deformation = result.deformation_px
    folds = result.jacobian <= 0
    spacings = [g.spacing_mm or (1.0,) * g.dims for g in (result.moving_grid, result.fixed_grid)]
    if result.dims == 2:
        aspects = (spacings[0][1] / spacings[0][0], spacings[1][1] / spacings[1][0])
        pictures = (result.moving_pixels, result.fixed_pixels, result.warped)
        return [_View("", *pictures, deformation, folds, aspects)]
    views = []
    # Array axes are z, y, x: leaving out one of them leaves rows and columns.
    for axis, (across, down) in enumerate(((0, 1), (0, 2), (1, 2))):
        middle, other = result.fixed_grid.shape[axis] // 2, result.moving_grid.shape[axis] // 2
        fixed, warped, shift, folded = (
            np.take(a, middle, axis) for a in (result.fixed_pixels, result.warped, deformation, folds)
        )
        moving = np.take(result.moving_pixels, other, axis)
        aspects = (spacings[0][down] / spacings[0][across], spacings[1][down] / spacings[1][across])
        view = _View(PLANES[axis], moving, fixed, warped, shift[..., [across, down]], folded, aspects)
        if axis > 0:  # the head is up
            view.moving, view.fixed, view.warped = (p[::-1] for p in (moving, fixed, warped))
            view.shift, view.folds = view.shift[::-1] * (1, -1), folded[::-1]
        views.append(view)
    return views


def _draw_view(row: npt.NDArray[Any], view: _View) -> None:
    prefix = f"{view.name}: " if view.name else ""
    grey = [stretched(p) for p in (view.moving, view.fixed, view.warped)]
    aspects = (view.aspects[0], view.aspects[1], view.aspects[1])
    for ax, picture, title, aspect in zip(row[:3], grey, ("Moving", "Fixed", "Warped"), aspects, strict=True):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect=aspect)
        ax.set_title(f"{prefix}{title}" if title == "Moving" else title, fontsize=10)
        ax.set_axis_off()
    _draw_grid(row[3], view)
    difference = grey[2] - grey[1]
    row[4].imshow(difference, cmap="RdBu_r", vmin=-0.6, vmax=0.6, aspect=view.aspects[1])
    row[4].set_title(f"Difference (mean {np.abs(difference).mean():.2f})", fontsize=10)
    row[4].set_axis_off()


def _draw_grid(ax: Axes, view: _View) -> None:
    height, width = view.folds.shape
    step = max(height, width) / _LINES
    rows = np.linspace(0, height - 1, max(2, round(height / step) + 1)).round().astype(int)
    columns = np.linspace(0, width - 1, max(2, round(width / step) + 1)).round().astype(int)
    y, x = np.mgrid[:height, :width]
    px, py = x + view.shift[..., 0], y + view.shift[..., 1]
    thin_y, thin_x = max(1, height // _POINTS), max(1, width // _POINTS)
    ax.plot(px[rows][:, ::thin_x].T, py[rows][:, ::thin_x].T, color=_LINE_COLOR, linewidth=0.7)
    ax.plot(px[::thin_y][:, columns], py[::thin_y][:, columns], color=_LINE_COLOR, linewidth=0.7)
    share = float(view.folds.mean())
    if share > 0:
        ax.plot(px[view.folds], py[view.folds], ".", color=_FOLD_COLOR, markersize=2)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect=view.aspects[1])
    ax.set_title(f"Grid ({share:.2%} folded)" if share > 0 else "Grid (no folds)", fontsize=10)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_color("#bbbbbb")


def _short(name: str) -> str:
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return last if len(last) <= 40 else f"…{last[-39:]}"
