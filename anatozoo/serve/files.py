"""What runs over single files share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from anatozoo.io.dicom_groups import read_uids
from anatozoo.results.dicom_files import DICOM_FORMATS
from anatozoo.serve.groups import group_texts, with_groups
from anatozoo.serve.inputs import Found, parts_of, root_of
from anatozoo.serve.manifest import Layout, Row
from anatozoo.serve.naming import assign_stems
from anatozoo.serve.options import ReadOptions
from anatozoo.serve.plan import Job, fingerprint
from anatozoo.serve.sources import (
    SOURCE,
    Input,
    assign_keys,
    content_digest,
    path_digest,
    source_of,
    source_text,
)
from anatozoo.serve.tasks import Item, Model, Result, Task, facts_of, names_of

UIDS = ("study_uid", "series_uid", "instance_uids")
"""Columns of UIDs."""


class FileTask(Task[Path, Item, Result]):
    """A run whose inputs are files, or folders of DICOM series.

    Args:
        models: the checkpoints that compute, in this order.
        found: the files.
        options: how they are read.
        axes: 2 or 3, of what is in them.

    Raises:
        OptionError: an option is not for this run.
    """

    layout: ClassVar[Layout] = Layout(details=("models", SOURCE))
    ending: ClassVar[str] = ""
    """What the stems of the inputs' names lose."""

    def __init__(self, models: Sequence[Model], found: Found, options: ReadOptions, axes: int) -> None:
        options.check(self.accepts, models[0].checkpoint_name, f"{self.one}s")
        self.models, self.found, self.options = tuple(models), found, options.for_axes(axes)
        self._keys: dict[Path, str] = {}
        self._about: Callable[[Path], Mapping[str, str]] = lambda path: {}
        self._keep_patient, self._uids = True, False

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The files that an input is made of: itself, or those of a DICOM series."""
        return parts_of(path)

    def add_groups(self) -> None:
        """Let the table also say the sex, age, view, modality and manufacturer of each image.

        They come from the headers of DICOM files, of images that fail too, and are what `anatozoo audit`
        groups by. They do not belong to what makes an image done.
        """
        self.layout, self._about = with_groups(self.layout), group_texts  # type: ignore[misc]

    def tell(self, *, keep_patient: bool = True, uids: bool = False) -> None:
        """Settle what results say of where their images came from.

        Args:
            keep_patient: whether DICOM objects hold the patient and the study as the source does.
            uids: whether the table and the JSON hold the UIDs of study, series and instances.
        """
        self._keep_patient, self._uids = keep_patient, uids
        if uids:
            layout = self.layout
            self.layout = replace(layout, details=(*layout.details, *UIDS))  # type: ignore[misc]

    def told(self, result: Any, job: Job[Path]) -> Any:
        """A result as it is saved: with its image's name alone for a path, and what `tell` settled."""
        dicom = result.dicom
        if dicom is not None:
            dicom = replace(dicom, keep_patient=self._keep_patient, show_uids=self._uids)
        return replace(result, image=job.source.name, dicom=dicom)

    @property
    def more(self) -> dict[str, str]:
        """Details of every row."""
        return {"models": names_of(self.models)}

    @property
    def refused(self) -> Mapping[str, Row]:
        """Rows of arguments that led to no file."""
        rows = {}
        for file, reason in self.found.missing.items():
            key = self._keys[Path(file)]
            more = {**self.more, SOURCE: source_text(path_digest(file), "")}
            rows[key] = Row(key, "failed", reason, more=more)
        return rows

    def identify(self, job: Job[Path]) -> dict[str, str]:
        """Digests of path and content, and UIDs where they are asked for."""
        files = self.parts(job.source)
        found = {SOURCE: source_text(path_digest(job.source), content_digest(files))}
        if self._uids:
            found |= {name: ";".join(uids) for name, uids in zip(UIDS, read_uids(files), strict=True)}
        return found

    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Path]]:
        """A job for each file.

        Raises:
            ConfigError: a format needs a package that is not installed.
        """
        if set(formats) & set(DICOM_FORMATS):
            from anatozoo.io.dicom_out.stamp import needs_highdicom

            needs_highdicom()
        roots, missing = self.found.roots, map(Path, self.found.missing)
        parts = {path: self.parts(path) for path in self.found.images}
        inputs = [Input(path, roots.get(path, path.parent), files) for path, files in parts.items()]
        inputs += [Input(path, root_of(path.parent), ()) for path in missing if path not in parts]
        keys = self._keys = assign_keys(inputs, earlier)
        known = {key: row.stem for key, row in earlier.items() if row.stem}
        stems = assign_stems(self.found.images, known, without=self.ending, keys=keys)
        first, *rest = self.models
        facts = [
            *facts_of(first),
            *self.options.facts(self.accepts),
            *(fact for m in rest for fact in facts_of(m)),
            *([] if self._keep_patient else ["without patient"]),
            *(["uids"] if self._uids else []),
        ]
        return [
            Job(
                key=keys[path],
                source=path,
                files=parts[path],
                stem=stems[path],
                names=tuple(self.formats.names(stems[path], formats)),
                fingerprint=fingerprint(parts[path], *facts),
                earlier=earlier.get(keys[path]),
                more={**self.more, **self._source(path, earlier.get(keys[path])), **self._about(path)},
                root=roots.get(path, path.parent),
            )
            for path in self.found.images
        ]

    def _source(self, path: Path, earlier: Row | None) -> dict[str, str]:
        """The digests as far as they are known without reading the input."""
        content = source_of(earlier)[1] if earlier is not None else ""
        return {SOURCE: source_text(path_digest(path), content)}
