"""A report as a list of blocks, written out as Markdown or as one HTML file."""

from __future__ import annotations

import base64
import html
import re
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
:root { color-scheme: light dark; --text: #1f2933; --soft: #52606d; --page: #f4f6f8; --sheet: #fff;
  --line: #d9e0e6; --strong-line: #c3ccd4; --mark: #9aa5b1; --note: #f7f9fa; --gap: #fdf3ec;
  --estimate: #eef5fa; --few: #fdf8ec; }
@media screen and (prefers-color-scheme: dark) { :root { --text: #e4e7eb; --soft: #a9b4bf; --page: #12161a;
  --sheet: #1b2127; --line: #323c45; --strong-line: #4b5763; --mark: #7b8794; --note: #232a31;
  --gap: #35261c; --estimate: #182a3a; --few: #332b18; } }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: var(--text);
  background: var(--page); margin: 0; }
main { max-width: 62rem; margin: 2rem auto; padding: 2.5rem 3rem; background: var(--sheet);
  border-radius: 10px; box-shadow: 0 1px 4px rgb(0 0 0 / 12%); }
h1 { font-size: 1.8rem; margin: 0 0 .6rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; color: var(--soft); }
p { margin: .5rem 0; }
p.code { font: .82rem/1.45 ui-monospace, Consolas, monospace; color: var(--soft); overflow-wrap: anywhere; }
ul { list-style: none; margin: .8rem 0; padding: 0; }
li { margin: .55rem 0; padding: .5rem .9rem; border-left: 4px solid var(--mark); background: var(--note); }
li.gap { border-color: #d55e00; background: var(--gap); }
li.estimate { border-color: #0072b2; background: var(--estimate); }
li.few { border-color: #e69f00; background: var(--few); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .9rem 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .8rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th.text, td.text { text-align: left; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--strong-line); }
tbody th { font-weight: 400; }
th:first-child { text-align: left; padding-left: .2rem; white-space: normal; }
img { display: block; box-sizing: border-box; max-width: 100%; margin: 1rem 0; padding: .4rem;
  background: #fff; border-radius: 6px; }
@page { margin: 15mm; }
@media print { body { font-size: 10pt; background: none; }
  main { max-width: none; box-shadow: none; margin: 0; padding: 0; } .scroll { overflow: visible; }
  table { font-size: 8pt; } th, td { white-space: normal; padding: .2rem .4rem; }
  h1, h2, h3 { break-after: avoid; } img, tr, li { break-inside: avoid; } }
@media screen and (max-width: 40rem) { main { padding: 1.2rem; margin: 0; border-radius: 0; } }
"""
# The start of a tag or of the address of a link; "<18" and "[1, 2]" are neither.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|(?<=\])\(")
# What a cell of numbers holds besides digits: signs, intervals, shares, and what stands for no number.
_NUMBER = re.compile(r"[\d\s.,%<+−–∞×·*-]*( (to|of) [\d\s.,%+−–∞]+)*")


def to_markdown(blocks: Sequence[Block]) -> str:
    """Markdown that is readable as text; pictures are links to files beside it."""
    parts = [_markdown(block) for block in blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_plain(block.text)}"
    if isinstance(block, Paragraph):
        return _code(block.text) if block.code else _plain(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_plain(text)}" for _, text in block.items)
    if isinstance(block, Table):
        return "\n".join(
            markdown_table([_cell(c) for c in block.header], [[_cell(c) for c in row] for row in block.rows])
        )
    return f"![{block.alt}]({block.name})"


def _plain(text: str) -> str:
    """Text on one line, in which names from tables start neither HTML nor a link."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{' '.join(text.split())}{fence}"


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


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
        return _html_table(block)
    if block.name not in pictures:
        return ""
    data = base64.b64encode(pictures[block.name]).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(block.alt)}">'


def _html_table(table: Table) -> str:
    """A table whose header is repeated on every printed page; columns of words are set to the left."""
    columns = zip(table.header, *table.rows, strict=True)
    words = [not all(_NUMBER.fullmatch(cell) for cell in cells) for _, *cells in columns]
    head = "".join(_html_cell("th", "col", *cell) for cell in zip(table.header, words, strict=True))
    body = [
        _html_cell("th", "row", row[0], words[0])
        + "".join(_html_cell("td", "", *cell) for cell in zip(row[1:], words[1:], strict=True))
        for row in table.rows
    ]
    return "\n".join(
        [
            '<div class="scroll" tabindex="0"><table>',
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *(f"<tr>{row}</tr>" for row in body),
            "</tbody></table></div>",
        ]
    )


def _html_cell(tag: str, scope: str, text: str, words: bool) -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="text"' if words else "")
    return f"<{tag}{attributes}>{html.escape(text)}</{tag}>"
