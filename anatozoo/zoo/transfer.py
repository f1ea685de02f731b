"""One file from the Hub: what the Hub says about it, and its bytes, with patience for what passes.

The client's own download tries for half a minute before it says that there is no network, and gives a file
its final name before anybody compared it with the manifest. So its parts are used one by one: the question,
and the transfer that resumes.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from anatozoo.errors import AnatozooError, DownloadError
from anatozoo.version import __version__
from anatozoo.zoo.progress import Progress
from anatozoo.zoo.refusals import (
    client_errors,
    endpoint,
    has_no_connection,
    is_timeout,
    no_hub,
    status_of,
    translated,
)

PAUSES_S = (0.5, 1.0, 2.0)
"""Seconds before each new try."""
PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that may be different in a moment."""
ANSWER_S = 5.0
"""How long the Hub may think about a question, where HF_HUB_ETAG_TIMEOUT says nothing."""
_LONGEST_PAUSE_S = 30
_TOO_MUCH = 1 << 20
"""Bytes beyond the expected size after which no more are taken: a wrong server must not fill the disk."""

T = TypeVar("T")


@dataclass(frozen=True)
class Announced:
    """What the Hub says about a file before it sends it.

    Args:
        sha256: its SHA-256, None where the Hub does not tell (small text files).
        size: its bytes, None where the Hub does not tell.
        etag: the Hub's own name for its content.
    """

    sha256: str | None
    size: int | None
    etag: str


def ask(repo_id: str, revision: str, name: str) -> Announced:
    """Ask the Hub about a file at a commit.

    Raises:
        DownloadError: it is not there, not for us, or nobody answers.
        OfflineMiss: the environment forbids the network.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    timeout = float(constants.HF_HUB_ETAG_TIMEOUT) if "HF_HUB_ETAG_TIMEOUT" in os.environ else ANSWER_S

    def once() -> Announced:
        url = hf_hub_url(repo_id, name, revision=revision, endpoint=endpoint())
        found = get_hf_file_metadata(url, timeout=timeout, endpoint=endpoint(), headers=_headers())
        if found.commit_hash is None or found.etag is None:
            raise no_hub()
        if found.commit_hash != revision:
            raise DownloadError(
                f"{endpoint()}/{repo_id} answers with commit {found.commit_hash} where {revision} was asked "
                "for: it was not used; check HF_ENDPOINT."
            )
        sha256 = found.etag if re.fullmatch(r"[0-9a-f]{64}", found.etag) else None
        return Announced(sha256, found.size, found.etag)

    return _sentences(lambda: _patiently(once), repo_id, revision, name)


def receive(
    repo_id: str,
    revision: str,
    name: str,
    announced: Announced,
    part: BinaryIO,
    progress: Progress,
    *,
    most: int | None,
) -> None:
    """Write the bytes of a file; after a break the rest is asked for, not the whole.

    Args:
        repo_id: ``"organisation/name"``.
        revision: full commit.
        name: file in the repository.
        announced: the answer of `ask`.
        part: an empty file, which is short if this raises.
        progress: the one bar.
        most: bytes that are expected; of a file that is much longer only the beginning is taken.

    Raises:
        DownloadError: the connection broke again and again, or the Hub refuses.
        OfflineMiss: the environment forbids the network.
    """
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        hf_raise_for_status,
        http_stream_backoff,
    )

    url = hf_hub_url(repo_id, name, revision=revision, endpoint=endpoint())

    def once() -> None:
        start = part.tell()
        # The whole file may be here although the connection broke; the rest of it cannot be asked for.
        if start and start == announced.size:
            return
        rest = {"Range": f"bytes={start}-"} if start else {}
        with http_stream_backoff(
            "GET",
            url,
            headers={**_headers(), **rest},
            timeout=float(constants.HF_HUB_DOWNLOAD_TIMEOUT),
            # Patience is ours.
            retry_on_exceptions=(),
            retry_on_status_codes=(),
        ) as response:
            hf_raise_for_status(response)
            if start and response.status_code != 206:
                # The rest was asked for, the whole comes.
                part.seek(0)
                part.truncate()
                progress.move(-start)
            for chunk in response.iter_bytes():
                part.write(chunk)
                progress.move(len(chunk))
                if most is not None and part.tell() > most + _TOO_MUCH:
                    return

    _sentences(lambda: _patiently(once, part.tell), repo_id, revision, name)


def _patiently(action: Callable[[], T], position: Callable[[], int] = lambda: 0) -> T:
    """Try again after what may pass; what will not pass, or does not, is raised.

    Args:
        action: what to try.
        position: how far it came; as long as it comes further, no try counts as lost.
    """
    tries, furthest = 0, position()
    while True:
        try:
            return action()
        except client_errors() as error:
            tries, furthest = (0, position()) if position() > furthest else (tries, furthest)
            if tries >= _most_tries(error):
                raise
            time.sleep(max(PAUSES_S[tries], _asked_for(error)))
            tries += 1


def _most_tries(error: Exception) -> int:
    """How often it makes sense to try again."""
    status = status_of(error)
    if status is not None:
        return len(PAUSES_S) if status in PASSING else 0
    if type(error).__name__ == "ConnectTimeout" or not _is_transport(error):
        return 0
    # Where there is no network the answer comes at once, and will not be another one.
    return 1 if has_no_connection(error) or is_timeout(error) else len(PAUSES_S)


def _is_transport(error: Exception) -> bool:
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    return isinstance(error, HTTPError) and not isinstance(error, HfHubHTTPError)


def _asked_for(error: Exception) -> float:
    """Seconds that the Hub asks to wait, where it says so and it is not long."""
    response = getattr(error, "response", None)
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return float(text) if text.isdigit() and int(text) <= _LONGEST_PAUSE_S else 0.0


def _sentences(action: Callable[[], T], repo_id: str, revision: str, name: str) -> T:
    try:
        return action()
    except AnatozooError:
        raise
    except client_errors() as error:
        raise translated(error, repo_id, revision, name) from error


def _headers() -> dict[str, str]:
    """Who asks, and the token as the environment has it now."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers: dict[str, str] = build_hf_headers(library_name="anatozoo", library_version=__version__)
    # The file itself, not a packed form of it, so that its rest can be asked for.
    return {**headers, "Accept-Encoding": "identity"}
