"""Plain tables that fit a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

WIDTH = 80
_GAP = 2
_NARROWEST = 10


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = WIDTH) -> str:
    """Align columns, wrapping cells where a line would grow too long.

    The first column holds names, which are never broken. Where they leave the others too little room, each
    stands on a line of its own above its row.

    Args:
        header: titles of the columns.
        rows: cells, as many a row as there are titles.
        width: longest line in characters; only a name can make one longer.

    Returns:
        The lines, each with a line feed.
    """
    names = max(len(word) for row in (header, *rows) for word in row[0].split() or [""])
    widest = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    fitted = _fit(widest, width, least=[names, *(min(size, _NARROWEST) for size in widest[1:])])
    if _total(fitted) <= width or len(header) == 1:
        return "".join(_lines(row, fitted) for row in (header, *rows))
    inner = _fit(widest[1:], width - _GAP, least=[1] * (len(widest) - 1))
    return "".join(
        f"{row[0]}\n" + textwrap.indent(_lines(row[1:], inner), " " * _GAP) for row in (header, *rows)
    )


def format_fields(fields: Sequence[tuple[str, str]], *, width: int = WIDTH) -> str:
    """Two columns, name and text, the text wrapped beside its name; line breaks in a text are kept."""
    margin = max(len(name) for name, _ in fields) + _GAP
    lines = []
    for name, text in fields:
        wrapped = [part for line in text.splitlines() for part in _wrap(line, width - margin)] or [""]
        lines.append(f"{name.ljust(margin)}{wrapped[0]}".rstrip() + "\n")
        lines += [f"{' ' * margin}{line}".rstrip() + "\n" for line in wrapped[1:]]
    return "".join(lines)


def _lines(row: Sequence[str], widths: Sequence[int]) -> str:
    """One row, as many lines as its tallest cell."""
    # A checkpoint's name stays whole; any other word is broken before it pushes the next column aside.
    cells = [
        _wrap(cell, size, break_words=i > 0) for i, (cell, size) in enumerate(zip(row, widths, strict=True))
    ]
    lines = []
    for parts in zip_longest(*cells, fillvalue=""):
        padded = [part.ljust(size) for part, size in zip(parts, widths, strict=True)]
        lines.append((" " * _GAP).join(padded).rstrip() + "\n")
    return "".join(lines)


def _wrap(text: str, width: int, *, break_words: bool = False) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=break_words, break_on_hyphens=False) or [""]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _fit(widths: Sequence[int], total: int, *, least: Sequence[int]) -> list[int]:
    """Take from the column that is furthest above its least width, one character at a time, until all fit."""
    fitted = list(widths)
    while _total(fitted) > total:
        spare = [size - small for size, small in zip(fitted, least, strict=True)]
        # Names are the last to give way: what follows them, as "(deprecated)", can stand below.
        roomy = max(range(1, len(fitted)), key=spare.__getitem__, default=0)
        if spare[roomy] <= 0:
            roomy = 0
        if spare[roomy] <= 0:
            break
        fitted[roomy] -= 1
    return fitted
