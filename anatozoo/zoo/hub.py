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
from anatozoo.zoo import catalogue
from anatozoo.zoo.checkpoint import CONFIG, WEIGHTS, build_module, read_config
from anatozoo.zoo.files import verify_file, write_atomically
from anatozoo.zoo.manifest import COMMIT, FILES, REPO_ID
from anatozoo.zoo.remote import cached_file, fetch_file, matches
from anatozoo.zoo.spec import CheckpointSpec

if TYPE_CHECKING:
    import torch
    from lightning import LightningModule

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
) -> Any:
    """Load a checkpoint: the LightningModule itself, verified, strict, in evaluation mode.

    Args:
        name: a name of the manifest, ``"hf:organisation/name@commit"``, or a folder.
        device: where to put it, as ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        cache_dir: where downloads are kept; default is ``$ANATOZOO_HOME``, else huggingface_hub's cache.
        offline: never reach the network; default is whether ``HF_HUB_OFFLINE`` is set.
        revision: another full commit than the manifest's; a warning says that its files are not verified.

    Returns:
        The module with ``predict`` and ``predict_batch``, its ``checkpoint_name`` and ``checkpoint_version``.
        ``Trainer.fit`` works on it.

    Raises:
        UnknownCheckpoint: nothing has this name; the message lists close matches.
        ChecksumMismatch: a file is not the one that the manifest describes.
        OfflineMiss: the files are not here and the network may not be used.
        DownloadError: the Hub did not deliver them.
        WeightsError: tensors are missing, unexpected or misshapen.
        ConfigError: the device is not available, or the method is unknown.
    """
    target = _available(device)
    located = locate(name, cache_dir=cache_dir, offline=offline, revision=revision)
    module: LightningModule = build_module(located.folder)
    return module.to(target)


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
        offline = _offline_by_environment()
    if revision is not None and not re.fullmatch(COMMIT, revision):
        raise ConfigError(
            f"revision {revision!r} must be a full commit of 40 hex digits: a branch or tag can move."
        )
    text = os.fspath(name)
    if text.startswith("hf:"):
        return _repository(text, cache, offline, revision)
    if isinstance(name, str) and text in catalogue.list_models():
        return _listed(catalogue.info(text), cache, offline, revision)
    if isinstance(name, str) and not _looks_like_path(text):
        catalogue.info(text)  # raises with close matches
    if revision is not None:
        raise ConfigError(f"{text} is a folder; `revision` is for checkpoints on the Hub.")
    return _local(Path(text).expanduser())


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where downloads are kept: `cache_dir`, else ``$ANATOZOO_HOME``, else huggingface_hub's cache."""
    chosen = cache_dir or os.environ.get("ANATOZOO_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def bundled_folder(name: str) -> Path:
    """Where this package holds a checkpoint's files, if it does."""
    return catalogue.PACKAGE / "checkpoints" / name


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
        return _repository(f"hf:{hub.repo_id}@{revision}", cache, offline, None)
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
    if hub.repo_id is None or hub.revision is None:
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
    paths = [
        fetch_file(hub.repo_id, hub.revision, name, cache, expected=record, offline=offline)
        for name, record in hub.files.items()
    ]
    return paths[0].parent


def _repository(text: str, cache: Path, offline: bool, revision: str | None) -> Located:
    match = re.fullmatch(f"hf:(?P<repo>{REPO_ID})@(?P<commit>{COMMIT})", text)
    if match is None:
        raise UnknownCheckpoint(
            f"{text!r} must be hf:organisation/name@commit with a full commit of 40 hex digits, for a branch "
            "or tag can move."
        )
    if revision not in (None, match["commit"]):
        raise ConfigError(f"{text} names its commit already; leave `revision` out.")
    # The configuration first: a repository that is no checkpoint is then refused before the large file comes.
    paths = [
        fetch_file(match["repo"], match["commit"], name, cache, expected=None, offline=offline)
        for name in (CONFIG, WEIGHTS)
    ]
    return _local(paths[0].parent)


def _local(folder: Path) -> Located:
    if folder.is_file():
        raise WeightsError(f"{folder} is a file; give the folder of a checkpoint, which holds {CONFIG}.")
    if not folder.is_dir():
        raise UnknownCheckpoint(
            f"there is no folder {folder}; `anatozoo list` shows the names that can be loaded."
        )
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(f"{folder} holds no {WEIGHTS}; get the checkpoint again.")
    return Located(folder, config.name, config.version, None)


def _looks_like_path(text: str) -> bool:
    return "/" in text or os.sep in text or text.startswith((".", "~")) or Path(text).exists()


def _offline_by_environment() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _advice(folder: Path, spec: CheckpointSpec) -> str:
    if folder == bundled_folder(spec.name):
        return "Install anatozoo again."
    return f"Delete {folder} and run `anatozoo download {spec.name}`."


def _available(device: "str | torch.device") -> "torch.device":
    """The device, if this machine has it."""
    import torch

    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"{device!r} is no device; write 'cpu', 'cuda', 'cuda:1' or 'mps'.") from error
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(
            f"device {str(target)!r} is not available: PyTorch {torch.__version__} sees {count} CUDA devices "
            "here. Use device='cpu', or see `anatozoo doctor`."
        )
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' is not available: this is no Apple GPU. Use device='cpu'.")
    return target
