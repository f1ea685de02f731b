"""What runs over single files share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import ClassVar

from anatozoo.errors import ConfigError
from anatozoo.serve.groups import group_texts, with_groups
from anatozoo.serve.inputs import Found, parts_of
from anatozoo.serve.manifest import Layout, Row
from anatozoo.serve.naming import assign_stems
from anatozoo.serve.plan import Job, MaskOptions, ReadOptions, fingerprint
from anatozoo.serve.tasks import Item, Model, Result, Task, facts_of, names_of


class FileTask(Task[Path, Item, Result]):
    """A run whose inputs are files, or folders of DICOM series.

    Args:
        models: the checkpoints that compute, in this order.
        found: the files.
        options: how they are read.
    """

    layout: ClassVar[Layout] = Layout(details=("models",))
    ending: ClassVar[str] = ""
    """What the stems of the inputs' names lose."""

    def __init__(self, models: Sequence[Model], found: Found, options: ReadOptions | MaskOptions) -> None:
        self._models, self.found, self._facts = tuple(models), found, astuple(options)
        self._about: Callable[[Path], Mapping[str, str]] = lambda path: {}

    def add_groups(self) -> None:
        """Let the table also say the sex, age, view, modality and manufacturer of each image.

        They come from the headers of DICOM files, of images that fail too, and are what `anatozoo audit`
        groups by. They are no part of what makes an image done.

        Raises:
            ConfigError: the inputs are no radiographs.
        """
        if self.one != "image":
            raise ConfigError(f"groups are read from radiographs in DICOM, and these inputs are {self.one}s.")
        self.layout, self._about = with_groups(self.layout), group_texts  # type: ignore[misc]

    @property
    def models(self) -> tuple[Model, ...]:
        """The checkpoints that compute, in this order."""
        return self._models

    @property
    def more(self) -> dict[str, str]:
        """Details of every row."""
        return {"models": names_of(self.models)}

    @property
    def refused(self) -> Mapping[str, Row]:
        """Rows of arguments that led to no file."""
        return {
            file: Row(file, "failed", reason, more=self.more) for file, reason in self.found.missing.items()
        }

    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Path]]:
        """A job for each file."""
        known = {file: row.stem for file, row in earlier.items() if row.stem}
        stems = assign_stems(self.found.images, known, without=self.ending)
        first, *rest = self.models
        facts = [*facts_of(first), *self._facts, *(fact for m in rest for fact in facts_of(m))]
        parts = {path: parts_of(path) for path in self.found.images}
        return [
            Job(
                key=str(path),
                source=path,
                files=parts[path],
                stem=stems[path],
                names=tuple(self.formats.names(stems[path], formats)),
                fingerprint=fingerprint(parts[path], *facts),
                earlier=earlier.get(str(path)),
                more={**self.more, **self._about(path)},
            )
            for path in self.found.images
        ]
