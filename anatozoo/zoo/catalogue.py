"""Which checkpoints there are: the manifest that comes with the package."""

import difflib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from anatozoo.errors import ManifestError, UnknownCheckpoint
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
    """The validated manifest, read again only when its file changes.

    Raises:
        ManifestError: it is missing or breaks its schema.
    """
    path = manifest_path()
    return _read(path, path.stat().st_mtime_ns)


def select(
    pattern: str = "*",
    *,
    method: str | None = None,
    anatomy: str | None = None,
    modality: str | None = None,
    commercial: bool | None = None,
) -> tuple[CheckpointSpec, ...]:
    """The checkpoints that fit, in the manifest's order; the arguments are those of `list_models`."""
    return tuple(
        spec
        for spec in manifest().checkpoints
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
    """Names of the checkpoints; imports no torch and reaches no network.

    Args:
        pattern: shell pattern of the name, as ``"hybridgnet*"``.
        method: only this method.
        anatomy: only this anatomy, as ``"chest"``.
        modality: only this modality, as ``"x-ray"``.
        commercial: True for weights whose terms allow commercial use, False for the others.

    Raises:
        ManifestError: the manifest is missing or breaks its schema.
    """
    chosen = select(pattern, method=method, anatomy=anatomy, modality=modality, commercial=commercial)
    return [spec.name for spec in chosen]


def info(name: str) -> CheckpointSpec:
    """The manifest's entry of a checkpoint; imports no torch and reaches no network.

    Raises:
        UnknownCheckpoint: there is none of this name; the message lists close matches.
    """
    specs = {spec.name: spec for spec in manifest().checkpoints}
    if name in specs:
        return specs[name]
    close = difflib.get_close_matches(name, specs, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`anatozoo list` shows all names."
    raise UnknownCheckpoint(f"no checkpoint is called {name!r}; {hint}")
