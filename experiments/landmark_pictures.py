"""Pictures of the landmark table: its errors as bars, and three radiographs drawn by every row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from landmark_rows import METRICS
from matplotlib.figure import Figure

from anatozoo.io.images import Image, read_image
from anatozoo.io.samples import sample_radiograph
from anatozoo.metrics.occlusion import occlude

COLOURS = {"landmarks": "#2a6f97", "masks": "#c1666b"}
_SHOWN = 384
"""Side of the shown radiographs, in pixels."""


def draw_figure(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Errors of all rows with 95 % intervals, and the published means as crosses.

    A row that is far off all others would squeeze them: it is an arrow with its number.
    """
    figure = Figure(figsize=(15, 0.26 * len(lines) + 1.3), layout="constrained")
    axes = figure.subplots(1, len(METRICS), sharey=True)
    places = np.arange(len(lines))[::-1]
    for axis, (column, title) in zip(axes, METRICS.items(), strict=True):
        means = [line["metrics"][column]["mean"] for line in lines if column in line["metrics"]]
        # A few rows alone may have nothing in a column.
        middle = np.median(means or [0.0])
        far = 12 * np.median(np.abs(np.array(means or [0.0]) - middle))
        for place, line in zip(places, lines, strict=True):
            colour = COLOURS["landmarks" if "mse_px2" in line["metrics"] else "masks"]
            found = line["metrics"].get(column)
            if found is not None and abs(found["mean"] - middle) > far:
                high = found["mean"] > middle
                text = f"{found['mean']:.4g} →" if high else f"← {found['mean']:.3f}"
                beside = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": 8}
                axis.text(float(high), place, text, color=colour, ha="right" if high else "left", **beside)
            elif found is not None:
                ends = [[found["mean"] - found["ci_low"]], [found["ci_high"] - found["mean"]]]
                axis.errorbar(found["mean"], place, xerr=ends, fmt="o", ms=4, color=colour, lw=1.2)
            if (other := line.get("published", {}).get(column)) is not None:
                axis.plot(other, place, "x", color="#555555", ms=5)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(places, [line["title"] for line in lines], fontsize=9)
    figure.supxlabel("dot: ours, 21 validation images, 95 % interval; cross: published, 51 test images")
    figure.savefig(path, dpi=90)


def example_radiographs() -> dict[str, Image]:
    """An easy, a hard and an occluded radiograph, made from one that everybody may have."""
    easy = read_image(sample_radiograph())
    span = float(np.ptp(easy.pixels))
    noise = np.random.default_rng(0).normal(0, 0.06 * span, easy.pixels.shape)
    pale = easy.pixels.min() + span * (0.35 + 0.4 * (easy.pixels - easy.pixels.min()) / span)
    hard = replace(easy, pixels=np.clip(pale + noise, 0, easy.pixels.max()).astype(easy.pixels.dtype))
    height, width = easy.pixels.shape
    return {
        "easy": easy,
        "hard: pale and noisy": hard,
        "occluded": occlude(easy, 256, (round(0.62 * 1024), round(0.6 * 1024 * height / max(width, height)))),
    }


def draw_radiographs(
    answers: Mapping[str, Mapping[str, Any]], images: Mapping[str, Image], path: Path
) -> None:
    """Contours of every row on each image.

    Args:
        answers: title of a row -> name of an image -> result.
        images: the images by name.
        path: file of the picture.
    """
    high, wide = math.ceil(len(answers) / 2), len(images)
    figure = Figure(figsize=(4.0 * wide + 0.4, 2.15 * high + 0.3), layout="constrained")
    grid = figure.subplots(high, 2 * wide, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for number, (title, results) in enumerate(answers.items()):
        block, line = divmod(number, high)
        row = grid[line, wide * block : wide * (block + 1)]
        for axis, (name, image) in zip(row, images.items(), strict=True):
            step = max(1, max(image.pixels.shape) // _SHOWN)
            axis.imshow(image.pixels[::step, ::step], cmap="gray")
            for lines in results[name].outlines().values():
                for points in lines:
                    closed = np.concatenate([points, points[:1]]) / step
                    axis.plot(closed[:, 0], closed[:, 1], color="#ffb703", lw=0.9)
            if line == 0:
                axis.set_title(name, fontsize=9)
        beside = {"rotation": 90, "va": "center", "ha": "right", "transform": row[0].transAxes}
        row[0].text(-0.04, 0.5, title, fontsize=8, **beside)
    figure.savefig(path, dpi=70)
