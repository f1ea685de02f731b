"""Records that are stored as JSON files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from anatozoo.errors import DataError
from anatozoo.io.untrusted import read_json


def fault(error: Exception) -> str:
    """What reading stored values failed at, in words.

    Args:
        error: a `KeyError` of a key that is missing, or what a value of another type than expected raised.
    """
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else "a value has the wrong type"


class JsonRecord(ABC):
    """Base of what has a form in JSON values, and one file."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record from `to_dict`.

        Raises:
            DataError: the values are not such a record.
        """

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        from anatozoo.io.writers import write_json

        return write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: the file cannot be read or holds something else.
        """
        values = read_json(Path(path))
        try:
            return cls.from_dict(values)
        except DataError as error:
            raise DataError(f"{str(path)!r} cannot be read: {error}") from error
