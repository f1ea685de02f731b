"""What goes wrong between here and the Hub, each case as one sentence that says what to do."""

import os
from types import MappingProxyType

from anatozoo.errors import AnatozooError, DownloadError, OfflineMiss

ELSEWHERE = (
    "or get the weights elsewhere by `anatozoo download NAME --to DIR`, copy DIR here and set "
    "ANATOZOO_HOME=DIR"
)
_STATUS = MappingProxyType(
    {
        401: "{page} refuses this token (401): check HF_TOKEN and its rights.",
        403: "{page} refuses this token (403): check HF_TOKEN and its rights.",
        429: "{hub} is overloaded (429): wait a minute, or set HF_TOKEN.",
    }
)


def endpoint() -> str:
    """The Hub or its mirror, from the environment as it is now: huggingface_hub looks only when imported."""
    from huggingface_hub import constants

    # An empty variable counts as none, as it does for huggingface_hub.
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def client_errors() -> tuple[type[Exception], ...]:
    """Whatever the Hub's client raises because of the network or the Hub's answer."""
    # HTTPError is the transport's own base class: httpx or httpx2, as huggingface_hub chooses.
    from huggingface_hub import errors

    return (
        errors.HfHubHTTPError,
        errors.HFValidationError,
        errors.OfflineModeIsEnabled,
        errors.HTTPError,  # type: ignore[attr-defined]
        _invalid_url(),
    )


def _invalid_url() -> type[Exception]:
    """The transport's complaint about an address that is none, which is not an HTTPError."""
    from importlib import import_module

    from huggingface_hub import errors

    transport = import_module(errors.HTTPError.__module__.partition(".")[0])  # type: ignore[attr-defined]
    found: type[Exception] = transport.InvalidURL
    return found


def is_timeout(error: BaseException) -> bool:
    """Whether the transport gave up waiting; by name, for it is httpx or httpx2."""
    return any(kind.__name__ == "TimeoutException" for kind in type(error).__mro__)


def has_no_connection(error: BaseException) -> bool:
    """Whether nobody was reached at all: no network, no such host, nobody listening, a proxy that refuses."""
    names = {"ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"}
    return any(kind.__name__ in names for kind in type(error).__mro__)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, None where no answer came."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def translated(error: Exception, repo_id: str, revision: str, name: str) -> AnatozooError:
    """The sentence for an error of the client while it fetched a file.

    Args:
        error: one of `client_errors`.
        repo_id: ``"organisation/name"``.
        revision: full commit.
        name: file in the repository.
    """
    from huggingface_hub import errors

    page = f"{endpoint()}/{repo_id}"
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(f"{page} is gated: accept its terms there, then set HF_TOKEN to your token.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadError(f"{page} does not exist or is private: check the name, or set HF_TOKEN.")
    if isinstance(error, errors.RevisionNotFoundError):
        return DownloadError(f"{page} has no commit {revision}: check the 40 digits.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return DownloadError(f"{page} has no {name} at commit {revision}: it is not an anatozoo checkpoint.")
    if isinstance(error, errors.HFValidationError):
        return DownloadError(f"{repo_id!r} is not a repository name: write organisation/name.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return OfflineMiss(f"HF_HUB_OFFLINE forbids to ask {page} for {name}: unset it, {ELSEWHERE}.")
    status = status_of(error)
    if status is not None and status in _STATUS:
        return DownloadError(_STATUS[status].format(page=page, hub=endpoint()))
    if status == 404:
        return no_hub()
    if status is not None:
        return DownloadError(f"{endpoint()} answered {status} for {name}: try again later.")
    if is_timeout(error) and not has_no_connection(error):
        return DownloadError(
            f"{endpoint()} does not answer in time: try again later, allow it more seconds by "
            f"HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT, {ELSEWHERE}."
        )
    if has_no_connection(error) or isinstance(error, _invalid_url()):
        return DownloadError(
            f"cannot reach {endpoint()}: check the network, the proxy and HF_ENDPOINT, {ELSEWHERE}."
        )
    return DownloadError(f"the connection to {endpoint()} breaks while {name} comes: try again, {ELSEWHERE}.")


def no_hub() -> DownloadError:
    """The sentence for an address where something answers that is no Hub."""
    return DownloadError(
        f"{endpoint()} answers, but not as a Hugging Face Hub does: check HF_ENDPOINT, and whether a proxy "
        f"or the log-in page of a network answers in its place, {ELSEWHERE}."
    )
