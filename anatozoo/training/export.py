"""From a training run to a checkpoint: ``python -m anatozoo.training.export CKPT NAME --to DIR``.

For every method. Stores the weights in float16, then writes what the stored weights make of a picture as the
golden result.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anatozoo.errors import AnatozooError, ConfigError, WeightsError
from anatozoo.training.weights import read_weights
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.golden import write_golden
from anatozoo.zoo.manifest import is_name
from anatozoo.zoo.registry import describe_method, find_method, find_method_of

if TYPE_CHECKING:
    from lightning import LightningModule

GOLDEN_SIDE = 512
_SOURCES = ("_weights", "shape_prior", "autoencoder")
"""How the settings end that name what a fit began with."""
LAST_STEP = "current_model_state"
"""Where Lightning keeps the weights of a run's last step, if the file's own are their average."""


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
        averaged: take the average of weights if the run kept one, else the weights of its last step.

    Raises:
        ConfigError: it is no such file, one of another method, or holds no average to choose against.
        WeightsError: its tensors do not fit the module.
    """
    path = str(ckpt)
    state, hparams = read_weights(path, method)
    if not averaged:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if LAST_STEP not in stored:
            raise ConfigError(f"{path} holds no average of weights; leave --last-weights out.")
        state = {key: stored[LAST_STEP][key] for key in state}
    cls = find_method(method).module_class()
    try:
        with torch.random.fork_rng(devices=[]):
            module: LightningModule = cls(**hparams)
        module.load_state_dict(state, strict=True)
    except TypeError as error:
        raise ConfigError(f"{path}: {cls.__name__} does not take its hyper-parameters: {error}.") from error
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {cls.__name__}: {' '.join(str(error).split())}") from error
    return module.eval()


def export_run(
    ckpt: str | Path,
    name: str,
    folder: Path,
    *,
    version: str = "1.0.0",
    averaged: bool = True,
    images: Sequence[Path] = (),
    change: Callable[[Any], "LightningModule"] | None = None,
) -> Path:
    """Write the checkpoint folder of a training run, with its golden test.

    Args:
        ckpt: the ``.ckpt`` of `anatozoo fit`.
        name: name of the checkpoint, ``<method>-<data>[-<variant>]``.
        folder: where to write.
        version: three numbers.
        averaged: as for `read_run`.
        images: picture files for the golden test, one, or moving and fixed of a registration; their terms
            must allow redistribution. Default is what the method offers.
        change: applied to the module before it is stored.

    Returns:
        The folder.

    Raises:
        ConfigError: the file or the name does not fit, or the method needs `images`.
        ImageError: an image cannot be read.
        OutputError: the folder cannot be written.
    """
    module = _without_paths(read_run(ckpt, method_of_name(name), averaged=averaged))
    if change is not None:
        module = change(module)
    write_checkpoint_folder(module, folder, name=name, version=version)
    stored = build_module(folder)
    pictures = [_picture(path) for path in images]
    settings = stored.hparams
    # A mask from memory has no spacing, which a model of masks that works in millimetres needs.
    metric = hasattr(stored, "golden_input") and settings.get("fit") == "spacing"
    write_golden(
        stored,
        _golden_input(stored, name, pictures),
        folder,
        spacing_mm=settings["spacing_mm"] if metric else None,
    )
    return folder


def _without_paths(module: "LightningModule") -> "LightningModule":
    """Forget files that a fit began with: their paths mean nothing elsewhere. Checkpoints' names stay."""
    for key, value in module.hparams.items():
        if key.endswith(_SOURCES) and isinstance(value, str) and (os.sep in value or os.path.exists(value)):
            module.hparams[key] = None
    return module


def _golden_input(
    module: Any, name: str, pictures: Sequence[np.ndarray]
) -> np.ndarray | Mapping[str, np.ndarray]:
    """What `predict` is tried on: pictures of the user's, the module's own, or a free radiograph.

    A method whose input is another one has a method ``golden_input()`` that returns an array, or
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


def golden_radiograph() -> np.ndarray:
    """The MIT-licensed radiograph of ``pydicom-data``, 8 bits, long side 512, bone white.

    Raises:
        DataError: the package is not installed.
    """
    from anatozoo.io.samples import sample_radiograph

    return _picture(sample_radiograph())


def _picture(path: Path) -> np.ndarray:
    """A picture as a golden test keeps it, (H, W) uint8, long side at most 512."""
    import cv2

    from anatozoo.io.images import read_image
    from anatozoo.io.intensity import normalize_intensity

    pixels = normalize_intensity(read_image(path).pixels)
    scale = min(1.0, GOLDEN_SIDE / max(pixels.shape))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(255 * small), np.uint8)


def main(
    argv: list[str] | None = None,
    *,
    parser: argparse.ArgumentParser | None = None,
    change: Callable[[argparse.Namespace], Callable[[Any], "LightningModule"] | None] | None = None,
) -> int:
    """Write a checkpoint folder; returns the exit code.

    Args:
        argv: arguments; None takes the command line's.
        parser: a method's own parser, to which the arguments of all methods are added.
        change: from the arguments to what is applied to the module before it is stored.
    """
    parser = parser or argparse.ArgumentParser(prog="python -m anatozoo.training.export", description=__doc__)
    parser.add_argument("ckpt", help="Lightning checkpoint of a training run")
    parser.add_argument("name", help="name of the checkpoint, <method>-<data>[-<variant>]")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument(
        "--last-weights", action="store_true", help="the last step's weights in place of their average"
    )
    parser.add_argument(
        "--golden-image",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="picture of the golden test, or the moving and the fixed one (default: the method's own)",
    )
    options = parser.parse_args(argv)
    try:
        folder = export_run(
            options.ckpt,
            options.name,
            options.to,
            version=options.version,
            averaged=not options.last_weights,
            images=options.golden_image,
            change=change(options) if change else None,
        )
    except (AnatozooError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
