"""Files from the Hugging Face Hub, pinned to a commit; every failure becomes one sentence."""

import errno
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from anatozoo.errors import AnatozooError, ChecksumMismatch, DownloadError, OfflineMiss, OutputError
from anatozoo.zoo.files import fingerprint, verify_file
from anatozoo.zoo.spec import FileRecord

DOWNLOAD_AGAIN = "Load again; if it happens again, the file on the Hub is not the right one."


def cached_file(repo_id: str, revision: str, name: str, cache: Path) -> Path | None:
    """A file in the cache, None where it is not there; reaches no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, name, cache_dir=cache, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch_file(
    repo_id: str, revision: str, name: str, cache: Path, *, expected: FileRecord | None, offline: bool
) -> Path:
    """A verified file of a repository: from the cache without a request, else from the Hub.

    Args:
        repo_id: ``"organisation/name"``.
        revision: full commit.
        name: file in the repository.
        cache: root of the cache, in huggingface_hub's layout.
        expected: the manifest's record. Without one the Hub's own SHA-256 is checked, where it gives one.
        offline: never reach the network.

    Raises:
        OfflineMiss: it is not cached and the network may not be used.
        DownloadError: the Hub did not deliver it.
        ChecksumMismatch: twice in a row not the expected bytes; nothing is kept.
        OutputError: the cache cannot be written.
    """
    for last in (False, True):
        path = cached_file(repo_id, revision, name, cache)
        path = path or _download(repo_id, revision, name, cache, offline)
        try:
            if expected is not None:
                verify_file(path, expected, DOWNLOAD_AGAIN)
            else:
                _verify_blob(path)
            return path
        except ChecksumMismatch:
            _discard(path)
            # Offline there is no second try: the cached file was all there is.
            if last or offline:
                raise
    raise AssertionError("unreachable: the loop returns or raises")


def _download(repo_id: str, revision: str, name: str, cache: Path, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download

    # HTTPError is the transport's own base class: httpx or httpx2, as huggingface_hub chooses.
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    import anatozoo

    if offline:
        raise OfflineMiss(offline_message(repo_id, revision, name, cache))
    try:
        return Path(
            hf_hub_download(
                repo_id,
                name,
                revision=revision,
                cache_dir=cache,
                endpoint=_endpoint(),
                library_name="anatozoo",
                library_version=anatozoo.__version__,
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, HTTPError) as error:
        raise _translated(error, repo_id, revision, name) from error
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        advice = "Set ANATOZOO_HOME to another folder."
        raise OutputError(f"cannot store {name} in {cache}: {reason}. {advice}") from error


def _translated(error: Exception, repo_id: str, revision: str, name: str) -> AnatozooError:
    from huggingface_hub import errors

    page = f"{_endpoint()}/{repo_id}"
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(f"{page} is gated: accept its terms there, then set HF_TOKEN to your token.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadError(f"{page} does not exist or is private: check the name, or set HF_TOKEN.")
    if isinstance(error, errors.RevisionNotFoundError):
        return DownloadError(f"{page} has no commit {revision}: check the 40 digits.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return DownloadError(f"{page} has no {name} at commit {revision}: it is no anatozoo checkpoint.")
    if isinstance(error, errors.HFValidationError):
        return DownloadError(f"{repo_id!r} is no repository name: write organisation/name.")
    # A refusal without the Hub's own code arrives as "not in the cache", the refusal being its cause.
    responses = (getattr(e, "response", None) for e in (error, error.__cause__))
    status = next((response.status_code for response in responses if response is not None), None)
    if status in (401, 403):
        return DownloadError(f"{page} refuses this token ({status}): check HF_TOKEN and its rights.")
    if status == 429:
        return DownloadError(f"{_endpoint()} is overloaded (429): wait a minute, or set HF_TOKEN.")
    if status is not None:
        return DownloadError(f"{_endpoint()} answered {status} for {name}: try again later.")
    return DownloadError(
        f"cannot reach {_endpoint()}: check the network, the proxy and HF_ENDPOINT, or get the weights "
        "elsewhere by `anatozoo download NAME --to DIR`, copy DIR here and set ANATOZOO_HOME=DIR."
    )


def _endpoint() -> str:
    """The Hub or its mirror, from the environment as it is now: huggingface_hub looks only when imported."""
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def offline_message(repo_id: str, revision: str, name: str, cache: Path) -> str:
    """What to do where a file is not cached and the network may not be used."""
    return (
        f"{name} of {repo_id} at commit {revision} is not in {cache}, and the network may not be used "
        "(offline=True or HF_HUB_OFFLINE=1). On a machine with a network run "
        "`anatozoo download NAME --to DIR`, copy DIR here and set ANATOZOO_HOME=DIR."
    )


def _verify_blob(path: Path) -> None:
    """The Hub names a large file's blob by its SHA-256, so even without a manifest it can be checked."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        verify_file(blob, FileRecord(blob.name, blob.stat().st_size), DOWNLOAD_AGAIN)


def _discard(path: Path) -> None:
    """Remove a file of the cache and the blob it points to; a cache that cannot be written keeps them."""
    with suppress(OSError):
        blob = path.resolve()
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)


def matches(folder: Path, files: Mapping[str, FileRecord]) -> bool:
    """Whether a folder holds exactly these bytes under these names."""
    return all((folder / n).is_file() and fingerprint(folder / n) == record for n, record in files.items())
