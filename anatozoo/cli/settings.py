"""Find and read the configuration files of ``anatozoo fit``.

What is wrong with one is a sentence with its line.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from anatozoo.errors import ConfigError, ManifestError
from anatozoo.text import one_line
from anatozoo.zoo.marked_yaml import Marked

METHODS_FOLDER = Path(__file__).resolve().parents[1] / "methods"
BASE = "base"
"""Setting of a configuration that names the one that it builds on."""


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ConfigError: it cannot be read, is empty, no UTF-8 or no YAML, holds tags of Python, or no settings
            by name; the message names file and line.
    """
    file = Path(path)
    try:
        top = Marked.parse(file, "configuration")
        keys = top.mapping()
    except ManifestError as error:
        raise ConfigError(str(error)) from error
    try:
        values = yaml.safe_load(file.read_bytes().decode("utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{file}:{line}: {one_line(error.problem or str(error))}.") from error
    except (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}:1: cannot be read: {one_line(str(error))}.") from error
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        wrong = next((key for key in keys if not isinstance(values, Mapping) or key not in values), "a key")
        raise ConfigError(f"{file}:{top.line}: the names of settings must be words; quote {wrong}.")
    return dict(values)


def shipped_config(name: str) -> str:
    """Path of a configuration: a file of the user's, or a shipped one such as ``hybridgnet/jsrt.yaml``.

    Raises:
        ConfigError: neither exists; the message lists the shipped ones.
    """
    if Path(name).is_file():
        return name
    if Path(name).exists():
        raise ConfigError(f"--config {name}: a folder, a device or a pipe; name a YAML file.")
    method, _, rest = name.partition("/")
    path = METHODS_FOLDER / method / "configs" / rest
    if rest and path.is_file():
        return str(path)
    raise ConfigError(
        f"--config {name}: no such file, and no shipped configuration; those are "
        f"{', '.join(shipped_configs())}."
    )


def shipped_configs() -> list[str]:
    """Names of all shipped configurations, such as ``hybridgnet/jsrt.yaml``, sorted."""
    found = (path.relative_to(METHODS_FOLDER).parts for path in METHODS_FOLDER.glob("*/configs/**/*.yaml"))
    return sorted("/".join([method, *rest]) for method, _, *rest in found)


def with_bases(name: str) -> list[str]:
    """Path of a configuration, after those of the configurations that it builds on, the first one first.

    A configuration names one by ``base:``, a file beside it or a shipped one, and repeats only what differs.

    Raises:
        ConfigError: one of them does not exist or builds on itself, or ``base`` is no text.
    """
    files = [shipped_config(name)]
    while (base := read_settings(files[0]).get(BASE)) is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{files[0]}: {BASE}={base!r} must be one configuration, such as common.yaml.")
        beside = Path(files[0]).parent / base
        try:
            found = str(beside) if beside.is_file() else shipped_config(base)
        except ConfigError as error:
            raise ConfigError(f"{files[0]}: {BASE} names a file that is not there. {error}") from error
        methods = {file: read_settings(file).get("method") for file in (found, files[0])}
        if None not in methods.values() and len(set(methods.values())) > 1:
            said = ", ".join(f"{file} is of {method}" for file, method in methods.items())
            raise ConfigError(f"a configuration builds on one of its own method or of none: {said}.")
        if any(Path(found).samefile(file) for file in files):
            raise ConfigError(f"{found} builds on itself by {BASE}: {', '.join(files[::-1])}.")
        files.insert(0, found)
    return files


def without_base(file: str) -> str:
    """A configuration as the parser takes it: the file, or its settings as JSON where it has a base."""
    settings = read_settings(file)
    return json.dumps({k: v for k, v in settings.items() if k != BASE}) if BASE in settings else file


def configs_of(names: Iterable[str]) -> list[str]:
    """The files of several configurations with their bases, weak before strong; see `with_bases`."""
    return [file for name in names for file in with_bases(name)]


def split_options(argv: list[str], option: str) -> tuple[list[str], list[str]]:
    """The values of an option, written ``--option value`` or ``--option=value``, and all other arguments."""
    values, others = [], []
    rest = iter(argv)
    for argument in rest:
        if argument == option:
            values.append(next(rest, ""))
        elif argument.startswith(f"{option}="):
            values.append(argument.removeprefix(f"{option}="))
        else:
            others.append(argument)
    return values, others


def setting_of(files: list[str], *keys: str) -> Any:
    """The value that the last of the configuration files gives, None where none does.

    Raises:
        ConfigError: a file is not YAML, see `read_settings`.
    """
    found = None
    for file in files:
        value: Any = read_settings(file)
        for key in keys:
            value = _inside(value, key)
        found = value if value is not None else found
    return found


def differing(files: list[str], section: str, stored: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings of a section of configuration files that are not those of a checkpoint.

    Args:
        files: weak before strong; a later one replaces single settings.
        section: such as ``"model"``.
        stored: the checkpoint's.

    Returns:
        Name, such as ``"optim.lr"`` -> value in the files and in the checkpoint. Values that may be written
        in several ways, such as a size as one number and as a mapping, are not compared.

    Raises:
        ConfigError: a file is not YAML, see `read_settings`.
    """
    given: dict[str, Any] = {}
    for file in files:
        given |= _leaves(read_settings(file).get(section))
    kept = _leaves(stored)
    return {n: (given[n], kept[n]) for n in given if n in kept and _differ(given[n], kept[n])}


def _leaves(value: Any, start: str = "") -> dict[str, Any]:
    """Names and values of what a nested mapping holds, names with dots."""
    if not isinstance(value, Mapping):
        return {start: value} if start else {}
    nested = [_leaves(item, f"{start}.{key}" if start else str(key)) for key, item in value.items()]
    return {name: item for each in nested for name, item in each.items()}


def _differ(a: Any, b: Any) -> bool:
    with suppress(TypeError, ValueError):  # of words, lists of words, or nothing
        a, b = ([float(x) for x in (v if isinstance(v, list) else [v])] for v in (a, b))
    return type(a) is type(b) and a != b


def _inside(value: Any, key: str) -> Any:
    """What a mapping has under a key; a list stands for its last object, an object for its arguments."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, Mapping) and key not in value:
        value = value.get("init_args")
    return value.get(key) if isinstance(value, Mapping) else None
