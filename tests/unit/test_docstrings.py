"""Docstrings of the package say something by themselves."""

import ast
import re
from pathlib import Path

import anatozoo

PACKAGE = Path(anatozoo.__file__).parent
EMPTY_WORDS = re.compile(r"^\s*(?:[\w*]+: )?(?:the same|see the base class|as above)\.?$", re.IGNORECASE)


def empty_lines(source: str) -> list[str]:
    """Lines of docstrings that only point at another docstring, such as ``fixed: the same.``"""
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return [line.strip() for text in texts for line in text.splitlines() if EMPTY_WORDS.match(line)]


def test_lines_without_content_are_found() -> None:
    source = 'def f(moving, fixed):\n    """Compare.\n\n    Args:\n        fixed: the same.\n    """\n'
    assert empty_lines(source) == ["fixed: the same."]
    assert empty_lines('"""See the base class."""') == ["See the base class."]
    assert empty_lines('"""The same numbers as MONAI."""\nx = "the same."') == []


def test_no_docstring_only_points_at_another() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in files
        if (lines := empty_lines(path.read_text(encoding="utf-8")))
    }
    assert found == {}
