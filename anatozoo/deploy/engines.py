"""Engines: what computes the network of a model behind the same `predict`, in place of torch."""

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anatozoo.deploy.exports import write_export
from anatozoo.deploy.formats import FORMATS, Format
from anatozoo.deploy.running import opened_export, read_manifest, runs_on, state_digest
from anatozoo.errors import ConfigError, WeightsError, turned_into
from anatozoo.tasks.base import Predictor
from anatozoo.zoo.cache import cache_root
from anatozoo.zoo.ranks import one_at_a_time

LOG = logging.getLogger("anatozoo.deploy")
TORCH, COMPILE = "torch", "compile"
CACHE = "engines"
"""Folder of the graphs of engines within that of downloads."""


def engine_names() -> tuple[str, ...]:
    """The names that `use_engine` takes, beside folders."""
    return (*(name for name, form in FORMATS.items() if form.is_engine), COMPILE, TORCH)


def use_engine(
    model: Any,
    engine: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None = None,
    checkpoint: Path | None = None,
) -> Any:
    """Let an engine compute the network of a model, and leave all else of it as it is.

    The graph of ``"onnx"`` and ``"openvino"`` is made once, in float32, checked on the golden input, and kept
    in the folder of downloads. It has the weights that the model has now.

    Args:
        model: on the CPU, in evaluation mode.
        engine: ``"onnx"``, ``"openvino"``, ``"compile"`` (of torch), a folder of `anatozoo export`,
            or ``"torch"`` or None for torch as it is.
        cache_dir: see `anatozoo.load`.
        checkpoint: folder with the golden input of the model; None takes an input that its method offers.

    Returns:
        The model.

    Raises:
        ConfigError: there is no such engine, it is not installed, or it cannot compute this model.
        WeightsError: the folder holds the graph of other weights or is damaged, or the graph does not compute
            what the model computes.
        OutputError: the graph cannot be kept.
    """
    if engine in (None, TORCH):
        return model
    if not isinstance(model, Predictor):
        raise ConfigError(f"{type(model).__name__} is computed by its own package; leave the engine out.")
    if engine == COMPILE:
        return _compiled(model)
    text = os.fspath(engine) if isinstance(engine, str | os.PathLike) else ""
    is_name = text in FORMATS and FORMATS[text].is_engine
    if not is_name and not os.path.isdir(text):
        raise ConfigError(
            f"there is no engine {engine!r}; use {', '.join(engine_names())}, or a folder of "
            "`anatozoo export`."
        )
    if model.place()[0].type != "cpu":
        raise ConfigError(f"the engine {text} computes on the CPU; leave the device out, or the engine.")
    if model.precision != "32":
        raise ConfigError(f"the engine {text} has a precision of its own; leave {model.precision!r} out.")
    model.signature()  # refuses what has none, before anything is made
    batch: int | None = 1
    if is_name:
        form = FORMATS[text]
        path = _kept(model, form, cache_root(cache_dir) / CACHE, checkpoint)
    else:
        form, path, batch = opened_export(Path(text), model)
    runs_on(model, form, path, batch)
    return model


def _compiled(model: Predictor) -> Predictor:
    model.signature()
    LOG.warning(
        "torch.compile: the first prediction of %s compiles its network, which takes minutes; later ones are "
        "quick.",
        model.checkpoint_name,
    )
    compiled = torch.compile(model.computed, dynamic=False)

    def computed(*inputs: Tensor) -> tuple[Tensor, ...]:
        # It compiles here, which needs a compiler for C++ and fails in many ways.
        with turned_into(ConfigError, "torch.compile failed: {}; leave the engine out.".format):
            return compiled(*inputs)

    model.computed = computed  # type: ignore[method-assign]
    model.engine = COMPILE
    return model


def _kept(model: Predictor, form: Format, cache: Path, checkpoint: Path | None) -> Path:
    """The graph of a model in the cache, made where it is not there."""
    versions = hashlib.sha256(json.dumps(form.versions(), sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^a-zA-Z0-9-]", "-", model.checkpoint_name)[:60]
    folder = cache / f"{name}-{form.name}-{state_digest(model)[:16]}-{versions[:8]}"
    # Before the lock: most calls find the graph there.
    if not _is_whole(folder):
        with one_at_a_time(cache / f"{folder.name}.lock"):
            if not _is_whole(folder):
                LOG.warning("making the graph of %s for %s, once", model.checkpoint_name, form.name)
                write_export(
                    model, form, folder, precision="fp32", batch=1, checkpoint=checkpoint, replace=True
                )
    return folder / form.file


def _is_whole(folder: Path) -> bool:
    try:
        return bool(read_manifest(folder))
    except (ConfigError, WeightsError):
        return False
