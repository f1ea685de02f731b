"""Classes and objects that are known by ``"package.module:Class"``."""

import importlib
from typing import Any

from anatozoo.errors import ConfigError


def import_class(path: str) -> Any:
    """Import ``"package.module:Class"``.

    Raises:
        ConfigError: the module or the class does not exist.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"cannot import {path}: {error}. Install the package that provides it.") from error
    except AttributeError as error:
        raise ConfigError(f"{module} has no class {name}.") from error
