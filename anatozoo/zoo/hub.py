"""Find, verify and load checkpoints.

Weights come from the bundled folder, then the local cache, then the Hub at the manifest's commit, always
verified by size and SHA-256 before use.
"""

import os
import re
import shutil
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import ConfigError, DownloadError, OfflineMiss, UnknownCheckpoint, WeightsError
from anatozoo.zoo import catalogue, private
from anatozoo.zoo.cache import cache_root, offline_by_environment
from anatozoo.zoo.checkpoint import CONFIG, START_SETTINGS, WEIGHTS, build, build_module, read_config
from anatozoo.zoo.classes import import_class
from anatozoo.zoo.files import fingerprint, verify_file, write_atomically
from anatozoo.zoo.registry import find_method
from anatozoo.zoo.remote import cached_file, fetch_file, fetch_files, list_files, matches, refuse_unsafe
from anatozoo.zoo.runs import is_run, read_run
from anatozoo.zoo.spec import COMMIT, EXPERIMENT, FILES, GOLDEN, REPO_ID, CheckpointSpec

if TYPE_CHECKING:
    import torch

Name = str | os.PathLike[str]


@dataclass(frozen=True)
class Located:
    """A verified checkpoint on this machine.

    Args:
        folder: where its files lie.
        name: its name.
        version: its version.
        spec: the manifest's entry, None for a folder or repository that the manifest does not list.
    """

    folder: Path
    name: str
    version: str
    spec: CheckpointSpec | None


def load(
    name: Name,
    *,
    device: "str | torch.device" = "cpu",
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    revision: str | None = None,
    golden_check: bool = False,
    trainable: bool = True,
    engine: Name | None = None,
) -> Any:
    """Load a checkpoint: the LightningModule itself, verified, strict, in evaluation mode.

    Processes of one job may all call this at once: one of them downloads, the others wait.

    Args:
        name: a name of the manifest, ``"hf:organisation/name@commit"``, a folder, or the ``.ckpt`` file of a
            training run.
        device: where to put it, as ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        cache_dir: where downloads are kept; default is ``$ANATOZOO_HOME``, else huggingface_hub's cache.
        offline: never reach the network; default is whether ``HF_HUB_OFFLINE`` is set.
        revision: another full commit than the manifest's; a warning says that its files are not verified.
        golden_check: also run the golden test on `device`: the stored image must give the stored result. A
            training run has none.
        trainable: give the LightningModule, for training on; False gives the same model in plain torch, which
            predicts alike and is imported faster, for it needs no Lightning.
        engine: what computes the network on the CPU: ``"onnx"`` (ONNX Runtime), ``"openvino"``,
            ``"compile"`` (`torch.compile`), or a folder that `anatozoo export` wrote; None computes it in
            torch. It predicts behind the same ``predict``, with the weights of now, and gives a model in
            plain torch, as ``trainable=False`` does.

    Returns:
        The module with ``predict`` and ``predict_batch``, its ``checkpoint_name`` and ``checkpoint_version``.
        ``Trainer.fit`` works on it.

    Raises:
        UnknownCheckpoint: nothing has this name; the message lists close matches.
        ChecksumMismatch: a file is not the one that the manifest describes.
        OfflineMiss: the files are not here and the network may not be used.
        DownloadError: the Hub did not deliver them.
        WeightsError: tensors are missing, unexpected or misshapen, a repository holds pickled files, or the
            golden test fails.
        ConfigError: the device is not available, the method is unknown, or weights of an experiment have no
            golden test to run.
    """
    target = _available(device)
    trainable = trainable and engine is None
    if is_run(name):
        if golden_check or revision is not None:
            raise ConfigError(f"{name} is the file of a training run; leave golden_check and revision out.")
        return _with_engine(load_run(name, trainable=trainable).to(target), engine, cache_dir, None)
    located = locate(name, cache_dir=cache_dir, offline=offline, revision=revision)
    module = build_module(located.folder, trainable=trainable).to(target)
    _with_engine(module, engine, cache_dir, located.folder)
    if golden_check:
        if located.spec is not None and not located.spec.hub.has_golden:
            raise ConfigError(f"{name} is of an experiment and has no golden test; leave golden_check out.")
        from anatozoo.zoo.golden import run_golden

        run_golden(module, located.folder)
    return module


def _with_engine(
    module: Any, engine: Name | None, cache_dir: str | os.PathLike[str] | None, folder: Path | None
) -> Any:
    if engine is None:
        return module
    return import_class("anatozoo.deploy.engines:use_engine")(module, engine, cache_dir, folder)


def load_run(source: Name, *, averaged: bool = True, trainable: bool = True) -> Any:
    """The module of a training run's file, in evaluation mode on the CPU; no code in the file is run.

    Args:
        source: the ``.ckpt`` file that `anatozoo fit` wrote.
        averaged: take the average of weights if the run kept one, else the weights of its last step.
        trainable: as for `load`.

    Raises:
        ConfigError: there is no such file, `anatozoo fit` did not write it, or it holds no average to choose
            against.
        WeightsError: its tensors do not fit the module.
    """
    run = read_run(source)
    state = run.state
    if not averaged:
        if run.last is None:
            raise ConfigError(f"{source} holds no average of weights; its own are those of its last step.")
        state = {key: run.last[key] for key in run.state}
    names = None if trainable else getattr(find_method(run.method).model_class(), "setting_names", None)
    kept = set(names()) if names else set(run.settings)
    settings = {
        key: None if key in START_SETTINGS else value for key, value in run.settings.items() if key in kept
    }
    where = (os.fspath(source), run.path)
    module = build(run.method, settings, state, trainable=trainable, where=where)
    module.checkpoint_name, module.weights_digest = run.path.stem, fingerprint(run.path).sha256
    # A run goes on, and its files keep their names: what is in them tells one from another.
    module.checkpoint_version = module.weights_digest[:12]
    return module


def resolve(
    name: Name,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    revision: str | None = None,
) -> Path:
    """Folder of a verified checkpoint; arguments and errors are those of `load`."""
    return locate(name, cache_dir=cache_dir, offline=offline, revision=revision).folder


def locate(
    name: Name,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    revision: str | None = None,
) -> Located:
    """Find and verify a checkpoint without importing torch; arguments and errors are those of `load`."""
    cache = cache_root(cache_dir)
    if offline is None:
        offline = offline_by_environment()
    if revision is not None and not re.fullmatch(COMMIT, revision):
        raise ConfigError(
            f"revision {revision!r} must be a full commit of 40 hex digits: a branch or tag can move."
        )
    text = os.fspath(name)
    if text.startswith("hf:"):
        return _repository(text, cache, offline, revision)
    if isinstance(name, str):
        # A private manifest on the Hub obeys the same cache and `offline` as the weights.
        specs = {spec.name: spec for spec in catalogue.checkpoints(cache_dir=cache, offline=offline)}
        if text in specs:
            return _listed(specs[text], cache, offline, revision)
        if not _looks_like_path(text):
            raise catalogue.unknown(text, specs)
    if revision is not None:
        raise ConfigError(f"{text} is a folder; `revision` is for checkpoints on the Hub.")
    return _local(Path(text).expanduser())


def bundled_folder(name: str) -> Path:
    """Where this package, or the private zoo that lists it, holds a checkpoint's files, if it does."""
    return catalogue.bundled_folder(name)


def is_local(spec: CheckpointSpec, cache_dir: str | os.PathLike[str] | None = None) -> bool:
    """Whether all files of a listed checkpoint are on this machine; they are not verified."""
    cache = cache_root(cache_dir)
    return _plain_folder(spec, cache) is not None or _is_cached(spec, cache)


def download(name: Name, to: Path, *, offline: bool | None = None) -> Path:
    """Copy a verified checkpoint to the folder ``to/NAME``; a copy that is whole already stays.

    Args:
        name: as for `load`.
        to: a folder for `ANATOZOO_HOME` or ``cache_dir`` on a machine without a network.
        offline: never reach the network.

    Returns:
        The copy.

    Raises:
        OutputError: the folder cannot be written.
    """
    located = locate(name, offline=offline)
    private.carry(to, offline=offline)
    target = to / located.name
    if located.spec is not None and matches(target, located.spec.hub.files):
        return target
    for source in sorted(located.folder.iterdir()):
        if source.name in (*FILES, "README.md"):
            # One file at a time under a temporary name: a copy that was cut short is repeated, never used.
            write_atomically(target / source.name, partial(shutil.copyfile, source))
            if located.spec is not None and source.name in located.spec.hub.files:
                verify_file(target / source.name, located.spec.hub.files[source.name], "Copy it again.")
    return target


def _listed(spec: CheckpointSpec, cache: Path, offline: bool, revision: str | None) -> Located:
    hub = spec.hub
    if revision not in (None, hub.revision):
        if hub.repo_id is None:
            raise ConfigError(f"{spec.name} was never published, so there is no revision of it to ask for.")
        warnings.warn(
            f"{spec.name} at commit {revision} is not what the manifest lists ({hub.revision}); its files "
            "cannot be verified against the manifest.",
            stacklevel=4,
        )
        return _unlisted(str(hub.repo_id), str(revision), cache, offline)
    folder = _plain_folder(spec, cache)
    if folder is None:
        return Located(_from_hub(spec, cache, offline), spec.name, spec.version, spec)
    for name, record in hub.files.items():
        verify_file(folder / name, record, _advice(folder, spec))
    return Located(folder, spec.name, spec.version, spec)


def _plain_folder(spec: CheckpointSpec, cache: Path) -> Path | None:
    """The bundled folder, or the one that `download` made, if all files are there."""
    for folder in (bundled_folder(spec.name), cache / spec.name):
        if all((folder / name).is_file() for name in spec.hub.files):
            return folder
    return None


def _is_cached(spec: CheckpointSpec, cache: Path) -> bool:
    """Whether all files are in the Hub's cache, at the manifest's commit."""
    repo_id, revision = spec.hub.repo_id, spec.hub.revision
    if repo_id is None or revision is None:
        return False
    return all(cached_file(repo_id, revision, name, cache) for name in spec.hub.files)


def _from_hub(spec: CheckpointSpec, cache: Path, offline: bool) -> Path:
    hub = spec.hub
    if spec.build is not None:
        raise DownloadError(
            f"{spec.name} holds data that may not be passed on, so its files are not distributed. Build "
            f"them, then load it by its name or folder: {spec.build.strip()}"
        )
    if hub.repo_id is None or hub.revision is None:
        is_private = catalogue.is_private(spec.name)
        if is_private or spec.status == EXPERIMENT:
            owner = "private manifest" if is_private else "manifest of experiments"
            raise DownloadError(
                f"{spec.name} was never published, so its files must lie beside the {owner}, in "
                f"{bundled_folder(spec.name)}; copy {', '.join(hub.files)} there."
            )
        raise DownloadError(
            f"{spec.name} comes with anatozoo and was never published, but its files are missing from this "
            f"installation; install anatozoo again, or copy them to {cache / spec.name}."
        )
    if offline and not _is_cached(spec, cache):
        expected = ", ".join(str(cache / spec.name / name) for name in hub.files)
        raise OfflineMiss(
            f"{spec.name} is not on this machine and the network may not be used. On one with a network "
            f"run `anatozoo download {spec.name} --to DIR`, copy DIR here and set ANATOZOO_HOME=DIR. "
            f"Expected files: {expected}."
        )
    return fetch_files(hub.repo_id, hub.revision, hub.files, cache, offline=offline)[0].parent


def _repository(text: str, cache: Path, offline: bool, revision: str | None) -> Located:
    match = re.fullmatch(f"hf:(?P<repo>{REPO_ID})@(?P<commit>{COMMIT})", text)
    if match is None:
        raise UnknownCheckpoint(
            f"{text!r} must be hf:organisation/name@commit with a full commit of 40 hex digits, for a branch "
            "or tag can move."
        )
    if revision not in (None, match["commit"]):
        raise ConfigError(f"{text} names its commit already; leave `revision` out.")
    repo_id, commit = match["repo"], match["commit"]
    specs = catalogue.checkpoints(cache_dir=cache, offline=offline)
    listed = [spec for spec in specs if spec.hub.repo_id == repo_id]
    for spec in listed:
        if spec.hub.revision == commit:
            return Located(_from_hub(spec, cache, offline), spec.name, spec.version, spec)
    if listed:
        warnings.warn(
            f"{repo_id} at commit {commit} is not what the manifest lists as {listed[0].name} "
            f"({listed[0].hub.revision}); its files cannot be verified against the manifest.",
            stacklevel=4,
        )
    return _unlisted(repo_id, commit, cache, offline)


def _unlisted(repo_id: str, commit: str, cache: Path, offline: bool) -> Located:
    """A commit that no manifest describes: checked by what the Hub says, and for what must not be in it."""
    # The configuration first: a repository that is not a checkpoint is refused before the large file comes.
    config = fetch_file(repo_id, commit, CONFIG, cache, expected=None, offline=offline)
    weights = cached_file(repo_id, commit, WEIGHTS, cache)
    if weights is None and not offline:
        files = list_files(repo_id, commit)
        refuse_unsafe(files, f"{repo_id} at commit {commit}")
        # The weights last: where they are, all else is.
        names = [name for name in (GOLDEN, WEIGHTS) if name in files or name == WEIGHTS]
        fetch_files(repo_id, commit, {name: files.get(name) for name in names}, cache, offline=offline)
    else:
        fetch_file(repo_id, commit, WEIGHTS, cache, expected=None, offline=offline)
    return _local(config.parent)


def _local(folder: Path) -> Located:
    if os.path.isfile(folder):  # not by `Path`, which fails where a name is too long
        raise WeightsError(f"{folder} is a file; give the folder of a checkpoint, which holds {CONFIG}.")
    if not os.path.isdir(folder):
        raise UnknownCheckpoint(
            f"there is no folder {folder}; `anatozoo list` shows the names that can be loaded."
        )
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(f"{folder} holds no {WEIGHTS}; get the checkpoint again.")
    return Located(folder, config.name, config.version, None)


def _looks_like_path(text: str) -> bool:
    return "/" in text or os.sep in text or text.startswith((".", "~")) or os.path.exists(text)


def _advice(folder: Path, spec: CheckpointSpec) -> str:
    if folder == bundled_folder(spec.name):
        return catalogue.repair(spec.name)
    return f"Delete {folder} and run `anatozoo download {spec.name}`."


def _available(device: "str | torch.device") -> "torch.device":
    """The device, if this machine has it."""
    import torch

    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"{device!r} is not a device; write 'cpu', 'cuda', 'cuda:1' or 'mps'.") from error
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(
            f"device {str(target)!r} is not available: PyTorch {torch.__version__} sees {count} CUDA devices "
            "here. Use device='cpu', or see `anatozoo doctor`."
        )
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' is not available: this machine has no Apple GPU. Use device='cpu'.")
    return target
