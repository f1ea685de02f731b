"""Which checkpoints there are: the manifest that comes with the package, and private ones beside it."""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from anatozoo.errors import ManifestError, UnknownCheckpoint
from anatozoo.zoo import private
from anatozoo.zoo.manifest import FILE_NAME, Manifest, read_manifest
from anatozoo.zoo.spec import CheckpointSpec

PACKAGE = Path(__file__).resolve().parent.parent


def manifest_path() -> Path:
    """The manifest: inside an installed package, beside the package in a source checkout.

    Raises:
        ManifestError: there is none.
    """
    for folder in (PACKAGE, PACKAGE.parent):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise ManifestError(f"{FILE_NAME} is missing from this installation of anatozoo; install it again.")


@cache
def _read(path: Path, changed_ns: int) -> Manifest:
    return read_manifest(path)


def manifest() -> Manifest:
    """The package's own manifest, validated; read again only when its file changes.

    Raises:
        ManifestError: it is missing or breaks its schema.
    """
    path = manifest_path()
    return _read(path, path.stat().st_mtime_ns)


def checkpoints(*, cache_dir: Path | None = None, offline: bool | None = None) -> tuple[CheckpointSpec, ...]:
    """The entries of the package's manifest, then those of the private ones.

    Args:
        cache_dir: root of the cache for private manifests on the Hub; default as for `anatozoo.load`.
        offline: never reach the network for them; default is whether ``HF_HUB_OFFLINE`` is set.

    Raises:
        ManifestError: a manifest is missing or breaks its schema, or two have a name in common.
        OfflineMiss: a private manifest on the Hub is not cached and the network may not be used.
        DownloadError: the Hub did not deliver it.
    """
    manifests = [manifest(), *private.private_manifests(cache_dir=cache_dir, offline=offline)]
    first: dict[str, Manifest] = {}
    for found in manifests:
        for spec in found.checkpoints:
            other = first.setdefault(spec.name, found)
            if other is not found:
                raise ManifestError(
                    f"{found.path}:{found.lines[spec.name]}: {spec.name} stands in {other.path}:"
                    f"{other.lines[spec.name]} already; rename one."
                )
    return tuple(spec for found in manifests for spec in found.checkpoints)


def listed_in(name: str) -> Path | None:
    """The private manifest that holds an entry; None for the package's own and for unknown names.

    Raises:
        ManifestError: as for `checkpoints`, likewise OfflineMiss and DownloadError.
    """
    if not private.sources():
        return None
    return next((found.path for found in private.private_manifests() if name in found.lines), None)


def is_private(name: str) -> bool:
    """Whether an entry comes from a private manifest; reaches no network."""
    return all(spec.name != name for spec in manifest().checkpoints)


def bundled_folder(name: str) -> Path:
    """Where a bundled checkpoint's files lie: in the package, or beside the private manifest that lists it.

    Raises:
        ManifestError: a manifest is missing or breaks its schema.
    """
    home = _home(name)
    return (home.path.parent if home else PACKAGE) / private.WEIGHTS_FOLDER / name


def repair(name: str) -> str:
    """What to do about a wrong file in a bundled folder, a sentence."""
    home = _home(name)
    if home is None:
        return "Install anatozoo again."
    return (
        "Copy the folder again, or after a change on purpose run "
        f"`python -m anatozoo.zoo.maintain hashes --manifest {home.path}`."
    )


def _home(name: str) -> Manifest | None:
    """The private manifest among files that lists a name; those from the Hub bundle nothing."""
    return next((found for found in private.file_manifests() if name in found.lines), None)


def select(
    pattern: str = "*",
    *,
    method: str | None = None,
    anatomy: str | None = None,
    modality: str | None = None,
    commercial: bool | None = None,
) -> tuple[CheckpointSpec, ...]:
    """The checkpoints that fit, in the manifests' order; arguments and errors are those of `list_models`."""
    return tuple(
        spec
        for spec in checkpoints()
        if fnmatchcase(spec.name, pattern)
        and method in (None, spec.method)
        and anatomy in (None, spec.input.anatomy)
        and modality in (None, spec.input.modality)
        and commercial in (None, spec.license.commercial_use)
    )


def list_models(
    pattern: str = "*",
    *,
    method: str | None = None,
    anatomy: str | None = None,
    modality: str | None = None,
    commercial: bool | None = None,
) -> list[str]:
    """Names of the checkpoints; imports no torch.

    Reaches no network, except once for a private manifest on the Hub (``ANATOZOO_MANIFEST=hf:...``).

    Args:
        pattern: shell pattern of the name, as ``"hybridgnet*"``.
        method: only this method.
        anatomy: only this anatomy, as ``"chest"``.
        modality: only this modality, as ``"x-ray"``.
        commercial: True for weights whose terms allow commercial use, False for the others.

    Raises:
        ManifestError: a manifest is missing or breaks its schema, or two have a name in common.
        OfflineMiss: a private manifest on the Hub is not cached and the network may not be used.
        DownloadError: the Hub did not deliver it.
    """
    chosen = select(pattern, method=method, anatomy=anatomy, modality=modality, commercial=commercial)
    return [spec.name for spec in chosen]


def info(name: str) -> CheckpointSpec:
    """The manifest's entry of a checkpoint; imports no torch and reaches the network as `list_models` does.

    Raises:
        UnknownCheckpoint: there is none of this name; the message lists close matches.
        ManifestError: as for `list_models`, likewise OfflineMiss and DownloadError.
    """
    specs = {spec.name: spec for spec in checkpoints()}
    if name not in specs:
        raise unknown(name, specs)
    return specs[name]


def unknown(name: str, known: Iterable[str]) -> UnknownCheckpoint:
    """The error for a name that no checkpoint has, with close matches."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`anatozoo list` shows all names."
    return UnknownCheckpoint(f"no checkpoint is called {name!r}; {hint}")
