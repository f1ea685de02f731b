"""Hyper-parameters and tensors of a checkpoint, given as a name, a folder or a training run's file."""

import inspect
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.zoo.checkpoint import WEIGHTS, read_config, read_tensors, refuse_no_numbers
from anatozoo.zoo.registry import MethodEntry, find_method, methods

TRAINING_SUFFIX = ".ckpt"
METHOD_KEY = "anatozoo_method"
"""Where a training checkpoint names its method."""
_ALIKE = 0.5


def read_hparams(source: str) -> tuple[str, dict[str, Any]]:
    """Method and hyper-parameters of a checkpoint name, a folder or a Lightning ``.ckpt`` file.

    Raises:
        ConfigError: there is no such file, `anatozoo fit` did not write it, or its method cannot be told.
        AnatozooError: no such checkpoint.
    """
    if source.endswith(TRAINING_SUFFIX):
        stored = _read_training_checkpoint(source)
        return _method_of(source, stored), _hparams_of(stored)
    _, method, hparams = _read_folder_config(source)
    return method, hparams


def read_weights(source: str, method: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and hyper-parameters of a checkpoint of this method.

    Args:
        source: checkpoint name, folder or ``.ckpt`` file.
        method: name of the method that it must be of.

    Raises:
        ConfigError: the source is no checkpoint, or one of another method.
    """
    if source.endswith(TRAINING_SUFFIX):
        stored = _read_training_checkpoint(source)
        found, state, hparams = _method_of(source, stored), stored["state_dict"], _hparams_of(stored)
        refuse_no_numbers(state, source)
    else:
        folder, found, hparams = _read_folder_config(source)
        state = {} if found != method else read_tensors(folder / WEIGHTS)
    if found != method:
        raise ConfigError(f"{source} is a {found} checkpoint, not a {find_method(method).title}.")
    return state, hparams


def _read_training_checkpoint(source: str) -> dict[str, Any]:
    if not Path(source).is_file():
        raise ConfigError(f"{source}: there is no such file.")
    try:
        stored = torch.load(source, map_location="cpu", weights_only=True)
        dict(stored["hyper_parameters"])
        dict(stored["state_dict"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{source} is no checkpoint that `anatozoo fit` wrote: {error}.") from error
    return stored


def _hparams_of(stored: dict[str, Any]) -> dict[str, Any]:
    hparams = dict(stored["hyper_parameters"])
    hparams.pop("_instantiator", None)  # Lightning's command line notes there how it made the module
    return hparams


def _method_of(source: str, stored: dict[str, Any]) -> str:
    """The method that the file names, or the one whose module's settings are most like the file's."""
    if METHOD_KEY in stored:
        return str(stored[METHOD_KEY])
    # Files written before the method was noted: their settings tell it, even if some have come or gone since.
    names = set(_hparams_of(stored))
    shares = {entry.name: _share_in_common(names, _settings(entry)) for entry in methods().values()}
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < _ALIKE or list(shares.values()).count(shares[best]) > 1:
        raise ConfigError(f"{source} does not say which method it is of, and its settings fit none.")
    return best


def _share_in_common(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(len(a | b), 1)


def _settings(entry: MethodEntry) -> set[str]:
    """Names of the settings of a method's module, none where another package's does not import."""
    try:
        module = entry.module_class()
    except ConfigError:
        return set()
    return set(inspect.signature(module.__init__).parameters) - {"self"}


def _read_folder_config(source: str) -> tuple[Path, str, dict[str, Any]]:
    from anatozoo.zoo.hub import resolve

    folder = resolve(source)
    config = read_config(folder)
    return folder, config.method, dict(config.hparams)


def start_from(module: nn.Module, source: str, method: str) -> None:
    """Fill a module with the weights of a checkpoint of the same architecture.

    Args:
        module: the module; keeps its number formats.
        source: checkpoint name, folder or ``.ckpt`` file.
        method: name of the method that it must be of.

    Raises:
        ConfigError: the source is no checkpoint, or one of another method.
        WeightsError: tensors are missing, unexpected or misshapen.
    """
    fill_in(module, read_weights(source, method)[0])


def fill_in(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load starting weights into a module, all of them and nothing else; it keeps its number formats.

    Raises:
        WeightsError: tensors are missing, unexpected or misshapen.
    """
    own = module.state_dict()
    wrong = sorted(set(own) ^ set(state))
    wrong += [name for name in own if name in state and state[name].shape != own[name].shape]
    refuse_other_shapes(wrong)
    module.load_state_dict({name: value.to(own[name].dtype) for name, value in state.items()})


def refuse_other_shapes(wrong: Sequence[str]) -> None:
    """Refuse starting weights whose tensors are not those of the network to fill.

    Args:
        wrong: what is missing, unexpected or misshapen.

    Raises:
        WeightsError: there is any; the message lists the first.
    """
    if wrong:
        raise WeightsError(
            "the starting weights are of another architecture; "
            f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:5])}"
        )


def takes(entry: MethodEntry, names: Iterable[str]) -> bool:
    """Whether a method's module has all of these settings."""
    return set(names) <= _settings(entry)
