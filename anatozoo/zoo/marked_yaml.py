"""YAML read with line numbers, so that a complaint about a value can name its line."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from anatozoo.errors import ManifestError

# The C parser is several times faster; PyYAML may be built without it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = yaml.constructor.SafeConstructor()
_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

T = TypeVar("T")


class Marked:
    """A YAML value that knows its file and line.

    Args:
        node: the parsed node.
        path: the file, for messages.
        where: dotted position in the file, for messages.
    """

    def __init__(self, node: yaml.Node, path: Path, where: str = "") -> None:
        self.node = node
        self.path = path
        self.where = where

    @classmethod
    def read(cls, path: Path) -> "Marked":
        """Parse a file.

        Raises:
            ManifestError: the file cannot be read, is empty or is no YAML.
        """
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        except OSError as error:
            raise ManifestError(f"cannot read the manifest {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path}: not UTF-8 text; save it as UTF-8.") from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ManifestError(f"{path}:{line}: not valid YAML: {error.problem}.") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ManifestError(f"{path}: not valid YAML: {error}.") from error
        if node is None:
            raise ManifestError(f"{path}: the manifest is empty.")
        return cls(node, path)

    @property
    def line(self) -> int:
        """Line of the value, counted from 1."""
        return int(self.node.start_mark.line) + 1

    def fail(self, message: str) -> NoReturn:
        """Raise a ManifestError that names file, line and position."""
        where = f"{self.where}: " if self.where else ""
        raise ManifestError(f"{self.path}:{self.line}: {where}{message}")

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, "Marked"]:
        """The values of a mapping, refusing unknown, repeated and missing keys."""
        values = self.mapping()
        known = [*required, *optional]
        for key, value in values.items():
            if key not in known:
                value.fail(f"unknown key; the keys here are {', '.join(known)}.")
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
            key = str(key_node.value)
            here = Marked(key_node, self.path, f"{self.where}.{key}".lstrip("."))
            if key in values:
                here.fail("this key stands twice; keep one.")
            values[key] = Marked(node, self.path, here.where)
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
            return _SCALARS.construct_object(self.node)
        except (yaml.YAMLError, ValueError):
            self.fail(f"{self.node.value!r} is no value of a type that a manifest holds; quote it.")

    def of_type(self, kind: type[T]) -> T:
        """A scalar of one type; whole numbers count as numbers, booleans do not."""
        value = self.scalar()
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            self.fail(f"must be {_KINDS[kind]}, not {self.node.value!r}{_quote_hint(kind)}.")
        return value

    def text(self) -> str:
        """A text that is not blank, without white space around it."""
        value = self.of_type(str).strip()
        if not value:
            self.fail("must not be blank.")
        return value

    def matching(self, pattern: str, what: str) -> str:
        """A text of a form. The raw characters count, so digits alone need no quotes."""
        value = str(self.node.value)
        if not isinstance(self.node, yaml.ScalarNode) or not re.fullmatch(pattern, value):
            self.fail(f"must be {what}, not {value!r}.")
        return value

    def one_of(self, choices: Sequence[str]) -> str:
        """One of some words."""
        value = self.text()
        if value not in choices:
            self.fail(f"must be one of {', '.join(choices)}, not {value!r}.")
        return value

    def natural(self, *, least: int = 0) -> int:
        """A whole number of at least `least`."""
        value = self.of_type(int)
        if value < least:
            self.fail(f"must be at least {least}, not {value}.")
        return value

    def list_of(self, read: Callable[["Marked"], T], *, least: int = 0) -> tuple[T, ...]:
        """A sequence of values, each read by `read`."""
        values = tuple(read(item) for item in self.items())
        if len(values) < least:
            self.fail("must not be empty.")
        return values

    def dict_of(self, read: Callable[["Marked"], T]) -> dict[str, T]:
        """A mapping of values, each read by `read`."""
        return {key: read(value) for key, value in self.mapping().items()}

    def or_null(self, read: Callable[["Marked"], T]) -> T | None:
        """None for null, else what `read` gives."""
        is_null = isinstance(self.node, yaml.ScalarNode) and self.scalar() is None
        return None if is_null else read(self)


def _quote_hint(kind: type) -> str:
    return "; put it in quotes if it is text" if kind is str else ""
