"""Which checkpoints there are: the package's manifest, that of experiments, and private ones.

The manifest of experiments and its weights lie in a source checkout alone, in its folder `experiments`.
"""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from anatozoo.errors import ManifestError, UnknownCheckpoint
from anatozoo.zoo import private
from anatozoo.zoo.manifest import FILE_NAME, Manifest, read_manifest
from anatozoo.zoo.spec import EXPERIMENT, CheckpointSpec

PACKAGE = Path(__file__).resolve().parent.parent
EXPERIMENTS = "experiments"
"""Folder of a source checkout with a manifest of weights that are evidence; the wheel does not hold it."""


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
def _read(path: Path, changed_ns: int, *, experiments: bool) -> Manifest:
    found = read_manifest(path)
    for spec in found.checkpoints:
        if (spec.status == EXPERIMENT) != experiments:
            rule = f"must {'' if experiments else 'not '}be {EXPERIMENT} in this manifest, not"
            raise ManifestError(f"{path}:{found.lines[spec.name]}: {spec.name}.status: {rule} {spec.status}.")
    return found


def manifest() -> Manifest:
    """The package's own manifest, validated; read again only when its file changes.

    Raises:
        ManifestError: it is missing or breaks its schema.
    """
    path = manifest_path()
    return _read(path, path.stat().st_mtime_ns, experiments=False)


def experiments_manifest() -> Manifest | None:
    """The manifest of experiments, validated; None where this is no source checkout.

    Raises:
        ManifestError: it breaks its schema.
    """
    path = PACKAGE.parent / EXPERIMENTS / FILE_NAME
    # What lies beside an installed package is of other packages.
    if manifest_path().parent != PACKAGE.parent or not path.is_file():
        return None
    return _read(path, path.stat().st_mtime_ns, experiments=True)


def checkpoints(
    *, cache_dir: Path | None = None, offline: bool | None = None, experiments: bool = True
) -> tuple[CheckpointSpec, ...]:
    """The entries of the package's manifest, then those of the experiments and of the private ones.

    Args:
        cache_dir: root of the cache for private manifests on the Hub; default as for `anatozoo.load`.
        offline: never reach the network for them; default is whether ``HF_HUB_OFFLINE`` is set.
        experiments: whether those of status ``experiment`` are among them.

    Raises:
        ManifestError: a manifest is missing or breaks its schema, or two have a name in common.
        OfflineMiss: a private manifest on the Hub is not cached and the network may not be used.
        DownloadError: the Hub did not deliver it.
    """
    evidence = experiments_manifest() if experiments else None
    own = [manifest(), evidence] if evidence else [manifest()]
    manifests = [*own, *private.private_manifests(cache_dir=cache_dir, offline=offline)]
    first: dict[str, Manifest] = {}
    for found in manifests:
        for spec in found.checkpoints:
            other = first.setdefault(spec.name, found)
            if other is not found:
                raise ManifestError(
                    f"{found.path}:{found.lines[spec.name]}: {spec.name} stands in {other.path}:"
                    f"{other.lines[spec.name]} already; rename one."
                )
    entries = (spec for found in manifests for spec in found.checkpoints)
    return tuple(spec for spec in entries if experiments or spec.status != EXPERIMENT)


def listed_in(name: str) -> Path | None:
    """The private manifest that holds an entry; None for the project's own and for unknown names.

    Raises:
        ManifestError: as for `checkpoints`, likewise OfflineMiss and DownloadError.
    """
    if not private.sources():
        return None
    return next((found.path for found in private.private_manifests() if name in found.lines), None)


def is_private(name: str) -> bool:
    """Whether an entry comes from a private manifest; reaches no network."""
    return all(name not in found.lines for found in (manifest(), experiments_manifest()) if found)


def bundled_folder(name: str) -> Path:
    """Where a bundled checkpoint's files lie: in the package, or beside the other manifest that lists it.

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
    """The manifest beside the package's own that lists a name; private ones from the Hub bundle nothing."""
    others = (experiments_manifest(), *private.file_manifests())
    return next((found for found in others if found and name in found.lines), None)


def select(
    pattern: str = "*",
    *,
    method: str | None = None,
    anatomy: str | None = None,
    modality: str | None = None,
    commercial: bool | None = None,
    experiments: bool = False,
) -> tuple[CheckpointSpec, ...]:
    """The checkpoints that fit, in the manifests' order; arguments and errors are those of `list_models`."""
    return tuple(
        spec
        for spec in checkpoints(experiments=experiments)
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
    experiments: bool = False,
) -> list[str]:
    """Names of the checkpoints; imports no torch.

    Reaches no network, except once for a private manifest on the Hub (``ANATOZOO_MANIFEST=hf:...``).

    Args:
        pattern: shell pattern of the name, as ``"hybridgnet*"``.
        method: only this method.
        anatomy: only this anatomy, as ``"chest"``.
        modality: only this modality, as ``"x-ray"``.
        commercial: True for weights whose terms allow commercial use, False for the others.
        experiments: also weights that are evidence of experiments, which a source checkout holds.

    Raises:
        ManifestError: a manifest is missing or breaks its schema, or two have a name in common.
        OfflineMiss: a private manifest on the Hub is not cached and the network may not be used.
        DownloadError: the Hub did not deliver it.
    """
    chosen = select(
        pattern,
        method=method,
        anatomy=anatomy,
        modality=modality,
        commercial=commercial,
        experiments=experiments,
    )
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
