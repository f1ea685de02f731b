"""Private zoos: manifests of one's own, named by the environment variable ``ANATOZOO_MANIFEST``.

Its value is one manifest or several, separated as in ``PATH`` (``:``, on Windows ``;``): files, or
``hf:organisation/name@commit`` for the file `checkpoints_manifest.yaml` of a repository on the Hub. Their
entries are added to those of the shipped manifest; no name may stand twice.
"""

import os
import re
from functools import cache
from pathlib import Path

from anatozoo.errors import ManifestError
from anatozoo.zoo.manifest import FILE_NAME, Manifest, read_manifest
from anatozoo.zoo.spec import COMMIT, REPO_ID

VARIABLE = "ANATOZOO_MANIFEST"
WEIGHTS_FOLDER = "checkpoints"
"""Folder beside a private manifest's file; NAME in it is the bundled folder of checkpoint NAME."""

_ON_HUB = re.compile(f"hf:(?P<repo>{REPO_ID})@(?P<commit>{COMMIT})")


def sources() -> list[str]:
    """The parts of the variable, each once; empty where it is not set.

    Raises:
        ManifestError: a part is a web address.
    """
    value = os.environ.get(VARIABLE, "")
    if "://" in value:
        raise ManifestError(
            f"{VARIABLE}: a web address is not read; name a file, or hf:organisation/name@commit."
        )
    joined: list[str] = []
    for part in value.split(os.pathsep):
        # Where the separator is a colon, the one after "hf" is none.
        if os.pathsep == ":" and joined and joined[-1] == "hf":
            joined[-1] = f"hf:{part}"
        else:
            joined.append(part.strip())
    return list(dict.fromkeys(part for part in joined if part))


def file_manifests() -> list[Manifest]:
    """The private manifests that are files; reaches no network.

    Raises:
        ManifestError: one is missing or breaks the schema.
    """
    return [_from_file(source) for source in sources() if not source.startswith("hf:")]


def private_manifests(*, cache_dir: Path | None = None, offline: bool | None = None) -> list[Manifest]:
    """All private manifests, in the variable's order.

    A manifest on the Hub is fetched once and then read from the cache without a request.

    Args:
        cache_dir: root of the cache; default as for `anatozoo.load`.
        offline: never reach the network; default is whether ``HF_HUB_OFFLINE`` is set.

    Raises:
        ManifestError: one is missing, breaks the schema, or is named in another form.
        OfflineMiss: one on the Hub is not cached and the network may not be used.
        DownloadError: the Hub did not deliver one.
    """
    return [
        _from_hub(source, cache_dir, offline) if source.startswith("hf:") else _from_file(source)
        for source in sources()
    ]


def carry(to: Path, *, offline: bool | None = None) -> None:
    """Copy the manifests from the Hub into another cache, so that it can be used without a network.

    Args:
        to: root of that cache.
        offline: as for `private_manifests`.

    Raises:
        OutputError: the folder cannot be written.
    """
    # Only here, so that listing does not pay for what writes files.
    import shutil
    from functools import partial

    from anatozoo.zoo.files import write_atomically

    for source in sources():
        if match := _ON_HUB.fullmatch(source):
            path = _from_hub(source, None, offline).path
            # The layout of huggingface_hub's cache, with a plain file in the place of its link.
            folder = to / f"models--{match['repo'].replace('/', '--')}" / "snapshots" / match["commit"]
            if not (folder / FILE_NAME).is_file():
                write_atomically(folder / FILE_NAME, partial(shutil.copyfile, path))


def _from_file(source: str) -> Manifest:
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        raise ManifestError(f"{VARIABLE}: {path} is a folder; name the file in it, as {path / FILE_NAME}.")
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError as error:
        raise ManifestError(
            f"{VARIABLE} names {path}, which cannot be read: {error.strerror}. Correct or unset the variable."
        ) from error
    return _read(path, changed_ns, alone=False)


def _from_hub(source: str, cache_dir: Path | None, offline: bool | None) -> Manifest:
    match = _ON_HUB.fullmatch(source)
    if match is None:
        raise ManifestError(
            f"{VARIABLE}: {source!r} must be hf:organisation/name@commit with a full commit of 40 hex "
            "digits, for a branch or tag can move."
        )
    # Only here, so that a zoo of files is listed without huggingface_hub.
    from anatozoo.zoo.cache import cache_root, offline_by_environment
    from anatozoo.zoo.remote import cached_file, fetch_file

    if offline is None:
        offline = offline_by_environment()
    repo_id, commit = match["repo"], match["commit"]
    roots = [cache_root(cache_dir), cache_root()]
    root = next((root for root in roots if cached_file(repo_id, commit, FILE_NAME, root)), roots[0])
    path = fetch_file(repo_id, commit, FILE_NAME, root, expected=None, offline=offline)
    return _read(path, path.stat().st_mtime_ns, alone=True)


@cache
def _read(path: Path, changed_ns: int, *, alone: bool) -> Manifest:
    return read_manifest(path, alone=alone)
