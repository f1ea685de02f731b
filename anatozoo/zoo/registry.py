"""The methods of the zoo, known by name without importing them."""

import difflib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from anatozoo.errors import ConfigError

MODULE_GROUP = "anatozoo.methods"
"""Entry points ``method = "package.module:LightningModuleClass"`` of other packages."""
DATA_GROUP = "anatozoo.datamodules"
"""Entry points ``method = "package.module:LightningDataModuleClass"`` of the same methods, optional."""

_CLASS_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Args:
        name: short name, the first part of its checkpoints' names.
        module: ``"package.module:Class"`` of its LightningModule.
        data: the same of its LightningDataModule, or None where users bring their own.
        task: what it does: ``"segmentation"``, ``"registration"`` or ``"quality"``.
        title: its name in prose.
        paper: the publication, one line.
    """

    name: str
    module: str
    data: str | None
    task: str
    title: str
    paper: str

    def module_class(self) -> Any:
        """Import and return the LightningModule class."""
        return import_class(self.module)

    def data_class(self) -> Any:
        """Import and return the LightningDataModule class.

        Raises:
            ConfigError: the method names none.
        """
        if self.data is None:
            raise ConfigError(f"method {self.name} names no data module; write your own LightningDataModule.")
        return import_class(self.data)


METHODS: dict[str, MethodEntry] = {
    "hybridgnet": MethodEntry(
        name="hybridgnet",
        module="anatozoo.methods.hybridgnet:HybridGNetModule",
        data="anatozoo.methods.hybridgnet:HybridGNetDataModule",
        task="segmentation",
        title="HybridGNet",
        paper="Gaggion et al., IEEE Transactions on Medical Imaging 2022, doi:10.1109/TMI.2022.3224660",
    ),
}
"""The methods of this package, by name."""


@cache
def _third_party() -> Mapping[str, MethodEntry]:
    data = {point.name: point.value for point in entry_points(group=DATA_GROUP)}
    found = {}
    for point in entry_points(group=MODULE_GROUP):
        owner = point.dist.name if point.dist else "an installed package"
        if not _CLASS_PATH.fullmatch(point.value):
            raise ConfigError(
                f"{owner} registers method {point.name} as {point.value!r}; write 'package.module:Class'."
            )
        found[point.name] = MethodEntry(
            name=point.name,
            module=point.value,
            data=data.get(point.name),
            task="unspecified",
            title=point.name,
            paper=f"see the package {owner}",
        )
    return found


def methods() -> dict[str, MethodEntry]:
    """All methods by name: this package's, then those that installed packages register.

    Raises:
        ConfigError: an installed package takes a name that is in use or writes no class path.
    """
    others = _third_party()
    for name in METHODS.keys() & others.keys():
        raise ConfigError(
            f"two packages offer method {name!r}: anatozoo and {others[name].module}; uninstall one."
        )
    return {**METHODS, **others}


def find_method(name: str) -> MethodEntry:
    """The method of this name.

    Raises:
        ConfigError: there is none; the message lists close matches.
    """
    # The own table first: looking for other packages reads every installed distribution's metadata.
    if name in METHODS:
        return METHODS[name]
    known = methods()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3) or sorted(known)
    raise ConfigError(f"no method is called {name!r}; did you mean {' or '.join(close)}?")


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
