"""Export a training run, or an ensemble of checkpoints, as a checkpoint folder.

The weights are stored in float16. The golden test stores an input and the result of these weights for it.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anatozoo.errors import ConfigError
from anatozoo.zoo.checkpoint import (
    CONFIG,
    build_module,
    check_target,
    check_version,
    method_of,
    settings_of,
    write_checkpoint_folder,
)
from anatozoo.zoo.golden import write_golden
from anatozoo.zoo.golden_pictures import golden_picture, golden_radiograph
from anatozoo.zoo.hub import load, load_run
from anatozoo.zoo.registry import describe_method, find_method, find_method_of
from anatozoo.zoo.runs import is_run
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
    check_version(version)
    check_target(folder, name)
    if Path(ckpt).is_dir():
        raise ConfigError(
            f"{ckpt} is a folder: a checkpoint already, if it holds {CONFIG}; export the .ckpt of a run."
        )
    # First, so that a picture that cannot be read leaves what is there as it was.
    pictures = [golden_picture(path) for path in images]
    module = read_run(ckpt, method, averaged=averaged)
    if organs is not None:
        module = _restricted(module, method, organs)
    write_checkpoint_folder(module, folder, name=name, version=version)
    _write_golden(folder, name, pictures)
    return folder


def export_ensemble(
    sources: Sequence[str | Path],
    name: str,
    folder: Path,
    *,
    version: str = "1.0.0",
    images: Sequence[Path] = (),
) -> Path:
    """Write the checkpoint folder of an ensemble, with its golden test; the members' weights are in it.

    Args:
        sources: its members: checkpoint names, folders or ``.ckpt`` files. Of an ensemble, its members.
        name: name of the checkpoint, ``ensemble-<data>``, or as one of the members' method.
        folder: where to write.
        version: three numbers.
        images: as for `export_run`.

    Returns:
        The folder.

    Raises:
        ConfigError: there are fewer than two members, one is named twice, they differ in kind, organs or
            frame, or the name does not fit.
        AnatozooError: a member cannot be loaded, a picture cannot be read, or the folder cannot be written.
    """
    from anatozoo.tasks.volumes import VolumeTask

    check_version(version)
    check_target(folder, name)
    pictures = [golden_picture(path) for path in images]
    loaded = [(source, load(source, trainable=False)) for source in sources]
    parts = [pair for source, model in loaded for pair in _members_of(model, source)]
    origins = [str(source) for source, model in loaded for _ in _members_of(model, source)]
    members = [member for member, _ in parts]
    for later in range(1, len(parts)):
        for earlier in range(later):
            if _same_weights(parts[earlier][1], parts[later][1]):
                raise ConfigError(
                    f"{origins[earlier]} and {origins[later]} hold the same network; name each member once."
                )
    method = "volumeensemble" if parts and isinstance(parts[0][1], VolumeTask) else "ensemble"
    ensemble = find_method(method).model_class()(members=members)
    for own, (_, part) in zip(ensemble.network.members, parts, strict=True):
        own.load_state_dict(part.state_dict())
    write_checkpoint_folder(ensemble, folder, name=name, version=version)
    _write_golden(folder, name, pictures)
    return folder


def _same_weights(one: Any, other: Any) -> bool:
    """Whether two models have the same weights, as far as half precision tells."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(
        a[name].shape == b[name].shape and bool((a[name].half() == b[name].half()).all()) for name in a
    )


def _members_of(model: Any, source: str | Path) -> "list[tuple[dict[str, Any], Any]]":
    """A model as a member of an ensemble, how it is built and itself; those of an ensemble one by one."""
    if getattr(model, "votes", False):
        return list(zip(model.members, model.network.members, strict=True))
    member = {
        "name": _called(Path(source)) if is_run(source) else model.checkpoint_name,
        "version": model.checkpoint_version,
        "sha256": model.weights_digest,
        "method": method_of(model),
        "settings": settings_of(model),
    }
    return [(member, model)]


def _called(ckpt: Path) -> str:
    """What tells a run's file from those of other runs: its folder, as the user named it, and its stem."""
    plain = [part for part in ckpt.parent.parts if part not in ("checkpoints", "lightning_logs", "version_0")]
    return f"{plain[-1]}/{ckpt.stem}" if plain and plain[-1] not in ("/", "..") else ckpt.stem


def _write_golden(folder: Path, name: str, pictures: Sequence[np.ndarray]) -> None:
    """Write the golden test of a checkpoint's folder, of the user's images or one that the method offers."""
    stored = build_module(folder)
    given, spacing = golden_question(stored, name, pictures)
    write_golden(stored, given, folder, spacing_mm=spacing)


def golden_question(
    module: Any, name: str, pictures: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray | Mapping[str, np.ndarray], Sequence[float] | None]:
    """The input of a golden test, and the spacing that is stated with it.

    Args:
        module: what predicts.
        name: of its checkpoint.
        pictures: of the user; without any, the method offers one.

    Raises:
        ConfigError: the method offers none.
    """
    frame = getattr(module, "frame", None)  # modules of other packages may have none
    # Arrays have no spacing, which models of masks in millimetres need.
    metric = hasattr(module, "golden_input") and getattr(frame, "fit", None) == "spacing"
    return _golden_input(module, name, pictures), getattr(frame, "spacing_mm", None) if metric else None


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
    kind = describe_method(method_of(module)).kind
    if kind is not None and kind.takes == ("image",):
        return golden_radiograph()
    raise ConfigError(
        f"a golden test of {name} needs a picture that it takes: name a file that may be passed on by "
        f"--golden-image FILE, or give {type(module).__name__} a method golden_input()."
    )
