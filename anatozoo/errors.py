"""Every error that anatozoo raises on purpose; the message says what to do next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anatozoo.text import printable


class AnatozooError(Exception):
    r"""Base class: catch this to catch every deliberate error of the package.

    Messages quote files, so what would command a terminal in them is shown as ``\uXXXX``.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class AnatozooWarning(UserWarning):
    """A use that works and is probably not meant; the message says what to do instead."""


class UnknownCheckpoint(AnatozooError):
    """No checkpoint of this name; the message lists close matches."""


class ManifestError(AnatozooError):
    """The manifest breaks its schema; the message names the line."""


class ChecksumMismatch(AnatozooError):
    """A file's size or SHA-256 differs from the manifest; both digests are named."""


class OfflineMiss(AnatozooError):
    """A file is neither bundled nor cached and the network may not be used."""


class DownloadError(AnatozooError):
    """The Hub could not deliver a file: no network, no such repository, gated, wrong token."""


class WeightsError(AnatozooError):
    """Tensors are missing, unexpected or misshapen; the message lists them."""


class ImageError(AnatozooError):
    """An image is unreadable, empty, corrupt or of a kind that the model does not take."""


class GeometryError(AnatozooError):
    """Sizes, spacings or coordinates contradict one another."""


class DataError(AnatozooError):
    """A data set's folder, split or annotation is not as documented."""


class ConfigError(AnatozooError):
    """A hyper-parameter or combination of them is not possible."""


class DivergedError(AnatozooError):
    """The weights of a fit are no longer numbers; the message names the step and what may help."""


class OutputError(AnatozooError):
    """A result cannot be written: no permission, disk full, name taken."""


class PublishError(AnatozooError):
    """The Hub did not take a checkpoint, or what it would replace is not ours to replace."""


@contextmanager
def turned_into(kind: type[AnatozooError], say: Callable[[str], str]) -> Iterator[None]:
    """Give what a library raises within an error of ours: of hostile input it fails in any way it likes.

    Args:
        kind: class of the error.
        say: its message, from the reason in one line.

    Raises:
        AnatozooError: of this class, for anything that is no `AnatozooError` yet.
    """
    try:
        yield
    except AnatozooError:
        raise
    except Exception as error:
        raise kind(say(" ".join(str(error).split()) or type(error).__name__)) from error
