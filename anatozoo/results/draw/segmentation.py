"""Pictures of segmented images: overlays drawn fast for files, and matplotlib figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from anatozoo.io.figures import WARNING, flag_words, shares
from anatozoo.results.draw.chest import draw_lines, plot_lines
from anatozoo.results.draw.style import (
    HEAT,
    Color,
    display_grey,
    display_name,
    font_of,
    heat_layer,
    organ_colors,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anatozoo.results.segmentation import SegmentationResult

Entry = tuple[str, Color, Color | None]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PANEL, _TEXT, _QUIET, _WARNING = (17, 19, 24), (236, 238, 242), (150, 156, 168), (255, 183, 77)

_FILL, _BAND = 0.20, 0.45
_DIFFER = "members differ"
_LONGEST_SIDE, _SHORTEST_LONG_SIDE = 1400, 1000
_SUBPIXEL_BITS = 4
_SWATCH, _GAP = 26, 24


def draw_overlay(
    result: SegmentationResult, *, contours: bool = True, ratio: bool = True
) -> npt.NDArray[np.uint8]:
    """Draw the image with translucent organs, their contours, and a legend below.

    Of chests also the widths of heart and thorax, with the cardiothoracic ratio.

    Args:
        result: a result; without its pixels, the organs are drawn on black.
        contours: whether organs are drawn, with what is known of their uncertainty.
        ratio: whether the cardiothoracic ratio is drawn.

    Returns:
        ``(H, W, 3)`` uint8, red green blue, the image's long side between 1000 and 1400 pixels. The legend
        adds some rows below, and columns beside an image too narrow for it.
    """
    scale = _drawing_scale(result.size)
    canvas = _grey_canvas(result, scale)
    colors = organ_colors(result.organs)
    if contours:
        # Points are pixel centres: the half pixel keeps them in place when the grid changes.
        closed = {
            organ: [(points + 0.5) * scale - 0.5 for points in lines]
            for organ, lines in result.outlines().items()
        }
        canvas = _fill_organs(canvas, closed, colors)
        canvas = _fill_bands(canvas, result, scale, colors)
        canvas = _fill_heat(canvas, result)
        _draw_contours(canvas, closed, colors)
    if ratio and (lines := result.cardiothoracic_lines) is not None:
        canvas = draw_lines(canvas, lines, scale)
    return _add_legend(canvas, result, colors)


def png_bytes(picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture ``(H, W, 3)`` uint8 as the bytes of a PNG file.

    Every row is the difference to the one above. Pillow tries five filters for each row, which takes twice as
    long and, of radiographs, makes no smaller files.
    """
    how = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), how)[1].tobytes()


def _drawing_scale(size: tuple[int, int]) -> float:
    longest = max(size)
    return min(max(longest, _SHORTEST_LONG_SIDE), _LONGEST_SIDE) / longest


def _grey_canvas(result: SegmentationResult, scale: float) -> npt.NDArray[np.uint8]:
    width, height = (max(1, round(side * scale)) for side in result.size)
    if result.pixels is None:
        return np.zeros((height, width, 3), dtype=np.uint8)
    # Stretched after shrinking: a fraction of the work for large images.
    first = min(scale, 1.0)
    small = (max(1, round(result.size[0] * first)), max(1, round(result.size[1] * first)))
    grey = display_grey(cv2.resize(np.asarray(result.pixels), small, interpolation=cv2.INTER_AREA))
    grey = np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def _fixed_point(contour: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Coordinates with sub-pixel bits, as OpenCV's drawing functions take them."""
    near = np.clip(contour, -32768.0, 32767.0)
    return np.rint(near * 2**_SUBPIXEL_BITS).astype(np.int32).reshape(-1, 1, 2)


def _fill_organs(
    canvas: npt.NDArray[np.uint8],
    contours: dict[str, list[npt.NDArray[np.float64]]],
    colors: dict[str, Color],
) -> npt.NDArray[np.uint8]:
    height, width = canvas.shape[:2]
    for organ, lines in contours.items():
        if not lines:
            continue
        # Only where the organ is: a copy and a sum of the whole picture take longer than all else.
        points = np.concatenate(lines)
        x, y = np.clip(np.floor(points.min(0)) - 2, 0, (width, height)).astype(int)
        right, below = np.clip(np.ceil(points.max(0)) + 3, 0, (width, height)).astype(int)
        part = canvas[y:below, x:right]
        if not part.size:
            continue
        filled = part.copy()
        # All lines at once: the even-odd rule then leaves holes open.
        fixed = [_fixed_point(line - (x, y)) for line in lines]
        cv2.fillPoly(filled, fixed, colors[organ], cv2.LINE_AA, _SUBPIXEL_BITS)
        canvas[y:below, x:right] = cv2.addWeighted(filled, _FILL, part, 1.0 - _FILL, 0.0)
    return canvas


def _fill_bands(
    canvas: npt.NDArray[np.uint8], result: SegmentationResult, scale: float, colors: dict[str, Color]
) -> npt.NDArray[np.uint8]:
    """Where contours lie within two standard deviations, if the result says so."""
    for organ, quads in result.bands().items():
        filled = canvas.copy()
        # One by one: quadrilaterals overlap, and the even-odd rule would leave holes there.
        for quad in (quads + 0.5) * scale - 0.5:
            cv2.fillPoly(filled, [_fixed_point(quad)], colors[organ], cv2.LINE_AA, _SUBPIXEL_BITS)
        canvas = np.asarray(cv2.addWeighted(filled, _BAND, canvas, 1.0 - _BAND, 0.0), dtype=np.uint8)
    return canvas


def _fill_heat(canvas: npt.NDArray[np.uint8], result: SegmentationResult) -> npt.NDArray[np.uint8]:
    """Where the members of an ensemble differ, if the result says so."""
    heat = result.heat()
    if heat is None:
        return canvas
    size = (canvas.shape[1], canvas.shape[0])
    layer = heat_layer(np.asarray(cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR)))
    mixed: npt.NDArray[np.uint8] = np.rint(
        canvas * (1 - layer[..., 3:]) + 255 * layer[..., :3] * layer[..., 3:]
    ).astype(np.uint8)
    return mixed


def _draw_contours(
    canvas: npt.NDArray[np.uint8],
    contours: dict[str, list[npt.NDArray[np.float64]]],
    colors: dict[str, Color],
) -> None:
    """Contours with a thin dark rim, so that they stand out on bone and on air alike."""
    width = max(2, round(max(canvas.shape) / 500))
    for organ, lines in contours.items():
        fixed = [_fixed_point(line) for line in lines]
        cv2.polylines(canvas, fixed, True, _PANEL, width + 2, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.polylines(canvas, fixed, True, colors[organ], width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _add_legend(
    canvas: npt.NDArray[np.uint8], result: SegmentationResult, colors: dict[str, Color]
) -> npt.NDArray[np.uint8]:
    """Put a strip with swatches, the checkpoint and the flags below the picture."""
    unit = max(canvas.shape) / 1000
    width = max(canvas.shape[1], round(360 * unit))
    organs: list[Entry] = [(display_name(organ), _TEXT, color) for organ, color in colors.items()]
    organs += [] if result.heat() is None else [(_DIFFER, _TEXT, HEAT)]
    remarks: list[Entry] = [(flag.replace("_", " "), _WARNING, None) for flag in result.flags]
    band = "" if result.sigma is None else ", bands: ± 2 standard deviations"
    source: Entry = (f"{result.checkpoint} {result.version}{band}", _QUIET, None)
    strip = _strip(tuple(organs), (source, *remarks), width, unit)
    side = width - canvas.shape[1]
    framed = cv2.copyMakeBorder(canvas, 0, 0, side // 2, side - side // 2, cv2.BORDER_CONSTANT, value=_PANEL)
    return np.concatenate([framed, strip], axis=0)


@lru_cache(maxsize=32)
def _strip(
    organs: tuple[Entry, ...], remarks: tuple[Entry, ...], width: int, unit: float
) -> npt.NDArray[np.uint8]:
    """The words of a legend, (rows, width, 3); those of a folder's pictures are mostly the same."""
    font = font_of(round(19 * unit))
    margin, line = round(18 * unit), round(32 * unit)
    room = width - 2 * margin
    rows = [*_wrap(organs, font, room, unit), *_wrap(remarks, font, room, unit)]
    strip = PILImage.new("RGB", (width, len(rows) * line + margin), _PANEL)
    draw = ImageDraw.Draw(strip)
    for index, row in enumerate(rows):
        _draw_row(draw, row, font, (margin, margin // 2 + index * line), line, unit)
    found = np.asarray(strip)
    found.flags.writeable = False  # all callers share it
    return found


def _entry_width(entry: Entry, font: Font, unit: float) -> float:
    marked = entry[2] is not None or entry[1] == _WARNING
    return font.getlength(entry[0]) + (_GAP + _SWATCH * marked) * unit


def _wrap(entries: Sequence[Entry], font: Font, width: float, unit: float) -> Iterator[list[Entry]]:
    """Break the entries of the legend into lines no wider than `width`."""
    row: list[Entry] = []
    used = 0.0
    for entry in entries:
        needed = _entry_width(entry, font, unit)
        if row and used + needed > width:
            yield row
            row, used = [], 0.0
        row.append(entry)
        used += needed
    yield row


def _draw_row(
    draw: ImageDraw.ImageDraw, row: Sequence[Entry], font: Font, at: tuple[int, int], line: int, unit: float
) -> None:
    x, middle = float(at[0]), at[1] + line / 2
    for text, color, swatch in row:
        half, indent = 8 * unit, 0.0
        if swatch:
            box = (x, middle - half, x + 2 * half, middle + half)
            draw.rounded_rectangle(box, radius=4 * unit, fill=swatch)
        elif color == _WARNING:
            corners = [(x, middle + half), (x + 2 * half, middle + half), (x + half, middle - half)]
            draw.polygon(corners, fill=_WARNING)
        if swatch or color == _WARNING:
            indent = _SWATCH * unit
        draw.text((x + indent, middle), text, fill=color, font=font, anchor="lm")
        x += _entry_width((text, color, swatch), font, unit)


def plot_segmentation(result: SegmentationResult, ax: Axes | None = None) -> Figure:
    """Draw a result with matplotlib, in the coordinates of the source image.

    Args:
        result: a result; without its pixels, the organs are drawn on black.
        ax: axes to draw on; None makes a new figure outside pyplot, so that nothing is left open.

    Returns:
        The figure that holds the axes.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    width, height = result.size
    if ax is None:
        inch = 7 / max(result.size)
        figure = Figure(figsize=(max(width * inch, 4.5), height * inch + 1), layout="constrained")
        ax = figure.add_subplot()
    grey = np.zeros((height, width), np.uint8) if result.pixels is None else display_grey(result.pixels)
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
    colors, gap, bands = organ_colors(result.organs), np.full((1, 2), np.nan), result.bands()
    for organ, lines in result.outlines().items():
        color = shares(colors[organ])
        closed = [np.vstack([line, line[:1]]) for line in lines]
        if closed:
            area = Path.make_compound_path(*(Path(line, closed=True) for line in closed))
            ax.add_patch(PathPatch(area, facecolor=(*color, _FILL), edgecolor="none"))
        if organ in bands:
            # All of one sense of rotation: where they overlap, they are one area.
            band = Path.make_compound_path(*(Path([*quad, quad[0]], closed=True) for quad in bands[organ]))
            ax.add_patch(PathPatch(band, facecolor=(*color, _BAND), edgecolor="none"))
        line = np.vstack([gap, *(part for each in closed for part in (each, gap))])
        ax.plot(line[:, 0], line[:, 1], color=color, linewidth=1.6, label=display_name(organ))
    if (heat := result.heat()) is not None:
        ax.imshow(heat_layer(heat))
        ax.fill([], [], color=shares(HEAT), label=_DIFFER)
    if (lines_of_ratio := result.cardiothoracic_lines) is not None:
        plot_lines(ax, lines_of_ratio, result.size)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    if result.flags:
        ax.set_title(flag_words(result.flags), color=WARNING, fontsize=9)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=9)
    root = ax.get_figure(root=True)
    if not isinstance(root, Figure):
        raise TypeError("the axes belong to no figure.")
    return root
