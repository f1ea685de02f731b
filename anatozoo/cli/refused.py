"""What ``anatozoo fit`` refuses: objectives that do not exist, and settings that are null."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import anatozoo.objectives
from anatozoo.cli.settings import read_settings, split_options
from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.zoo.registry import MethodEntry


def nulls(config: Any, method: MethodEntry) -> list[str]:
    """Names of settings of model, data and objectives that are null, where their classes' defaults are not.

    The parser takes null for a value of any type, and leaves it to the class.

    Args:
        config: all settings of a fit, as the parser gives them.
        method: its method.
    """
    found = []
    parts = [
        ("model", method.module_class(), config.get("model")),
        ("data", method.data_class(), config.get("data")),
    ]
    for each in config.get("objectives") or ():
        package, _, name = each.class_path.rpartition(".")
        parts.append((name, getattr(importlib.import_module(package), name), each.get("init_args")))
    for title, cls, given in parts:
        values = {} if given is None else vars(given)
        for base in cls.__mro__:
            own = inspect.signature(vars(base)["__init__"]).parameters if "__init__" in vars(base) else {}
            found += [
                f"{title}.{name}"
                for name, parameter in own.items()
                if name in values and values[name] is None and parameter.default is not None
            ]
    return list(dict.fromkeys(found))


def own_error(error: BaseException | None) -> AnatozooError | None:
    """The error of anatozoo that another one was raised for, as jsonargparse does where a class refuses."""
    while error is not None and not isinstance(error, AnatozooError):
        error = error.__cause__ or error.__context__
    return error


def check_objectives(files: list[str], options: list[str]) -> None:
    """Refuse a block of objectives that is no list, and names that no objective has.

    Raises:
        ConfigError: it is wrong; the message lists the names.
    """
    known = anatozoo.objectives.__all__
    named: list[Any] = [
        value for option in ("--objectives", "--objectives+") for value in split_options(options, option)[0]
    ]
    for file in files:
        given = read_settings(file).get("objectives")
        if given is None:
            continue
        if not isinstance(given, list):
            raise ConfigError(
                f"{file}: objectives is a list, each with class_path and init_args: begin each with a hyphen."
            )
        named += [each.get("class_path") if isinstance(each, Mapping) else each for each in given]
    for name in named:
        plain = isinstance(name, str) and name.isidentifier()
        if plain and name not in known and name not in ("null", "None"):
            raise ConfigError(
                f"there is no objective {name}; there are {', '.join(known)}, and your own by their path, "
                "such as mypackage.losses.MyTerm."
            )
