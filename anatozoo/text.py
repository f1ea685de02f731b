r"""Text that came out of files, made harmless where it leaves the program.

File names, DICOM headers, cards, tensor names and manifests are written by others. On a terminal their
control characters are commands, in HTML and Markdown marks of direction turn words round, and a spreadsheet
computes what starts with an equals sign. Such characters are shown as ``\uXXXX``, which is also how JSON
spells them, and formulas get an apostrophe.

This module imports nothing heavy, so that errors can use it.
"""

import codecs
import re
from collections.abc import Iterable
from typing import Any

_MARKS = (
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
"""Unicode's marks of direction, invisible characters and tags, and halves of characters."""
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_MARKS}]")
# Within a cell, line ends and tabs too, and a backslash that would read as one of our own escapes.
_CONTROL_IN_CELL = re.compile(f"[\x00-\x1f\x7f-\x9f{_MARKS}]|\\\\(?=u[0-9a-f]{{4}})")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_ALIKE = 0.75
"""Similarity of two names, 0 … 1, from which one may be the other misspelt."""
_WHICH = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])|\d+")
"""What tells one of several like organs from the others: a side or a number."""
_FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII)
_ASCII = {
    "−": "-",
    "–": "-",
    "—": "-",
    "\u2018": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "×": "x",
    "→": "->",
    "±": "+-",
    "²": "^2",
    "µ": "u",
    "·": "*",
    "•": "*",
}
"""How characters of our own messages are written where an encoding lacks them."""


def printable(text: str) -> str:
    r"""The text with control characters and invisible marks shown as ``\uXXXX``; line feeds and tabs stay."""
    return _CONTROL.sub(_escape, text)


def one_line(text: str) -> str:
    """The same without line ends: any white space becomes one blank."""
    return printable(" ".join(text.split()))


def cell(text: str) -> str:
    """A field of a CSV table: nothing in it commands a terminal, and no spreadsheet takes it for a formula.

    What starts as a formula does gets an apostrophe before it, numbers excepted. `from_cell` undoes it all.
    """
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    return _CONTROL_IN_CELL.sub(_escape, text)


def from_cell(field: str) -> str:
    """The text that `cell` made this field of; any other field as it is."""
    if not field.startswith("'") and "\\u" not in field:
        return field  # large tables are such fields
    text = _join_pairs(_ESCAPED.sub(lambda match: chr(int(match[1], 16)), field)) if "\\u" in field else field
    text = text[1:] if text.startswith("'") and cell(text[1:]) == field else text
    return text if cell(text) == field else field


def some(names: Iterable[object], most: int = 5) -> str:
    """The first names of a list for a message, and how many more there are."""
    every = [str(name) for name in names]
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return f"{', '.join(every[:most])}{rest}"


def alike(name: str, names: Iterable[str]) -> str | None:
    """The name that another one may be misspelt from, whatever the capitals; None where none is near.

    Names that tell sides or numbers apart, such as ``kidney_l`` and ``kidney_r``, mean different things.
    """
    from difflib import get_close_matches

    name, spelt = name.lower(), {each.lower(): each for each in names}
    family = _WHICH.sub("#", name)
    others = [each for each in spelt if each == name or _WHICH.sub("#", each) != family]
    near = get_close_matches(name, others, 1, _ALIKE)
    return spelt[near[0]] if near else None


def in_figure(text: str) -> str:
    r"""Text for matplotlib, which takes what stands between two ``$`` for a formula."""
    return printable(text).replace("$", r"\$")


def unfiltered(stream: Any) -> Any:
    """The stream behind one that makes text printable, for progress bars, whose commands are our own."""
    return getattr(stream, "inner", stream)


def _escape(match: re.Match[str]) -> str:
    # Above 16 bits as two halves, for JSON knows no other way.
    units = match[0].encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _join_pairs(text: str) -> str:
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="surrogatepass")


def _encode_error(error: UnicodeError) -> tuple[str, int]:
    r"""What stands for characters that an encoding lacks: plain ones for ours, ``\uXXXX`` for any others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return re.sub("(?s).", lambda match: _ASCII.get(match[0]) or _escape(match), lacking), error.end


ENCODING_ERRORS = "anatozoo.text"
"""Name of the error handler for streams whose encoding lacks characters."""
codecs.register_error(ENCODING_ERRORS, _encode_error)


def first_line(error: object) -> str:
    """The first line of a message, without its full stop and not long.

    Messages of torch's reader go on with advice to run the code in a file, which nobody should follow.
    """
    lines = str(error).strip().splitlines()
    first = lines[0].partition(". In PyTorch")[0] if lines else type(error).__name__
    return first.rstrip(".")[:200]
