"""Conversion of released weights to anatozoo's format: the common part of the methods' ``convert.py``.

A method whose authors published weights has a module ``convert`` in its package, with the four names of
`Converter`. This module does the rest: it reads the file without running code in it, finds the style, and
writes a folder for `anatozoo.load`. ``anatozoo convert METHOD FILE --to DIR`` finds the converter by the
method's name.
"""

import importlib
import importlib.util
import os
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError, OutputError, WeightsError
from anatozoo.io.quiet import quiet
from anatozoo.text import first_line, some
from anatozoo.zoo.registry import MethodEntry, find_method, methods

if TYPE_CHECKING:
    from lightning import LightningModule


class Converter(Protocol):
    """The names that a method's ``convert.py`` defines."""

    STYLES: tuple[str, ...]
    """Names of the releases that it reads; releases with the same tensors may mean different networks."""

    OPTIONS: tuple[str, ...]
    """Further keyword arguments of `convert_state`, each with a default, for facts that the file lacks.

    The command line offers ``organs``, ``skips`` and ``image_size``.
    """

    def styles_of(self, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        """The styles that use these tensor names: none, one, or several with equal names."""

    def convert_state(self, state: Mapping[str, Tensor], style: str, **options: Any) -> "LightningModule":
        """Build the module of the tensors and load them, in evaluation mode; every tensor must fit.

        Raises:
            WeightsError: a tensor is missing, unknown or misshapen; the message lists them.
        """


def find_converter(method: str) -> Converter:
    """The ``convert`` module in the package of a method.

    Raises:
        ConfigError: there is no such method, or it has no converter.
    """
    entry = find_method(method)
    if not _has_converter(entry):
        able = [other.name for other in methods().values() if _has_converter(other)]
        raise ConfigError(f"no weights of others are known for {method}; convert reads {', '.join(able)}.")
    return cast("Converter", importlib.import_module(_converter_name(entry)))


def _converter_name(entry: MethodEntry) -> str:
    return f"{entry.package}.convert"


def _has_converter(entry: MethodEntry) -> bool:
    try:
        return importlib.util.find_spec(_converter_name(entry)) is not None
    except ModuleNotFoundError:  # a registered package that cannot be imported has no converter
        return False


def read_state(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file that ``torch.save(model.state_dict())`` wrote; code in the file is not run.

    Raises:
        WeightsError: the file is missing, empty, truncated or of another kind, holds more than tensors, or
            could only be read by running code in it.
    """
    path = Path(weights)
    try:
        size = path.stat().st_size
        if path.is_dir() or not size:
            what = "a folder" if path.is_dir() else "empty"
            raise WeightsError(f"{path} is {what}; give the authors' .pt file.")
        with quiet():  # torch's warnings about the file; anything but tensors is refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} {_why_refused(str(error))}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        # The exception of torch's reader depends on where the file is damaged.
        raise WeightsError(
            f"{path} is not a whole PyTorch file ({first_line(error)}). Download it again."
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{path} holds a {type(state).__name__}, not tensors; save model.state_dict() alone."
        )
    others = [str(key) for key, value in state.items() if not (isinstance(key, str) and _is_plain(value))]
    if others:
        raise WeightsError(
            f"{path} holds more than tensors ({some(others)}); save model.state_dict() alone, as by "
            "torch.save(torch.load(FILE)['state_dict'], NEW) where you trust FILE."
        )
    if not state:
        raise WeightsError(f"{path} holds no tensor.")
    return dict(state)


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()


def _why_refused(message: str) -> str:
    if match := re.search(r"(?:Unsupported global: GLOBAL |Unsupported class )([\w.]+)", message):
        return (
            f"is refused: reading it would run {match[1]}, and a file of weights needs no code. It may be a "
            "whole model or a run's checkpoint: load it where you trust it and save model.state_dict() alone."
        )
    return f"is refused: it is not a file of tensors alone ({first_line(message)}). Download it again."


def fill(network: nn.Module, state: Mapping[str, Tensor], *, kept: Iterable[str] = ()) -> None:
    """Load tensors into a network, all of them and nothing else.

    Args:
        network: the network.
        state: tensors under the network's names.
        kept: the network's own tensors that others' files do not hold, such as fixed matrices.

    Raises:
        WeightsError: tensors are missing, unknown or misshapen; the message lists them.
    """
    own = network.state_dict()
    needed = own.keys() - set(kept)
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = {
        "missing": [key for key in own if key in needed and key not in state],
        "unknown": [key for key in state if key not in own],
        "misshapen": shapes,
    }
    wrong = {what: names for what, names in problems.items() if names}
    if wrong:
        count = sum(len(names) for names in wrong.values())
        told = "; ".join(f"{what}: {some(names, 10)}" for what, names in wrong.items())
        raise WeightsError(f"{count} tensors do not fit; {told}.")
    network.load_state_dict({**own, **state})


def choose_style(method: str, converter: Converter, state: Mapping[str, Tensor], style: str | None) -> str:
    """The style of the tensors: the given one, or the only one that fits.

    Raises:
        ConfigError: the style is unknown, or several fit.
        WeightsError: the tensors belong to another method, which the message names.
    """
    if style is not None and style not in converter.STYLES:
        raise ConfigError(f"style {style!r} is unknown for {method}; choose {' or '.join(converter.STYLES)}.")
    possible = converter.styles_of(state)
    if not possible:
        raise WeightsError(f"{some(state, 3)}: these are not tensors of {method}.{_whose(method, state)}")
    if style is None:
        if len(possible) > 1:
            raise ConfigError(
                f"the names in the file fit several releases of {method} that mean different networks: say "
                f"--style {' or --style '.join(possible)}, whichever wrote it."
            )
        return possible[0]
    if style not in possible:
        raise WeightsError(f"the names in the file are those of {' or '.join(possible)}, not of {style}.")
    return style


def _whose(method: str, state: Mapping[str, Tensor]) -> str:
    for entry in methods().values():
        other = entry.name != method and _has_converter(entry)
        if other and find_converter(entry.name).styles_of(state):
            return f" They are those of `anatozoo convert {entry.name}`."
    return ""


def convert_file(
    method: str,
    weights: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    style: str | None = None,
    name: str | None = None,
    **options: Any,
) -> Path:
    """Turn an authors' ``.pt`` file into a checkpoint folder that `anatozoo.load` reads.

    Args:
        method: name of the method.
        weights: file written by ``torch.save(model.state_dict())``.
        directory: folder to write; it must not hold a checkpoint.
        style: release that wrote the file; None finds it from the names.
        name: name of the checkpoint, by default the method and the style.
        **options: facts that the file lacks; see the converter's `OPTIONS`.

    Returns:
        The folder.

    Raises:
        WeightsError: the file is not a state dict, or not of this method.
        ConfigError: an option, style or name is not possible.
        OutputError: the folder holds a checkpoint, or cannot be written.
    """
    from anatozoo.zoo.checkpoint import WEIGHTS, method_of, write_checkpoint_folder

    converter = find_converter(method)
    unknown = [key for key in options if key not in converter.OPTIONS]
    if unknown:
        raise ConfigError(
            f"{method} does not take {some(unknown)}; it takes {some(converter.OPTIONS) or 'no option'}."
        )
    folder = Path(directory)
    if (folder / WEIGHTS).exists():
        raise OutputError(f"{folder} holds a checkpoint already; choose another folder.")
    state = read_state(weights)
    chosen = choose_style(method, converter, state, style)
    try:
        module = converter.convert_state(state, chosen, **options)
    except WeightsError as error:
        raise WeightsError(f"{weights}: {error}") from error
    return write_checkpoint_folder(
        module, folder, name=name or f"{method_of(module)}-{chosen}", version="1.0.0", half=False
    )
