"""A report as a list of blocks, written out as Markdown or as one HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anatozoo.metrics.tables import markdown_table


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Text; `code` sets it in a fixed-width font."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Bullets:
    """Sentences, each with its kind, which chooses the colour of its mark in HTML."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table; the first column is a name, the others are numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture by its file name, with the words for those who do not see it."""

    name: str
    alt: str


Block = Heading | Paragraph | Bullets | Table | Picture

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #1f2933;
  background: #f4f6f8; margin: 0; }
main { max-width: 62rem; margin: 2rem auto; padding: 2.5rem 3rem; background: #fff; border-radius: 10px;
  box-shadow: 0 1px 4px rgb(0 0 0 / 12%); }
h1 { font-size: 1.8rem; margin: 0 0 .6rem; line-height: 1.2; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: 1.2rem; border-top: 1px solid #d9e0e6; }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; color: #3b4a57; }
p { margin: .5rem 0; }
p.code { font: .82rem/1.45 ui-monospace, Consolas, monospace; color: #52606d; overflow-wrap: anywhere; }
ul { list-style: none; margin: .8rem 0; padding: 0; }
li { margin: .55rem 0; padding: .5rem .9rem; border-left: 4px solid #9aa5b1; background: #f7f9fa; }
li.gap { border-color: #d55e00; background: #fdf3ec; }
li.estimate { border-color: #0072b2; background: #eef5fa; }
li.few { border-color: #e69f00; background: #fdf8ec; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .9rem 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .8rem; text-align: right; border-bottom: 1px solid #e4e9ed; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; white-space: normal; }
th { color: #52606d; font-weight: 600; border-bottom: 2px solid #c3ccd4; }
img { display: block; max-width: 100%; margin: 1rem 0; }
@media print { body { background: #fff; } main { box-shadow: none; margin: 0; padding: 0; }
  img, table, li { break-inside: avoid; } }
@media (max-width: 40rem) { main { padding: 1.2rem; margin: 0; border-radius: 0; } }
"""


def to_markdown(blocks: Sequence[Block]) -> str:
    """Markdown that is readable as text; pictures are links to files beside it."""
    parts = [_markdown(block) for block in blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return f"`{block.text}`" if block.code else block.text
    if isinstance(block, Bullets):
        return "\n".join(f"- {text}" for _, text in block.items)
    if isinstance(block, Table):
        return "\n".join(markdown_table(block.header, [[_cell(c) for c in row] for row in block.rows]))
    return f"![{block.alt}]({block.name})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def to_html(blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """One HTML file that needs no other: style and pictures are inside, and there is no script.

    Args:
        blocks: the report.
        pictures: name -> PNG; those that are not here are left out.
    """
    titles = [block.text for block in blocks if isinstance(block, Heading) and block.level == 1]
    body = "\n".join(_html(block, pictures) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(titles[0] if titles else 'Report')}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block, pictures: Mapping[str, bytes]) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        kind = ' class="code"' if block.code else ""
        return f"<p{kind}>{html.escape(block.text)}</p>"
    if isinstance(block, Bullets):
        items = (
            f'<li class="{html.escape(kind.replace(" ", "-"))}">{html.escape(text)}</li>'
            for kind, text in block.items
        )
        return "\n".join(["<ul>", *items, "</ul>"])
    if isinstance(block, Table):
        rows = [_html_row("th", block.header), *(_html_row("td", row) for row in block.rows)]
        return "\n".join(['<div class="scroll"><table>', *rows, "</table></div>"])
    if block.name not in pictures:
        return ""
    data = base64.b64encode(pictures[block.name]).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(block.alt)}">'


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
