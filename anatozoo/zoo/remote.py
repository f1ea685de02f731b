"""Files from the Hugging Face Hub, pinned to a commit, in the layout of huggingface_hub's cache.

A file gets its final name only after its bytes were compared, so whoever reads the cache at the same time
sees the right file or none.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from anatozoo.errors import ChecksumMismatch, OfflineMiss, WeightsError
from anatozoo.text import some
from anatozoo.zoo.files import fingerprint, is_being_written, verify_file, write_atomically
from anatozoo.zoo.progress import Progress, progress_bar
from anatozoo.zoo.ranks import one_at_a_time, wait_for_first_rank
from anatozoo.zoo.refusals import client_errors, endpoint, translated
from anatozoo.zoo.spec import FileRecord
from anatozoo.zoo.transfer import Announced, ask, receive

DOWNLOAD_AGAIN = "Load again; if it happens again, the file on the Hub is not the right one."
OTHER_CACHE = "Set ANATOZOO_HOME to another folder, or make room."
PICKLED = (
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".joblib",
    ".dill",
    ".npy",
    ".npz",
    ".h5",
    ".keras",
)
"""Endings of files that can hold code which runs when they are read."""


def cached_file(repo_id: str, revision: str, name: str, cache: Path) -> Path | None:
    """A file in the cache, None where it is not there; reaches no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, name, cache_dir=cache, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch_file(
    repo_id: str, revision: str, name: str, cache: Path, *, expected: FileRecord | None, offline: bool
) -> Path:
    """One verified file of a repository; arguments and errors are those of `fetch_files`."""
    return fetch_files(repo_id, revision, {name: expected}, cache, offline=offline)[0]


def fetch_files(
    repo_id: str, revision: str, files: Mapping[str, FileRecord | None], cache: Path, *, offline: bool
) -> list[Path]:
    """Verified files of a repository: from the cache without a request, else from the Hub.

    Of several processes that want the same files one downloads; the others wait and read the cache.

    Args:
        repo_id: ``"organisation/name"``.
        revision: full commit.
        files: names in the repository with the manifest's records. Without a record the Hub's own SHA-256
            is checked, where it gives one.
        cache: root of the cache, in huggingface_hub's layout.
        offline: never reach the network.

    Returns:
        The files in their order.

    Raises:
        OfflineMiss: one is not cached and the network may not be used.
        DownloadError: the Hub did not deliver one.
        ChecksumMismatch: twice in a row not the expected bytes; nothing is kept.
        OutputError: the cache cannot be written.
    """

    def all_cached() -> bool:
        return all(cached_file(repo_id, revision, name, cache) for name in files)

    def fetch(progress: Progress | None) -> list[Path]:
        return [_fetch(repo_id, revision, name, cache, record, progress) for name, record in files.items()]

    if offline or all_cached():
        found = [_cached(repo_id, revision, name, cache, record, offline) for name, record in files.items()]
        if all(found):
            return [path for path in found if path is not None]
    blobs = _repository_folder(cache, repo_id) / "blobs"
    wait_for_first_rank(all_cached, lambda: is_being_written(blobs))
    with one_at_a_time(cache / ".locks" / blobs.parent.name / f"{revision}.anatozoo.lock"):
        # Whoever waited for the lock finds the files now, and shows no bar.
        if all_cached():
            return fetch(None)
        with progress_bar(repo_id) as progress:
            return fetch(progress)


def list_files(repo_id: str, revision: str) -> dict[str, FileRecord | None]:
    """Names of the files of a repository, with the records that the Hub has of the large ones.

    Raises:
        DownloadError: the repository or the commit is not there, not for us, or nobody answers.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    try:
        items = list(HfApi(endpoint=endpoint()).list_repo_tree(repo_id, revision=revision, recursive=True))
    except client_errors() as error:
        raise translated(error, repo_id, revision, "list of files") from error
    found: dict[str, FileRecord | None] = {}
    for item in items:
        if isinstance(item, RepoFile):
            large = item.lfs
            found[item.path] = FileRecord(large.sha256, large.size) if large else None
    return found


def refuse_unsafe(names: Mapping[str, object], where: str) -> None:
    """Refuse a repository or folder with pickled files, or with names that lead out of it.

    Args:
        names: names of its files.
        where: what the message calls it.

    Raises:
        WeightsError: a name is unsafe; the message lists them.
    """
    outside = [name for name in names if _leads_out(name)]
    if outside:
        raise WeightsError(
            f"{where} holds {some(map(repr, outside))}, which is not a name inside it: nothing of it was "
            "used. Do not trust it."
        )
    pickled = [name for name in names if PurePosixPath(name).suffix.lower() in PICKLED]
    if pickled:
        raise WeightsError(
            f"{where} holds {some(map(repr, pickled))}, which may run code when it is read, so nothing of it "
            "was used. Ask its owner for a repository of model.safetensors, config.json and "
            "golden.safetensors alone."
        )


def matches(folder: Path, files: Mapping[str, FileRecord]) -> bool:
    """Whether a folder holds exactly these bytes under these names."""
    return all((folder / n).is_file() and fingerprint(folder / n) == record for n, record in files.items())


def offline_message(repo_id: str, revision: str, name: str, cache: Path) -> str:
    """What to do where a file is not cached and the network may not be used."""
    return (
        f"{name} of {repo_id} at commit {revision} is not in {cache}, and the network may not be used "
        "(offline=True or HF_HUB_OFFLINE=1). On a machine with a network run "
        "`anatozoo download NAME --to DIR`, copy DIR here and set ANATOZOO_HOME=DIR."
    )


def _cached(
    repo_id: str, revision: str, name: str, cache: Path, record: FileRecord | None, offline: bool
) -> Path | None:
    """A cached file if it is right; a wrong one is removed. Offline that is an error: nothing replaces it."""
    path = cached_file(repo_id, revision, name, cache)
    if path is None:
        if offline:
            raise OfflineMiss(offline_message(repo_id, revision, name, cache))
        return None
    try:
        _verify_cached(path, record)
    except ChecksumMismatch:
        _discard(path, _repository_folder(cache, repo_id))
        if offline:
            raise
        return None
    return path


def _fetch(
    repo_id: str, revision: str, name: str, cache: Path, record: FileRecord | None, progress: Progress | None
) -> Path:
    for last in (False, True):
        path = _cached(repo_id, revision, name, cache, record, offline=False)
        if path is not None:
            return path
        try:
            if progress is not None:
                return _download(repo_id, revision, name, cache, record, progress)
            with progress_bar(repo_id) as bar:
                return _download(repo_id, revision, name, cache, record, bar)
        except ChecksumMismatch:
            if last:
                raise
    raise AssertionError("unreachable: the loop returns or raises")


def _download(
    repo_id: str, revision: str, name: str, cache: Path, record: FileRecord | None, progress: Progress
) -> Path:
    announced = ask(repo_id, revision, name)
    progress.expect(announced.size)
    expected, source = record, "the manifest describes"
    if record is None and announced.sha256 is not None and announced.size is not None:
        expected, source = FileRecord(announced.sha256, announced.size), "the Hub announces"

    def write(part: Path) -> None:
        with part.open("r+b") as stream:
            most = expected.size if expected is not None else announced.size
            receive(repo_id, revision, name, announced, stream, progress, most=most)
        if expected is not None:
            called = f"{name} of {repo_id} at commit {revision}"
            verify_file(part, expected, DOWNLOAD_AGAIN, called=called, source=source)

    folder = _repository_folder(cache, repo_id)
    for part in ("blobs", Path("snapshots", revision, name).parent):
        require_inside(folder / part, folder)
    blob = folder / "blobs" / _blob_name(expected, announced, revision, name)
    # Another commit may have brought the same bytes.
    if expected is None or not matches(blob.parent, {blob.name: expected}):
        write_atomically(blob, write, advice=OTHER_CACHE)
    pointer = folder / "snapshots" / revision / name
    write_atomically(pointer, lambda part: _link(blob, part), advice=OTHER_CACHE)
    return pointer


def _blob_name(expected: FileRecord | None, announced: Announced, revision: str, name: str) -> str:
    """As huggingface_hub names a file's content: by SHA-256, small ones by git's SHA-1."""
    if expected is not None:
        return expected.sha256
    # What a server calls its content becomes part of a path only where it is harmless.
    return announced.etag if re.fullmatch(r"[0-9a-f]{40}", announced.etag) else f"{revision}-{name}"


def _link(blob: Path, part: Path) -> None:
    """Make `part`, an empty file, a link to a blob two folders up, or a copy where there are no links."""
    target = Path("..", "..", "blobs", blob.name)
    part.unlink()
    try:
        part.symlink_to(target)
    except (OSError, NotImplementedError):
        part.write_bytes(blob.read_bytes())


def _repository_folder(cache: Path, repo_id: str) -> Path:
    return cache / f"models--{repo_id.replace('/', '--')}"


def _verify_cached(path: Path, record: FileRecord | None) -> None:
    if record is not None:
        return verify_file(path, record, DOWNLOAD_AGAIN)
    # A large file's blob has its SHA-256 for a name, so even without a manifest it can be checked.
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        expected = FileRecord(blob.name, blob.stat().st_size)
        return verify_file(blob, expected, DOWNLOAD_AGAIN, source="the Hub announced")
    return None


def _discard(path: Path, repository: Path) -> None:
    """Remove a file of the cache and the blob it points to; a cache that cannot be written keeps them.

    Others may be able to write into the cache: a link in it must not make us remove files elsewhere.

    Raises:
        WeightsError: a folder of the cache is a link that leads out of it; nothing is removed.
    """
    require_inside(path.parent, repository)
    with suppress(OSError):
        blob = path.resolve()
        path.unlink(missing_ok=True)  # of a link the link itself
        if blob.parent == _home(repository) / "blobs":
            blob.unlink(missing_ok=True)


def require_inside(folder: Path, repository: Path) -> None:
    """Make sure that a folder of the cache lies in it, whatever links there are.

    Raises:
        WeightsError: it lies elsewhere.
    """
    if not folder.resolve().is_relative_to(_home(repository)):
        raise WeightsError(
            f"{folder} is a link that leads out of the cache, so nothing there was used, written or removed. "
            "Remove the link, or set ANATOZOO_HOME to a folder that is yours alone."
        )


def _home(repository: Path) -> Path:
    """Where a repository's folder has to lie: the cache itself may be a link, nothing below it."""
    return repository.parent.resolve() / repository.name


def _leads_out(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    return ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name) is not None or "\0" in name
