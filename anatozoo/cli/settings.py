"""Read the configuration files of ``anatozoo fit``; what is wrong with one is a sentence with its line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from anatozoo.errors import ConfigError, ManifestError
from anatozoo.text import one_line
from anatozoo.zoo.marked_yaml import Marked


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
