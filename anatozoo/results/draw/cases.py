"""Pictures of an evaluation's cases: prediction and reference, drawn over each other.

The two colours, blue and orange of Okabe and Ito (Color Universal Design, 2008), are distinct under the usual
kinds of colour blindness and differ in brightness; the thin line is drawn on the thick one, so that both are
visible where they agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from anatozoo.io.annotation import Annotation
from anatozoo.io.figures import shares
from anatozoo.metrics.cases import Case
from anatozoo.results.draw.style import display_grey, mask_outlines
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE, PREDICTION = (0, 114, 178), (230, 159, 0)
"""Red, green and blue (0..255) of prediction and reference."""
LONGEST_SIDE = 480
_PANEL_INCH, _DPI, _LONGEST_NAME = 3.2, 150, 34

Lines = list[npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class CasePicture:
    """The picture of a case.

    Attributes:
        image: (H, W) grey levels 0..255, the longer side 480 pixels; black without an image. Of a volume, the
            axial slice with the most reference.
        prediction: closed predicted lines around the organs of both sides, (N, 2) each, (x, y) in its pixels.
        reference: closed reference lines around these organs, (N, 2) each.
    """

    image: npt.NDArray[np.uint8]
    prediction: Lines
    reference: Lines


def case_picture(case: Case) -> CasePicture:
    """Make the picture of a case; pixels become square if the spacing is known."""
    reference = case.reference
    organs = [organ for organ in case.prediction.organs if organ in reference.organs]
    level = None if len(reference.size) == 2 else _fullest_slice(reference, organs)
    size = np.array(reference.size[:2], dtype=float)
    steps = np.ones(2) if reference.spacing_mm is None else np.array(reference.spacing_mm[:2])
    scale = steps * LONGEST_SIDE / (size * steps).max()
    width, height = (max(1, round(value)) for value in size * scale)
    return CasePicture(
        _grey(case.image, level, reference.size, (width, height)),
        _lines(case.prediction, organs, level, scale),
        _lines(reference, organs, level, scale),
    )


def draw_cases(rows: Mapping[str, Sequence[tuple[str, str, CasePicture]]]) -> Figure:
    """Draw cases side by side.

    Args:
        rows: title of a row, such as ``"worst"`` -> id, score in words and picture of each of its cases.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = {title: cases for title, cases in rows.items() if cases}
    columns = max(map(len, shown.values()), default=1)
    size = (max(columns * _PANEL_INCH, 4.0), max(len(shown), 1) * (_PANEL_INCH + 0.35) + 0.35)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor="white")
    grid = figure.subplots(max(len(shown), 1), columns, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for axes, (title, cases) in zip(grid, shown.items(), strict=False):
        for place, (ax, (name, score, picture)) in enumerate(zip(axes, cases, strict=False)):
            _draw_panel(ax, picture)
            ax.set_title(in_figure(f"{_short(name)}\n{score}"), fontsize=9)
            if place == 0:
                ax.text(
                    -0.03,
                    0.5,
                    title,
                    transform=ax.transAxes,
                    rotation=90,
                    ha="right",
                    va="center",
                    fontsize=11,
                )
    handles = [
        Line2D([], [], color=shares(color), linewidth=width, label=label)
        for color, width, label in ((REFERENCE, 2.8, "reference"), (PREDICTION, 1.1, "prediction"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw_panel(ax: Axes, picture: CasePicture) -> None:
    from matplotlib.patheffects import Normal, Stroke

    ax.imshow(picture.image, cmap="gray", vmin=0, vmax=255)
    height, width = picture.image.shape
    for lines, color, thickness in (
        (picture.reference, REFERENCE, 2.8),
        (picture.prediction, PREDICTION, 1.1),
    ):
        for line in lines:
            closed = np.vstack([line, line[:1]])
            [drawn] = ax.plot(closed[:, 0], closed[:, 1], color=shares(color), linewidth=thickness)
            # A dark rim separates lines from bright bone.
            drawn.set_path_effects([Stroke(linewidth=thickness + 0.8, foreground="black"), Normal()])
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _fullest_slice(side: Annotation, organs: Sequence[str]) -> int:
    counts = np.zeros(side.size[2])
    for organ in organs:
        if organ in side.masks:
            counts += side.masks[organ].sum((1, 2))
    return int(counts.argmax()) if counts.any() else side.size[2] // 2


def _grey(
    image: npt.NDArray[Any] | None, level: int | None, size: tuple[int, ...], target: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    if image is None:
        return np.zeros(target[::-1], np.uint8)
    if level is not None:
        # The image may be finer or coarser than the masks.
        image = image[min(int((level + 0.5) * len(image) / size[2]), len(image) - 1)]
    shrinks = max(image.shape) > max(target)
    small = cv2.resize(
        np.asarray(image, dtype=np.float32),
        target,
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    return display_grey(small)


def _lines(
    side: Annotation, organs: Sequence[str], level: int | None, scale: npt.NDArray[np.float64]
) -> Lines:
    found: list[npt.NDArray[Any]] = []
    for organ in organs:
        if organ in side.landmarks:
            found.append(side.landmarks[organ])
            continue
        mask = side.masks[organ] if level is None else side.masks[organ][level]
        found += mask_outlines(mask)
    # Points are pixel centres: the half pixel keeps them in place when the grid changes.
    return [((line + 0.5) * scale - 0.5).astype(np.float32) for line in found]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
