"""What pictures of all kinds share: their bytes, their words and their colours. Imports no matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
QUIET, WARNING = "#555555", "#b35900"
"""Colours of words about a picture, and of remarks that ask for a look."""


def figure_bytes(figure: Figure, dpi: int | None = DPI) -> bytes:
    """A figure as the bytes of a PNG file; `dpi` None takes the figure's own."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi or "figure")
    return buffer.getvalue()


def flag_words(flags: Sequence[str]) -> str:
    """Flags as words: ``"lateral view, colour"``; empty where there are none."""
    return ", ".join(flag.replace("_", " ") for flag in flags)


def shares(color: tuple[int, int, int]) -> tuple[float, float, float]:
    """Red, green and blue from 0..255 to 0..1, as matplotlib takes them."""
    red, green, blue = (value / 255 for value in color)
    return red, green, blue


def tint(color: str, alpha: float) -> tuple[float, float, float, float]:
    """A colour by its name or ``#rrggbb``, as transparent as `alpha` says (0..1)."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return red, green, blue, alpha
