"""What a result says of itself: at most five lines of text, and a table for notebooks."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from anatozoo.text import one_line, printable, some

WIDTH = 110
_MOST_ROWS = 24
_FRAME = "border: 1px solid rgba(128, 128, 128, 0.4); padding: 2px 10px;"


def lines_of(result: Any) -> list[str]:
    """Kind and names, size, measurements (two lines), flags of a result, and no line without content.

    Args:
        result: an `anatozoo.results.base.Result`.
    """
    numbers = [each.words for each in result.measurements]
    rows = wrap("; ".join(numbers), WIDTH, max_lines=2, placeholder=" ...")
    flags = some(result.flags) if result.flags else ""
    rest = [result.about, *rows, f"flags: {flags}" if flags else ""]
    return [_cut(line) for line in (f"{type(result).__name__} {_title(result)}".strip(), *rest) if line]


def html_of(result: Any) -> str:
    """The picture and the measurements as HTML, in the colours of the page around it.

    Args:
        result: an `anatozoo.results.base.Result`.
    """
    title, *_ = lines = lines_of(result)
    picture = base64.b64encode(result._repr_png_()).decode("ascii")
    numbers = result.measurements
    head = _row("th", ("Quantity", "Organ", "Value", "Unit"))
    rows = [
        _row("td", (m.name.replace("_", " "), m.organ.replace("_", " "), m.text, m.unit))
        for m in numbers[:_MOST_ROWS]
    ]
    table = f'<table style="border-collapse: collapse; color: inherit;">{head}{"".join(rows)}</table>'
    more = [f"and {len(numbers) - _MOST_ROWS} more measurements"] if len(numbers) > _MOST_ROWS else []
    notes = [result.about, *more, *(line for line in lines if line.startswith("flags: "))]
    return (
        '<div style="color: inherit; background: transparent;">'
        f"<p>{_safe(title)}<br>{'<br>'.join(_safe(note) for note in notes if note)}</p>"
        f'<img alt="{_safe(title)}" src="data:image/png;base64,{picture}" '
        'style="max-width: min(100%, 640px); height: auto;">'
        f"{table if rows else ''}</div>"
    )


def _row(kind: str, texts: Sequence[str]) -> str:
    """A row of the table; numbers are set to the right."""
    cells = (
        f'<{kind} style="{_FRAME} text-align: {"right" if at == 2 else "left"};">{_safe(text)}</{kind}>'
        for at, text in enumerate(texts)
    )
    return f"<tr>{''.join(cells)}</tr>"


def size_words(size: Any, spacing_mm: Any) -> str:
    """Such as ``1024 x 1024 px of 0.35 x 0.35 mm``."""
    sides = f"{' x '.join(map(str, size))} {'px' if len(size) == 2 else 'voxels'}"
    if spacing_mm is None:
        return f"{sides}, spacing unknown"
    return f"{sides} of {' x '.join(f'{step:.4g}' for step in spacing_mm)} mm"


def _title(result: Any) -> str:
    image = getattr(result, "image", "")
    if not image and hasattr(result, "moving"):
        image = f"{_name(result.moving)} on {_name(result.fixed)}"
    by = getattr(result, "checkpoint", "") or getattr(result, "engine", "")
    version = getattr(result, "version", "")
    parts = [repr(_name(image))] if image else []
    return " ".join([*parts, f"by {by} {version}".rstrip()] if by else parts)


def _name(path: str) -> str:
    """The last part of a path, whose beginning says little."""
    return one_line(str(path).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])


def _cut(line: str) -> str:
    text = one_line(line)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _safe(text: str) -> str:
    return html.escape(printable(text))
