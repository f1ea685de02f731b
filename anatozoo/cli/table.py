"""Plain tables that fit a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence

WIDTH = 80
_GAP = 2
_NARROWEST = 10


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = WIDTH) -> str:
    """Align columns, wrapping the cells of the wider ones where a line would grow too long.

    Args:
        header: titles of the columns.
        rows: cells, as many a row as there are titles.
        width: longest line in characters; words longer than their column are not broken.

    Returns:
        The lines, each with a line feed.
    """
    widths = _fit([max(map(len, column)) for column in zip(header, *rows, strict=True)], width)
    lines = []
    for row in (header, *rows):
        cells = [_wrap(cell, size) for cell, size in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            parts = [
                (cell[i] if i < len(cell) else "").ljust(size)
                for cell, size in zip(cells, widths, strict=True)
            ]
            lines.append((" " * _GAP).join(parts).rstrip() + "\n")
    return "".join(lines)


def format_fields(fields: Sequence[tuple[str, str]], *, width: int = WIDTH) -> str:
    """Two columns, name and text, the text wrapped beside its name; line breaks in a text are kept."""
    margin = max(len(name) for name, _ in fields) + _GAP
    lines = []
    for name, text in fields:
        wrapped = [part for line in text.splitlines() for part in _wrap(line, width - margin)] or [""]
        lines.append(f"{name.ljust(margin)}{wrapped[0]}".rstrip() + "\n")
        lines += [f"{' ' * margin}{line}".rstrip() + "\n" for line in wrapped[1:]]
    return "".join(lines)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _fit(widths: list[int], total: int) -> list[int]:
    """Take from the widest column, one character at a time, until the line fits. The first, names, stays."""
    widths = list(widths)
    room = total - _GAP * (len(widths) - 1)
    while sum(widths) > room:
        widest = max(range(1, len(widths)), key=widths.__getitem__, default=0)
        if widest == 0 or widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths
