"""What a type alone does not say about a value of the manifest, for `Annotated`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """Rule of a text: it matches a pattern; messages call it `what`."""

    pattern: str
    what: str


@dataclass(frozen=True)
class Least:
    """Rule of a number or of the length of a list."""

    least: int


class Misfit(ValueError):
    """Raised by a record whose values do not fit one another.

    Args:
        message: what is wrong, a sentence.
        *keys: where in the record the wrong value is.
    """

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys
