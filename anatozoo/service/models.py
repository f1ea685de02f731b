"""What the computing process of a service does: load models, and answer files in a format."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from anatozoo.errors import AnatozooError, ConfigError, OutputError
from anatozoo.io.untrusted import GZIP_MAGIC
from anatozoo.results.base import write_labels
from anatozoo.serve.inputs import Found
from anatozoo.serve.options import ReadOptions
from anatozoo.serve.tasks import Task, dims_of, kind_of
from anatozoo.zoo.kinds import SCORES, Kind

UPLOAD = "upload"
"""What every file is called, whatever its sender calls it."""
JSON, OVERLAY, MASK = "json", "overlay", "mask"
MEDIA_TYPES = {
    ".json": "application/json",
    ".png": "image/png",
    ".csv": "text/csv; charset=utf-8",
    ".dcm": "application/dicom",
    ".gz": "application/gzip",
}
"""Media types of answers, by the last suffix of their names; others are bytes."""


@dataclass(frozen=True)
class Answer:
    """What a client gets.

    Attributes:
        status: of HTTP.
        name: file name of the content.
        body: the content; of an error one sentence.
    """

    status: int
    name: str
    body: bytes

    @property
    def media_type(self) -> str:
        """Of the content."""
        return MEDIA_TYPES.get(Path(self.name).suffix, "application/octet-stream")


def check_kind(kind: Kind, name: str) -> None:
    """Refuse checkpoints that take anything but one image, volume or mask.

    Raises:
        ConfigError: it is one.
    """
    if kind.job is None or len(kind.takes) != 1:
        raise ConfigError(
            f"{name} takes {' and '.join(kind.takes)}; only models of single images, volumes and masks "
            "answer here. Leave it out of --models."
        )


class Model:
    """A loaded checkpoint that answers files.

    Args:
        model: the checkpoint.

    Raises:
        ConfigError: it takes no single files.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.kind, self.name = model, kind_of(model), str(model.checkpoint_name)
        check_kind(self.kind, self.name)
        self.axes = dims_of(model)

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON values: name, version, what it takes, organs and formats of answers."""
        found = {name: files for name, files in self.task().formats.endings.items() if len(files) == 1}
        return {
            "name": self.name,
            "version": str(self.model.checkpoint_version),
            "kind": self.kind.name,
            "takes": self.kind.takes[0],
            "axes": self.axes,
            "organs": list(getattr(self.model, "organs", ())),
            "formats": list(dict.fromkeys([JSON, OVERLAY, *[MASK] * (self.kind is not SCORES), *found])),
        }

    def task(self, options: Mapping[str, Any] | None = None) -> Task[Any, Any, Any]:
        """The run over files that the command line would make of these options, without any files.

        Raises:
            ConfigError: an option is not for this model.
        """
        task: Task[Any, Any, Any] = self.kind.job_class()(
            self.model, Found((), {}), ReadOptions(**options or {})
        )
        return task

    def answer(self, content: Any, ends: Sequence[int], form: str, options: Mapping[str, Any]) -> Answer:
        """Answer one request; whatever is wrong with it, there is an answer.

        Args:
            content: bytes of its files, one after another.
            ends: where each of them ends.
            form: format of the answer.
            options: of `ReadOptions`.
        """
        with _scratch() as folder:
            source = lay_out(folder, content, ends)
            try:
                result = self.model.predict(source, **self._given(options))
                name, body = _render(result, form, folder)
                return Answer(200, name, body)
            except Exception as error:  # one bad file never stops the service, whatever is wrong with it
                return _refused(*excuse(error, self.name, source))

    def _given(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are not the default, as arguments of ``predict``."""
        task: Any = self.task(options)
        values = {option: getattr(task.options, option.name) for option in fields(ReadOptions)}
        return {option.name: value for option, value in values.items() if value != option.default}


def load_models(names: Sequence[str], device: str, load: Callable[..., Any]) -> dict[str, Model]:
    """Load checkpoints; by name.

    Raises:
        AnatozooError: one cannot be loaded or takes no single files, or two have one name.
    """
    models: dict[str, Model] = {}
    for name in names:
        model = Model(load(name, device=device, trainable=False))
        if model.name in models:
            raise ConfigError(f"two of the models are called {model.name}; give one of them another name.")
        models[model.name] = model
    return models


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that is removed, in which readers make their temporary files too."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        tempfile.tempdir = name
        try:
            yield Path(name)
        finally:
            tempfile.tempdir = before


def lay_out(folder: Path, content: Any, ends: Sequence[int], name: str = UPLOAD) -> Path:
    """Write the files of a request.

    Args:
        folder: where.
        content: their bytes, one after another.
        ends: where each of them ends.
        name: what the file is to be called, without the suffix of gzipped NIfTI.

    Returns:
        The file; of several, the folder of a series.
    """
    view, start = memoryview(content), 0
    # Of all formats that are read, gzipped NIfTI alone is told by its name.
    source = folder / (f"{name}.nii.gz" if view[:2] == GZIP_MAGIC and len(ends) == 1 else name)
    if len(ends) > 1:
        source.mkdir()
    for number, end in enumerate(ends, start=1):
        # By this suffix a series takes each of them, so that what is no DICOM is not passed over.
        path = source if len(ends) == 1 else source / f"{number:05d}.dcm"
        path.write_bytes(view[start:end])
        start = end
    return source


def _render(result: Any, form: str, folder: Path) -> tuple[str, bytes]:
    """File name and content of a result in a format."""
    if form == JSON:
        values = result.to_dict()
        if "image" in values:
            values["image"] = UPLOAD
        return f"{UPLOAD}.json", json.dumps(values, allow_nan=False).encode("ascii")
    if form == OVERLAY:
        return f"{UPLOAD}_overlay.png", result._repr_png_()
    out = folder / "out"
    if form == MASK and getattr(result, "mask", None) is not None and result.mask.ndim == 2:
        out.mkdir()
        path = write_labels(result, out / f"{UPLOAD}_mask.png")
    else:
        [path] = result.save(out, ["nifti" if form == MASK else form], UPLOAD)
    return path.name, path.read_bytes()


def _refused(status: int, sentence: str) -> Answer:
    return Answer(status, "error.json", json.dumps({"error": sentence}).encode("ascii"))


def excuse(error: Exception, name: str, source: Path) -> tuple[int, str]:
    """What to say of a file that could not be answered.

    Args:
        error: what happened.
        name: of the model.
        source: the file or folder that `lay_out` made, of which nothing is said.

    Returns:
        The status of HTTP, and one sentence.
    """
    if isinstance(error, AnatozooError):
        # A full disk is not the client's fault.
        return 500 if isinstance(error, OutputError) else 422, _anonymous(error, source)
    if isinstance(error, MemoryError):
        return 500, "there is not enough memory for this file; shrink it first."
    return 500, f"{name} failed on this file ({_place(error)}); please report it."


def _anonymous(error: AnatozooError, source: Path) -> str:
    """The sentence of an error, without the path of the temporary file."""
    words = " ".join(str(error).split())
    paths = {str(path): f"file {number}" for number, path in enumerate(sorted(source.glob("*")), start=1)}
    for path, name in {**paths, str(source): "the series" if paths else "the file"}.items():
        words = words.replace(repr(path), name).replace(path, name)
    return words.replace(str(source.parent), "a temporary folder")


def _place(error: Exception) -> str:
    """Class of an error and where it came from; its text may quote the file."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f", {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
    return f"{type(error).__name__}{where}"
