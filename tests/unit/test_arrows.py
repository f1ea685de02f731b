"""Which part of the package may import which, read from the source: every import, lazy ones included.

``FLOORS`` stand one upon the other. A module imports from its own part and from floors below it.
``zoo`` stands beside the floors, at the height of ``io``. It knows classes by the string
"package.module:Class", so every floor from ``tasks`` upward may ask it for a model, and it needs nothing but
errors, words and files. The roof, ``anatozoo`` itself, gathers names for users; only the command line imports
it.

The lists of exceptions hold what is not true yet. They are exact, so that they can only become shorter.
"""

import ast
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "anatozoo"
FLOORS = (
    ("cli",),
    ("page",),
    ("service", "annotate"),
    ("serve",),
    ("quality", "fairness", "deploy"),
    ("methods",),
    ("objectives",),
    ("training",),
    ("tasks",),
    ("results", "data"),
    ("frames", "metrics", "meshes", "roots"),
    ("nn", "io"),
    ("errors",),
    ("organs", "text", "version"),
)
"""From top to bottom. Parts of one floor do not import one another."""
ASK_THE_ZOO = (
    *("cli", "page", "service", "annotate", "serve", "quality", "fairness", "deploy"),
    *("methods", "objectives", "training", "tasks"),
)
ZOO_NEEDS = ("io", "errors", "text", "version")
UNDER_THE_ROOF = ("cli", "__main__")

Pair = tuple[str, str]
UPWARD: set[Pair] = set()
"""Arrows that the table does not allow: (importer, imported)."""
UPWARD_TYPES: set[Pair] = set()
"""Those that only type checkers follow."""
CLOSING_TYPES: set[Pair] = {
    ("results.draw.field", "results.field"),
    ("results.draw.quality", "results.quality"),
    ("results.draw.segmentation", "results.segmentation"),
}
"""Arrows that only type checkers follow, each of which closes a loop. There is no other loop."""


class Arrow(NamedTuple):
    """One import: who imports whom, and whether under ``if TYPE_CHECKING`` alone."""

    importer: str
    imported: str
    types: bool


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = (PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def arrows_of(tree: ast.AST, importer: str, modules: Mapping[str, Path], package: str) -> Iterator[Arrow]:
    """Imports of the package's own modules in one file."""

    def known(name: str) -> str:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    def visit(node: ast.AST, types: bool) -> Iterator[Arrow]:
        targets = []
        if isinstance(node, ast.Import):
            targets = [known(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [known(f"{base}.{alias.name}") for alias in node.names]
        for target in targets:
            if target and target != importer:
                yield Arrow(importer, target, types)
        for name, field in ast.iter_fields(node):
            guarded = types or (
                isinstance(node, ast.If) and name == "body" and "TYPE_CHECKING" in ast.unparse(node.test)
            )
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    yield from visit(child, guarded)

    yield from visit(tree, False)


@cache
def arrows() -> frozenset[Arrow]:
    """All arrows of the package; of one that stands twice, the one that runs."""
    found = set()
    for name, path in MODULES.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found |= set(arrows_of(ast.parse(path.read_text(encoding="utf-8")), name, MODULES, package))
    return frozenset(a for a in found if not a.types or a._replace(types=False) not in found)


def part_of(module: str) -> str:
    """The folder, or module of the top level, in which a module stands; empty for the roof."""
    return module.removeprefix(PACKAGE.name).lstrip(".").partition(".")[0]


def is_allowed(importer: str, imported: str) -> bool:
    """Whether the table has this arrow."""
    ours, theirs = part_of(importer), part_of(imported)
    if ours == theirs == "methods":
        return importer.split(".")[2:3] == imported.split(".")[2:3]
    if ours == theirs or not ours:
        return True
    if not theirs:
        return ours in UNDER_THE_ROOF
    if theirs == "zoo":
        return ours in ASK_THE_ZOO
    if ours == "zoo":
        return theirs in ZOO_NEEDS
    if ours == "__main__":
        return theirs == "cli"
    floor = {part: height for height, parts in enumerate(reversed(FLOORS)) for part in parts}
    return floor[theirs] < floor[ours]


def in_short(arrow: Arrow) -> Pair:
    """Who imports whom, without the name of the package."""
    return arrow.importer.removeprefix("anatozoo."), arrow.imported.removeprefix("anatozoo.")


def loops(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of two or more modules each of which leads to all others of its group."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in graph.get(todo.pop(), set()) - seen:
                seen.add(following)
                todo.append(following)
        return seen

    reach = {name: reached(name) for name in graph}
    groups = {frozenset(o for o in reach[n] if n in reach.get(o, ())) for n in graph if n in reach[n]}
    return sorted(sorted(group) for group in groups)


def graph(*, types: bool, without: Set[Pair] = frozenset()) -> dict[str, set[str]]:
    """Module -> the modules that it imports, with or without imports for type checkers alone."""
    found: dict[str, set[str]] = {name: set() for name in MODULES}
    for arrow in arrows():
        if (types or not arrow.types) and in_short(arrow) not in without:
            found[arrow.importer].add(arrow.imported)
    return found


def test_each_folder_and_module_has_its_place():
    parts = {part_of(name) for name in MODULES} - {"", "__main__", "zoo"}
    assert parts == {part for floor in FLOORS for part in floor}


@pytest.mark.parametrize(("types", "listed"), [(False, UPWARD), (True, UPWARD_TYPES)])
def test_arrows_point_downward(types: bool, listed: set[Pair]):
    upward = {in_short(a) for a in arrows() if a.types is types and not is_allowed(a.importer, a.imported)}
    assert not upward - listed, "these imports point upward; move what they need to a lower floor"
    assert not listed - upward, "these imports are gone; take them off the list"


def test_no_imports_go_round():
    assert loops(graph(types=False)) == [], "move what these modules share below them"
    assert loops(graph(types=True, without=CLOSING_TYPES)) == [], "these import one another for types"
    needless = {a for a in CLOSING_TYPES if not loops(graph(types=True, without=CLOSING_TYPES - {a}))}
    assert not needless, "these imports close no loop any more; take them off the list"


def test_imports_of_all_places_are_found(tmp_path: Path):
    source = """
from typing import TYPE_CHECKING
import anatozoo.text, numpy
from anatozoo.io import grid
from . import network
from ..unet.module import UNetModule
if TYPE_CHECKING:
    from anatozoo.results.base import Saved
else:
    from anatozoo.errors import DataError
class A:
    def f(self):
        from anatozoo import __version__
"""
    names = (
        "anatozoo anatozoo.text anatozoo.io anatozoo.io.grid anatozoo.methods anatozoo.methods.acnn.network"
    )
    names += " anatozoo.methods.unet.module anatozoo.results.base anatozoo.errors"
    modules = dict.fromkeys(names.split(), tmp_path)
    here = "anatozoo.methods.acnn"
    found = set(arrows_of(ast.parse(source), f"{here}.module", modules, here))
    assert {(a.imported.removeprefix("anatozoo."), a.types) for a in found} == {
        ("text", False),
        ("io.grid", False),
        ("methods.acnn.network", False),
        ("methods.unet.module", False),
        ("results.base", True),
        ("errors", False),
        ("anatozoo", False),
    }


def test_upward_arrows_and_loops_are_seen():
    assert is_allowed("anatozoo.methods.unet.module", "anatozoo.methods.unet.network")
    assert not is_allowed("anatozoo.methods.unet.module", "anatozoo.methods.acnn.network")
    assert is_allowed("anatozoo.tasks.codes", "anatozoo.zoo.hub")
    assert not is_allowed("anatozoo.results.base", "anatozoo.zoo.hub")
    assert not is_allowed("anatozoo.zoo.hub", "anatozoo.training.module")
    assert not is_allowed("anatozoo.io.grid", "anatozoo.nn.warp")
    assert not is_allowed("anatozoo.quality.rca", "anatozoo")
    assert loops({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}) == [["b", "c"], ["e"]]
