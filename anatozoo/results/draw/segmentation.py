"""Pictures of results: overlays drawn fast for files, and matplotlib figures, in the same colours.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which people with the usual kinds of
colour blindness can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anatozoo.results.segmentation import SegmentationResult

Color = tuple[int, int, int]
Entry = tuple[str, Color, Color | None]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

ORGAN_COLORS: dict[str, Color] = {
    "lung_right": (86, 180, 233),
    "lung_left": (0, 190, 140),
    "heart": (230, 100, 30),
    "clavicle_right": (240, 228, 66),
    "clavicle_left": (214, 130, 180),
    "lungs": (86, 180, 233),
    "clavicles": (240, 228, 66),
}
"""Red, green and blue (0..255) of the organs of the chest."""

_OTHER_COLORS: tuple[Color, ...] = ((230, 159, 0), (0, 130, 210), (204, 121, 167), (213, 94, 0))
_PANEL, _TEXT, _QUIET, _WARNING = (17, 19, 24), (236, 238, 242), (150, 156, 168), (255, 183, 77)

_FILL = 0.20
_LONGEST_SIDE, _SHORTEST_LONG_SIDE = 1400, 1000
_MIDDLE_GREY, _STRONGEST_GAMMA = 0.5, 2.0
_SUBPIXEL_BITS = 4
_SWATCH, _GAP = 26, 24


def organ_colors(organs: Sequence[str]) -> dict[str, Color]:
    """A colour for each organ, the same in every picture; organs without one of their own take turns."""
    others = [organ for organ in organs if organ not in ORGAN_COLORS]
    turns = {organ: _OTHER_COLORS[i % len(_OTHER_COLORS)] for i, organ in enumerate(others)}
    return {organ: ORGAN_COLORS[organ] if organ in ORGAN_COLORS else turns[organ] for organ in organs}


def label_palette(organs: Sequence[str]) -> list[int]:
    """Red, green, blue of black (label 0) and of each organ's label, one after another, for a palette PNG."""
    return [0, 0, 0, *(value for color in organ_colors(organs).values() for value in color)]


def display_name(organ: str) -> str:
    """Words for a legend: ``"lung_right"`` becomes ``"Right lung"``."""
    part, _, side = organ.rpartition("_")
    words = f"{side} {part}" if part and side in ("right", "left") else organ
    return words.replace("_", " ").capitalize()


def display_grey(pixels: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Pixels ``(H, W)`` as grey levels 0..255 that are pleasant to look at.

    Stretched between percentiles; images that are mostly bright are darkened by a gamma of at most 2, so that
    contours stand out. For display only: models see none of this. Constant pixels become grey 64.
    """
    from anatozoo.io.intensity import normalize_intensity

    values = np.asarray(pixels, dtype=np.float32)
    if values.min() == values.max():
        return np.full(values.shape, 64, dtype=np.uint8)
    stretched = normalize_intensity(values)
    median = float(np.clip(np.median(stretched), _MIDDLE_GREY, 0.99))
    gamma = min(np.log(_MIDDLE_GREY) / np.log(median), _STRONGEST_GAMMA)
    levels = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return levels[np.rint(stretched * np.float32(255)).astype(np.uint8)]


def draw_overlay(result: SegmentationResult) -> npt.NDArray[np.uint8]:
    """Draw the image with translucent organs, their contours, and a legend below.

    Args:
        result: a result; without its pixels, the organs are drawn on black.

    Returns:
        ``(H, W, 3)`` uint8, red green blue, the image's long side between 1000 and 1400 pixels. The legend
        adds some rows below, and columns beside an image too narrow for it.
    """
    scale = _drawing_scale(result.size)
    canvas = _grey_canvas(result, scale)
    colors = organ_colors(result.organs)
    # Points are pixel centres: the half pixel keeps them in place when the grid changes.
    contours = {
        organ: [(points + 0.5) * scale - 0.5 for points in lines] for organ, lines in outlines(result).items()
    }
    canvas = _fill_organs(canvas, contours, colors)
    _draw_contours(canvas, contours, colors)
    return _add_legend(canvas, result, colors)


def outlines(result: SegmentationResult) -> dict[str, list[npt.NDArray[np.float64]]]:
    """Closed lines around each organ, ``(N, 2)`` each, x and y in pixels of the source.

    One for each organ that landmarks mark. Around a label map as many as it has parts and holes, through the
    centres of the outermost pixels, and none for an organ without any pixel.
    """
    if result.landmarks:
        return {organ: [points] for organ, points in result.landmarks.items()}
    found = {}
    for organ, mask in result.masks.items():
        lines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        found[organ] = [line.reshape(-1, 2).astype(np.float64) for line in lines]
    return found


def png_bytes(picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture ``(H, W, 3)`` uint8 as the bytes of a PNG file."""
    buffer = io.BytesIO()
    PILImage.fromarray(picture).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


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
    return np.repeat(grey[:, :, None], 3, axis=2)


def _fixed_point(contour: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Coordinates with sub-pixel bits, as OpenCV's drawing functions take them."""
    near = np.clip(contour, -32768.0, 32767.0)
    return np.rint(near * 2**_SUBPIXEL_BITS).astype(np.int32).reshape(-1, 1, 2)


def _fill_organs(
    canvas: npt.NDArray[np.uint8],
    contours: dict[str, list[npt.NDArray[np.float64]]],
    colors: dict[str, Color],
) -> npt.NDArray[np.uint8]:
    for organ, lines in contours.items():
        filled = canvas.copy()
        # All lines at once: the even-odd rule then leaves holes open.
        cv2.fillPoly(
            filled, [_fixed_point(line) for line in lines], colors[organ], cv2.LINE_AA, _SUBPIXEL_BITS
        )
        canvas = np.asarray(cv2.addWeighted(filled, _FILL, canvas, 1.0 - _FILL, 0.0), dtype=np.uint8)
    return canvas


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
    font = ImageFont.load_default(round(19 * unit))
    margin, line = round(18 * unit), round(32 * unit)
    width = max(canvas.shape[1], round(360 * unit))
    organs: list[Entry] = [(display_name(organ), _TEXT, color) for organ, color in colors.items()]
    remarks: list[Entry] = [(flag.replace("_", " "), _WARNING, None) for flag in result.flags]
    source: Entry = (f"{result.checkpoint} {result.version}", _QUIET, None)
    room = width - 2 * margin
    rows = [*_wrap(organs, font, room, unit), *_wrap([source, *remarks], font, room, unit)]
    strip = PILImage.new("RGB", (width, len(rows) * line + margin), _PANEL)
    draw = ImageDraw.Draw(strip)
    for index, row in enumerate(rows):
        _draw_row(draw, row, font, (margin, margin // 2 + index * line), line, unit)
    side = width - canvas.shape[1]
    framed = cv2.copyMakeBorder(canvas, 0, 0, side // 2, side - side // 2, cv2.BORDER_CONSTANT, value=_PANEL)
    return np.concatenate([framed, np.asarray(strip)], axis=0)


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
    colors, gap = organ_colors(result.organs), np.full((1, 2), np.nan)
    for organ, lines in outlines(result).items():
        color = tuple(value / 255 for value in colors[organ])
        closed = [np.vstack([line, line[:1]]) for line in lines]
        if closed:
            area = Path.make_compound_path(*(Path(line, closed=True) for line in closed))
            ax.add_patch(PathPatch(area, facecolor=(*color, _FILL), edgecolor="none"))
        line = np.vstack([gap, *(part for each in closed for part in (each, gap))])
        ax.plot(line[:, 0], line[:, 1], color=color, linewidth=1.6, label=display_name(organ))
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    if result.flags:
        ax.set_title(", ".join(flag.replace("_", " ") for flag in result.flags), color="#b35900", fontsize=9)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=9)
    root = ax.get_figure(root=True)
    if not isinstance(root, Figure):
        raise TypeError("the axes belong to no figure.")
    return root
