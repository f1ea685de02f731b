"""YAML read with line numbers, so that a complaint about a value can name its line."""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml

from anatozoo.errors import ManifestError
from anatozoo.zoo.files import read_regular
from anatozoo.zoo.rules import Form, Least, Misfit

# The C parser is several times faster; PyYAML may be built without it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = yaml.reader.Reader.NON_PRINTABLE
# Quoted YAML can spell characters that command a terminal, which prints what a manifest says.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LARGEST_BYTES = 2**25
_MOST_VALUES = 300_000
"""Values of a file with its aliases written out: far above any zoo, far below what fills a memory."""
_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class Marked:
    """A YAML value that knows its file and line.

    Args:
        node: the parsed node.
        path: the file, for messages.
        where: dotted position in the file, for messages.
        key: the node of its key, for values of a mapping.
    """

    def __init__(self, node: yaml.Node, path: Path, where: str = "", key: yaml.Node | None = None) -> None:
        self.node = node
        self.path = path
        self.where = where
        self.key = key

    @classmethod
    def parse(cls, path: Path, what: str = "manifest") -> "Marked":
        """Parse a file, which messages call the `what`.

        Raises:
            ManifestError: the file cannot be read, is empty or is not YAML.
        """
        try:
            data = read_regular(path, most=_LARGEST_BYTES)
        except OSError as error:
            raise ManifestError(f"cannot read the {what} {path}: {error.strerror}.") from error
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise ManifestError(f"{path}:{line}: not UTF-8 text; save it as UTF-8.") from error
        if found := _UNPRINTABLE.search(text):
            line = text[: found.start()].count("\n") + 1
            raise ManifestError(f"{path}:{line}: holds the control character {found[0]!r}; remove it.")
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise ManifestError(f"{path}:{line}: not valid YAML: {_problem(error, text, line)}.") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ManifestError(f"{path}:1: not valid YAML: {error}.") from error
        if node is None:
            raise ManifestError(f"{path}:1: the {what} is empty.")
        _refuse_bombs(node, path)
        return cls(node, path)

    @property
    def line(self) -> int:
        """Line of the value, counted from 1."""
        return int(self.node.start_mark.line) + 1

    def fail(self, message: str) -> NoReturn:
        """Raise a ManifestError that names file, line and position."""
        where = f"{self.where}: " if self.where else ""
        raise ManifestError(f"{self.path}:{self.line}: {where}{message}")

    def fail_key(self, message: str) -> NoReturn:
        """The same about the key of a value, whose line may be an earlier one."""
        Marked(self.key or self.node, self.path, self.where).fail(message)

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, "Marked"]:
        """The values of a mapping, refusing unknown, repeated and missing keys."""
        values = self.mapping()
        known = [*required, *optional]
        for key, value in values.items():
            if key not in known:
                value.fail_key(f"unknown key; the keys here are {', '.join(known)}.{_hint(key, known)}")
        missing = [key for key in required if key not in values]
        if missing:
            self.fail(f"{', '.join(missing)} missing; write null where there is no value.")
        return values

    def mapping(self) -> dict[str, "Marked"]:
        """The values of a mapping by key."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fail("must be a mapping (key: value).")
        values: dict[str, Marked] = {}
        for key_node, node in self.node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                Marked(key_node, self.path, self.where).fail("a key must be a plain word.")
            key = str(key_node.value)
            here = Marked(key_node, self.path, f"{self.where}.{key}".lstrip("."))
            if key in values:
                here.fail("this key stands twice; keep one.")
            values[key] = Marked(node, self.path, here.where, key_node)
        return values

    def items(self) -> list["Marked"]:
        """The values of a sequence."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail("must be a list (- value, or [value, value]).")
        return [Marked(node, self.path, f"{self.where}[{i}]") for i, node in enumerate(self.node.value)]

    def scalar(self) -> Any:
        """The value of a scalar as YAML types it."""
        if not isinstance(self.node, yaml.ScalarNode):
            self.fail("must be a single value.")
        try:
            return yaml.constructor.SafeConstructor().construct_object(self.node)
        # A tag such as !!bool on other text makes PyYAML stumble in its own ways.
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError):
            self.fail(f"{self.node.value!r} is not of a type that a manifest holds; quote it.")

    def read(self, hint: Any) -> Any:
        """The value as a type asks for it.

        Args:
            hint: ``str`` (not blank, without white space around it), ``int``, ``float`` (finite), ``bool``,
                ``Literal`` of texts, a dataclass, ``tuple[X, ...]``, ``Mapping[str, X]`` or ``X | None``, and
                ``Annotated`` with `Form` and `Least`.
        """
        origin, parts = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self._ruled(*parts)
        if origin in (Union, UnionType):
            is_null = isinstance(self.node, yaml.ScalarNode) and self.scalar() is None
            return None if is_null else self.read(parts[0])
        if origin is tuple:
            return tuple(item.read(parts[0]) for item in self.items())
        if origin is Mapping:
            return {key: value.read(parts[1]) for key, value in self.mapping().items()}
        if origin is Literal:
            value = self._text()
            return (
                value if value in parts else self.fail(f"must be one of {', '.join(parts)}, not {value!r}.")
            )
        if is_dataclass(hint):
            return self._record(hint)
        return self._text() if hint is str else self._of_type(hint)

    def _ruled(self, hint: Any, rule: "Form | Least") -> Any:
        if isinstance(rule, Form):
            # The raw characters count, so digits alone need no quotes.
            value = str(self.node.value)
            if not isinstance(self.node, yaml.ScalarNode) or not re.fullmatch(rule.pattern, value):
                self.fail(f"must be {rule.what}, not {value!r}.")
            return value
        found = self.read(hint)
        if isinstance(found, tuple):
            return found if len(found) >= rule.least else self.fail("must not be empty.")
        return found if found >= rule.least else self.fail(f"must be at least {rule.least}, not {found}.")

    def _record(self, record: Any) -> Any:
        hints = _hints(record)
        required = [item.name for item in fields(record) if item.default is MISSING]
        optional = [item.name for item in fields(record) if item.default is not MISSING]
        values = self.fields(required, optional)
        read = {key: value.read(hints[key]) for key, value in values.items()}
        try:
            return record(**read)
        except Misfit as misfit:
            place = self
            for key in misfit.keys:
                place = place.mapping()[key]
            place.fail(str(misfit))

    def _of_type(self, kind: Any) -> Any:
        """A scalar of one type; whole numbers count as numbers, booleans do not."""
        value = self.scalar()
        if kind is float and type(value) is int:
            value = float(value)
        if value is None:
            self.fail(f"must be {_KINDS[kind]}; a value is needed here.")
        if type(value) is not kind:
            self.fail(f"must be {_KINDS[kind]}, not {self.node.value!r}{_quote_hint(kind)}.")
        if kind is float and not math.isfinite(value):
            self.fail("must be finite, or null where there is no value.")
        return value

    def _text(self) -> str:
        value: str = self._of_type(str).strip()
        if not value:
            self.fail("must not be blank.")
        if found := _CONTROL.search(value):
            self.fail(f"must not hold the control character {found[0]!r}.")
        return value


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record, include_extras=True)


def _quote_hint(kind: type) -> str:
    return "; put it in quotes if it is text" if kind is str else ""


def _hint(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _problem(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    problem = error.problem or error.context or "it cannot be read"
    lines = text.splitlines()
    if "\t" in "".join(lines[line - 1 : line]):
        return f"{problem}; a tab stands in this line, and YAML is indented with spaces"
    return problem


def _refuse_bombs(root: yaml.Node, path: Path) -> None:
    """Refuse aliases that contain themselves or multiply a small file to a huge one.

    Each node is visited once, children before parents, so the check itself is quick.
    """
    sizes: dict[int, int] = {}
    being_counted: set[int] = set()
    stack = [root]
    while stack:
        node = stack[-1]
        if id(node) in sizes:
            stack.pop()
            continue
        children = _children(node)
        if id(node) not in being_counted:
            being_counted.add(id(node))
            if any(id(child) in being_counted and id(child) not in sizes for child in children):
                Marked(node, path).fail("an alias (*name) stands inside of what it repeats; write it out.")
            stack += children
            continue
        sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children)
        if sizes[id(node)] > _MOST_VALUES:
            Marked(node, path).fail(
                f"aliases (*name) repeat this to more than {_MOST_VALUES} values; write it out."
            )
        stack.pop()


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
