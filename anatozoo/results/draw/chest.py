"""The two widths of the cardiothoracic ratio, drawn on a radiograph with their quotient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw

from anatozoo.io.figures import shares
from anatozoo.results.draw.style import ORGAN_COLORS, Color, font_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from anatozoo.metrics.plausibility import CardiothoracicLines, Line

HEART: Color = ORGAN_COLORS["heart"]
THORAX: Color = (255, 255, 255)
_RIM: Color = (17, 19, 24)
_BITS = 4
_TICK = 0.009
"""Half the length of the strokes at the ends, as a share of the picture's longer side."""
_LEFT = 0.18
"""Where along the thorax line the value stands: not on the heart's contour."""


def ratio_words(lines: CardiothoracicLines) -> str:
    """The value as the picture says it."""
    return f"CTR {lines.ratio:.2f}"


def draw_lines(
    canvas: npt.NDArray[np.uint8], lines: CardiothoracicLines, scale: float
) -> npt.NDArray[np.uint8]:
    """Draw both lines with strokes at their ends, and the value beside that of the thorax.

    Args:
        canvas: (H, W, 3) uint8, which is drawn on.
        lines: in pixels of the source.
        scale: pixels of the canvas for one of the source.

    Returns:
        The picture.
    """
    longest = max(canvas.shape)
    width, tick = max(1, round(longest / 700)), _TICK * longest
    strokes = [
        (stroke, color)
        for line, color in ((lines.thorax, THORAX), (lines.heart, HEART))
        for stroke in _strokes(line, scale, tick)
    ]
    for rim in (True, False):
        for stroke, color in strokes:
            start, end = (_fixed(point) for point in stroke)
            thick = width + 2 if rim else width
            cv2.line(canvas, start, end, _RIM if rim else color, thick, cv2.LINE_AA, _BITS)
    picture = PILImage.fromarray(canvas)
    font = font_of(round(0.021 * longest))
    (x, y), below = _place(lines)
    x, y, gap = (x + 0.5) * scale, (y + 0.5) * scale, 0.7 * tick
    # At the lower border of the picture there is no room below.
    below = below and y + 4 * tick < canvas.shape[0]
    at, anchor = (x, y + (gap if below else -gap)), "ma" if below else "md"
    ImageDraw.Draw(picture).text(
        at, ratio_words(lines), THORAX, font, anchor, stroke_width=max(1, width), stroke_fill=_RIM
    )
    return np.asarray(picture)


def plot_lines(ax: Axes, lines: CardiothoracicLines, size: tuple[int, int]) -> None:
    """Draw the same with matplotlib, in the coordinates of the source of this size (width, height)."""
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=2.2, foreground=shares(_RIM))]
    for line, color in ((lines.thorax, THORAX), (lines.heart, HEART)):
        strokes = _strokes(line, 1.0, _TICK * max(size))
        drawn = LineCollection(strokes, colors=[shares(color)], linewidths=1.0, path_effects=rim, zorder=3)
        ax.add_collection(drawn, autolim=False)
    (x, y), below = _place(lines)
    text = ax.annotate(
        ratio_words(lines),
        (x, y),
        (0, -3 if below else 3),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        color=shares(THORAX),
        fontsize=8,
        path_effects=rim,
    )
    # Of landmarks far outside, it would make room for itself there.
    text.set_in_layout(False)


def _strokes(line: Line, scale: float, tick: float) -> list[Line]:
    """A line with a short stroke across each end, in pixels of the picture."""
    (left, y), (right, _) = (((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5) for x, y in line)
    ends: list[Line] = [((x, y - tick), (x, y + tick)) for x in (left, right)]
    return [((left, y), (right, y)), *ends]


def _place(lines: CardiothoracicLines) -> tuple[tuple[float, float], bool]:
    """Where the value belongs, and whether below the thorax line, which it does if the heart's is above."""
    (left, y), (right, _) = lines.thorax
    return (left + _LEFT * (right - left), y), lines.heart[0][1] <= y


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    x, y = (round(min(max(value, -32768.0), 32767.0) * 2**_BITS) for value in point)
    return x, y
