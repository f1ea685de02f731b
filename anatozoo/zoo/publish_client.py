"""The Hub's client while something is published: its errors as one sentence, and no bars."""

from collections.abc import Iterator
from contextlib import contextmanager

from anatozoo.errors import AnatozooError, ConfigError, PublishError
from anatozoo.zoo.refusals import client_errors, endpoint, has_no_connection, is_timeout, status_of

AGAIN = "run the same command again: what has arrived is not sent twice"


@contextmanager
def no_bars() -> Iterator[None]:
    """No bars while uploading: the client shows one for each file and one for all."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # Where the environment decides, it stays with that.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def sentences(repo_id: str) -> Iterator[None]:
    """Turn the client's errors into one sentence.

    Raises:
        PublishError: the Hub refuses, or cannot be reached.
        ConfigError: the repository's name is none, or the card's front matter is not what the Hub accepts.
    """
    try:
        yield
    except client_errors() as error:
        raise _translated(error, repo_id) from error
    except RuntimeError as error:
        # The client wraps what goes wrong with a large file.
        if not isinstance(error.__cause__, client_errors()):
            raise
        raise _translated(error.__cause__, repo_id) from error
    except ValueError as error:
        # The client's word for metadata that the Hub's own check of the card refuses.
        raise ConfigError(f"the Hub refuses the card: {' '.join(str(error).split())}") from error


def _translated(error: Exception, repo_id: str) -> AnatozooError:
    from huggingface_hub import errors

    page, status = f"{endpoint()}/{repo_id}", status_of(error)
    if isinstance(error, errors.HFValidationError):
        return ConfigError(f"--repo-id {repo_id!r} is not a name that the Hub accepts: {error}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return PublishError("HF_HUB_OFFLINE forbids to publish: unset it.")
    if status in (401, 403, 404):
        owner = repo_id.partition("/")[0]
        return PublishError(
            f"{page} may not be written with this token ({status}): set HF_TOKEN to one with the right to "
            f"write to {owner}, and check the name."
        )
    if status == 412:
        return PublishError(f"somebody else changed {page} at the same time: look at it, and {AGAIN}.")
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        said = " ".join(str(getattr(error, "server_message", None) or error).split())
        return PublishError(f"{page} refuses what was to be published ({status}): {said}")
    if status is not None:
        return PublishError(f"{endpoint()} answered {status}: wait a minute, and {AGAIN}.")
    if has_no_connection(error):
        return PublishError(
            f"cannot reach {endpoint()}: check the network, the proxy and HF_ENDPOINT, and {AGAIN}."
        )
    what = "does not answer in time" if is_timeout(error) else "broke the connection"
    return PublishError(f"{endpoint()} {what}: {AGAIN}.")
