"""The folder of a checkpoint: ``model.safetensors`` and ``config.json``, written and read.

Weights are safetensors and settings JSON, so reading a folder runs no code of whoever wrote it.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import AnatozooError, ConfigError, OutputError, WeightsError
from anatozoo.text import one_line, some
from anatozoo.version import __version__
from anatozoo.zoo.bounds import check_hparams, tensor_budget
from anatozoo.zoo.classes import import_class
from anatozoo.zoo.files import (
    NOT_REGULAR,
    fingerprint,
    is_irregular,
    read_regular,
    write_atomically,
    write_text,
)
from anatozoo.zoo.registry import check_prefix, find_method, methods
from anatozoo.zoo.reproducible import sort_metadata
from anatozoo.zoo.spec import GOLDEN, is_name

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SCHEMA_VERSION = 2
_LARGEST_CONFIG = 2**20
"""Bytes of a ``config.json``."""
START_SETTINGS = ("init_weights", "encoder_weights")
"""Settings that fill a fresh network. The weights of a checkpoint are there already, and fitting a loaded one
must go on from them: a run that is measured or resumed has them empty."""

OF_WEIGHTS = ("temperature",)
"""Settings that were found for these weights: a fit that begins from them finds its own."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What ``config.json`` says: the method, the checkpoint's name and version, and the model's settings."""

    method: str
    name: str
    version: str
    anatozoo_version: str
    settings: Mapping[str, Any]


def read_config(folder: Path) -> CheckpointConfig:
    """Read the ``config.json`` of a checkpoint's folder.

    Raises:
        WeightsError: it is missing, no JSON, lacks something, or asks for sizes that no network has.
    """
    path = folder / CONFIG
    try:
        values = json.loads(read_regular(path, most=_LARGEST_CONFIG).decode("utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} is not a checkpoint folder: it holds no {CONFIG}.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}. Get the checkpoint again.") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or numbers of thousands of digits
        raise WeightsError(f"{path} cannot be read as JSON: {error}. Get the checkpoint again.") from error
    kinds = {"method": str, "name": str, "version": str, "anatozoo_version": str, "settings": dict}
    if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
        raise WeightsError(f"{path} has no schema_version {SCHEMA_VERSION}; this anatozoo reads no other.")
    wrong = [key for key, kind in kinds.items() if not isinstance(values.get(key), kind)]
    if wrong:
        raise WeightsError(f"{path} lacks {', '.join(wrong)}; write it with `write_checkpoint_folder`.")
    if not is_name(values["name"]):
        # The name becomes the name of a folder, so "../x" must go no further than here.
        raise WeightsError(f"{path}: name {values['name']!r} is not <method>-<data>[-<variant>].")
    check_hparams(values["settings"], str(path))
    return CheckpointConfig(**{key: values[key] for key in kinds})


def check_version(version: str) -> None:
    """Refuse what is no version of a checkpoint.

    Raises:
        ConfigError: it is not three numbers.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ConfigError(f"version {version!r} must be three numbers, such as 1.0.0.")


def check_target(folder: str | os.PathLike[str], name: str) -> None:
    """Refuse to write a checkpoint where something else lies.

    Raises:
        ConfigError: the folder holds another checkpoint, or files that are none, or is a file.
        OutputError: nothing can be written there.
    """
    target = Path(folder)
    there = next((each for each in (target, *target.absolute().parents) if each.exists()), target)
    if not there.is_dir():
        raise ConfigError(f"{there} is no folder, so that no checkpoint can be written to {target}.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{there} is read-only; write the checkpoint to another folder.")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / CONFIG).is_file():
        raise ConfigError(f"{target} holds other files; name a new folder, or an empty one.")
    found = read_config(target).name
    if found != name:
        raise ConfigError(f"{target} holds the checkpoint {found}, not {name}; name another folder.")


def write_checkpoint_folder(
    module: "Module",
    directory: str | os.PathLike[str],
    *,
    name: str,
    version: str,
    half: bool = True,
) -> Path:
    """Write a module's weights and configuration; other files of the folder stay.

    Args:
        module: a module of a registered method; its ``state_dict`` and the settings of its model are stored,
            nothing of its training.
        directory: the checkpoint's folder, made where missing.
        name: the checkpoint's name, ``<method>-<data>[-<variant>]``.
        version: three numbers, as ``"1.0.0"``.
        half: store floating-point tensors as float16; loading brings them back to the module's type.

    Returns:
        The folder.

    Raises:
        ConfigError: the name does not fit, no method has this class, or settings are not JSON.
        WeightsError: a value is not finite, or too large for float16.
        OutputError: the folder cannot be written.
    """
    from safetensors.torch import save

    method = method_of(module)
    entry = find_method(method)
    if not is_name(name) or not (entry.prefix_of(name) or entry.any_prefix):
        prefixes = " or ".join(entry.prefixes)
        raise ConfigError(f"name {name!r} must be {prefixes}-<data>[-<variant>] in lower case.")
    check_prefix(name, entry)
    config = {
        "schema_version": SCHEMA_VERSION,
        "method": method,
        "name": name,
        "version": version,
        "anatozoo_version": __version__,
        "settings": settings_of(module),
    }
    try:
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings must be finite JSON values: {error}.") from error
    tensors = {key: _stored(key, value, half) for key, value in module.state_dict().items()}
    folder = Path(directory)
    metadata = {"format": "pt", "name": name, "version": version}

    def write(path: Path) -> None:
        # Not by `save_file`, whose errors do not say in a way for programs that the disk is full.
        path.write_bytes(save(tensors, metadata=metadata))
        sort_metadata(path)

    write_atomically(folder / WEIGHTS, write)
    write_text(folder / CONFIG, text)
    return folder


def copy_with_settings(folder: Path, directory: str | os.PathLike[str], changed: Mapping[str, Any]) -> Path:
    """Copy a checkpoint with its golden test, and change settings of its model that need no other weights.

    Args:
        folder: the checkpoint's folder.
        directory: the copy's folder, made where missing; may be the same.
        changed: settings by name.

    Returns:
        The copy's folder.

    Raises:
        WeightsError: the folder is not a checkpoint.
        OutputError: the copy cannot be written.
    """
    read_config(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["settings"] |= changed
    target = Path(directory)
    for name in (WEIGHTS, GOLDEN):
        if (folder / name).is_file() and (target / name).resolve() != (folder / name).resolve():
            write_atomically(target / name, partial(shutil.copyfile, folder / name))
    write_text(target / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return target


def settings_of(module: "Module") -> dict[str, Any]:
    """The settings that make a module's network again.

    Those of its model, or of another package's LightningModule that does not tell them apart all that it has,
    without what fills a fresh network.
    """
    if hasattr(module, "setting_names"):
        found: dict[str, Any] = module.settings()  # type: ignore[operator]
        return found
    every: Any = getattr(module, "hparams", {})
    return {key: None if key in START_SETTINGS else value for key, value in every.items()}


def method_of(module: "Module") -> str:
    """Name of the method whose module this is.

    Raises:
        ConfigError: no method registers its class.
    """
    own = type(module)
    for entry in methods().values():
        for path in (entry.module, entry.model):
            # By name first, so that methods whose packages do not import do not matter.
            if path and path.rpartition(":")[2] == own.__name__ and import_class(path) is own:
                return entry.name
    raise ConfigError(f"{own.__module__}.{own.__name__} is the module of no registered method; register it.")


def _stored(key: str, value: "Tensor", half: bool) -> "Tensor":
    import torch

    value = value.detach().cpu()
    if value.is_floating_point():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{key} holds NaN or infinity; such weights are not worth keeping.")
        if half:
            largest = float(value.abs().max()) if value.numel() else 0.0
            if largest > torch.finfo(torch.half).max:
                raise WeightsError(f"{key} reaches {largest:.3g}, too large for float16; use half=False.")
            value = value.half()
    # A copy of its own: safetensors refuses tensors that share memory.
    return value.clone(memory_format=torch.contiguous_format)


def build_module(folder: Path, *, trainable: bool = True) -> Any:
    """The module of a checkpoint's folder, with its weights, in evaluation mode on the CPU.

    The state of the random number generator is left as it was.

    Args:
        folder: the checkpoint's folder.
        trainable: give the LightningModule; else the model alone, which imports no Lightning.

    Raises:
        WeightsError: the folder is not a checkpoint, its configuration asks for far more than its weights, or
            tensors are missing, unexpected, misshapen, of another kind of number or not finite.
        ConfigError: the method is unknown or refuses the settings.
    """
    config = read_config(folder)
    state = read_tensors(folder / WEIGHTS)
    written = f"They were written by anatozoo {config.anatozoo_version}; use that version or a newer one."
    module = build(
        config.method,
        config.settings,
        state,
        trainable=trainable,
        where=(str(folder / CONFIG), folder / WEIGHTS),
        advice=written,
    )
    module.checkpoint_name, module.checkpoint_version = config.name, config.version
    module.weights_digest = fingerprint(folder / WEIGHTS).sha256
    return module


def build(
    method: str,
    settings: Mapping[str, Any],
    state: Mapping[str, "Tensor"],
    *,
    trainable: bool,
    where: tuple[str, Path],
    advice: str = "",
) -> Any:
    """A method's module of settings and weights, in evaluation mode on the CPU.

    Args:
        method: its name.
        settings: arguments of its constructor.
        state: its weights.
        trainable: give the LightningModule; else the model alone.
        where: what messages call the source of the settings and of the weights.
        advice: what a message adds where the settings are refused.

    Raises:
        WeightsError: tensors do not fit, or the settings ask for far more than the weights.
        ConfigError: the method is unknown or refuses the settings.
    """
    import torch

    entry = find_method(method)
    cls = entry.module_class() if trainable else entry.model_class()
    values = sum(value.numel() for value in state.values())
    with torch.random.fork_rng(devices=[]), tensor_budget(values, len(state), where[0]):
        try:
            module = cls(**settings)
        except AnatozooError:
            raise
        except Exception as error:  # constructors fail on values that nobody meant in any way they like
            reason = one_line(str(error)) or type(error).__name__
            raise ConfigError(
                f"{where[0]}: {cls.__name__} does not take these settings: {reason}. {advice}".strip()
            ) from error
    own = module.state_dict()
    _require_same(state, own, where[1])
    cast = {key: value.to(own[key].dtype) for key, value in state.items()}
    refuse_no_numbers(cast, where[1])  # once more: what float64 holds may be too large for float32
    module.load_state_dict(cast, strict=True)
    return module.eval()


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """All tensors of a safetensors file.

    Raises:
        WeightsError: the file is missing, cut short or no safetensors file, or holds NaN, infinity, complex
            numbers or truth values.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if is_irregular(path):
        raise WeightsError(f"{path} cannot be read: {NOT_REGULAR}. Get the checkpoint again.")
    try:
        state: dict[str, Tensor] = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist; get the checkpoint again.") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}). Get it again; pickled weights (.pt, .pth, "
            ".ckpt) are not read from here."
        ) from error
    refuse_no_numbers(state, path)
    return state


def refuse_no_numbers(state: Mapping[str, "Tensor"], path: str | os.PathLike[str]) -> None:
    """Refuse tensors that no network can compute with.

    Raises:
        WeightsError: one holds NaN or infinity, or is complex or of truth values; the message lists them.
    """
    import torch

    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    whole = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64)
    problems = []
    others = [f"{key} ({value.dtype})" for key, value in state.items() if value.dtype not in (*kinds, *whole)]
    if others:
        problems.append(f"numbers of a kind that weights are not: {some(others, 10)}")
    broken = [key for key, value in state.items() if value.dtype in kinds and not torch.isfinite(value).all()]
    if broken:
        problems.append(f"NaN or infinity in {some(broken, 10)}")
    if problems:
        raise WeightsError(f"{path} holds {'; '.join(problems)}. It was not used; get it again.")


def _require_same(state: Mapping[str, "Tensor"], own: Mapping[str, "Tensor"], path: Path) -> None:
    problems = []
    if missing := sorted(own.keys() - state.keys()):
        problems.append(f"missing {some(missing, 10)}")
    if extra := sorted(state.keys() - own.keys()):
        problems.append(f"unexpected {some(extra, 10)}")
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(state.keys() & own.keys())
        if state[key].shape != own[key].shape
    ]
    if shapes:
        problems.append(f"misshapen {some(shapes, 10)}")
    kinds = [
        f"{key} {state[key].dtype} instead of {own[key].dtype}"
        for key in sorted(state.keys() & own.keys())
        if state[key].is_floating_point() != own[key].is_floating_point()
    ]
    if kinds:
        problems.append(f"another kind of number {some(kinds, 10)}")
    if problems:
        raise WeightsError(f"{path} does not fit its {CONFIG}: {'; '.join(problems)}.")
