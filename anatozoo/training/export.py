"""Export a training run of any method as a checkpoint folder, for ``anatozoo export``.

The weights are stored in float16. The golden test stores an input and the result of these weights for it.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anatozoo.errors import ConfigError
from anatozoo.zoo.checkpoint import build_module, method_of, write_checkpoint_folder
from anatozoo.zoo.golden import write_golden
from anatozoo.zoo.golden_pictures import golden_picture, golden_radiograph
from anatozoo.zoo.hub import load_run
from anatozoo.zoo.registry import describe_method, find_method, find_method_of
from anatozoo.zoo.spec import is_name

if TYPE_CHECKING:
    from lightning import LightningModule


def method_of_name(name: str) -> str:
    """The method in a checkpoint's name.

    Raises:
        ConfigError: the name is not ``<method>-<data>[-<variant>]``, or there is no such method.
    """
    if not is_name(name):
        raise ConfigError(f"name {name!r} must be <method>-<data>[-<variant>] in lower case.")
    return find_method_of(name).name


def read_run(ckpt: str | Path, method: str, *, averaged: bool = True) -> "LightningModule":
    """The module of a training run's file, in evaluation mode.

    Args:
        ckpt: the ``.ckpt`` of `anatozoo fit`; read without running code in it.
        method: its method.
        averaged: take the running average of the weights, if the run kept one; False takes the last step.

    Raises:
        ConfigError: it is another kind of file, of another method, or holds no average to choose against.
        WeightsError: its tensors do not fit the module.
    """
    module: LightningModule = load_run(ckpt, averaged=averaged)
    found = method_of(module)
    if found != method:
        raise ConfigError(f"{ckpt} is a {found} checkpoint, not a {find_method(method).title}.")
    return module


def export_run(
    ckpt: str | Path,
    name: str,
    folder: Path,
    *,
    version: str = "1.0.0",
    averaged: bool = True,
    images: Sequence[Path] = (),
    organs: Sequence[str] | None = None,
) -> Path:
    """Write the checkpoint folder of a training run, with its golden test.

    Args:
        ckpt: the ``.ckpt`` of `anatozoo fit`.
        name: name of the checkpoint, ``<method>-<data>[-<variant>]``.
        folder: where to write.
        version: three numbers.
        averaged: as for `read_run`.
        images: image files for the golden test, one, or moving and fixed for registration; their terms must
            allow redistribution. By default the method offers one.
        organs: keep only these of the network's organs, if the method can; None keeps all.

    Returns:
        The folder.

    Raises:
        ConfigError: the file or the name does not fit, or the method needs `images`.
        ImageError: an image cannot be read.
        OutputError: the folder cannot be written.
    """
    method = method_of_name(name)
    module = read_run(ckpt, method, averaged=averaged)
    if organs is not None:
        module = _restricted(module, method, organs)
    write_checkpoint_folder(module, folder, name=name, version=version)
    stored = build_module(folder)
    pictures = [golden_picture(path) for path in images]
    frame = getattr(stored, "frame", None)  # modules of other packages may have none
    # Arrays have no spacing, which models of masks in millimetres need.
    metric = hasattr(stored, "golden_input") and getattr(frame, "fit", None) == "spacing"
    spacing = getattr(frame, "spacing_mm", None) if metric else None
    write_golden(stored, _golden_input(stored, name, pictures), folder, spacing_mm=spacing)
    return folder


def _restricted(module: "LightningModule", method: str, organs: Sequence[str]) -> "LightningModule":
    """The network for some organs only, by ``restrict_organs`` of the module ``export`` in its package."""
    home = f"{find_method(method).package}.export"
    if importlib.util.find_spec(home) is None:
        raise ConfigError(f"{method} cannot be cut down to some of its organs; leave --organs out.")
    part: LightningModule = importlib.import_module(home).restrict_organs(module, organs)
    return part


def _golden_input(
    module: Any, name: str, pictures: Sequence[np.ndarray]
) -> np.ndarray | Mapping[str, np.ndarray]:
    """Input of the golden test: images of the user, of the module, or a free radiograph.

    Modules with another kind of input have a method ``golden_input()`` that returns an array, or
    ``{"moving": array, "fixed": array}``.
    """
    if len(pictures) == 1:
        return pictures[0]
    if len(pictures) == 2:
        return dict(zip(("moving", "fixed"), pictures, strict=True))
    if pictures:
        raise ConfigError("--golden-image takes one picture, or two of a registration: moving and fixed.")
    if hasattr(module, "golden_input"):
        offered: np.ndarray | Mapping[str, np.ndarray] = module.golden_input()
        return offered
    kind = describe_method(method_of_name(name)).kind
    if kind is not None and kind.takes == ("image",):
        return golden_radiograph()
    raise ConfigError(
        f"a golden test of {name} needs a picture that it takes: name a file that may be passed on by "
        f"--golden-image FILE, or give {type(module).__name__} a method golden_input()."
    )
