"""What the page computes: an upload and a model give pictures, measurements, remarks and files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anatozoo.errors import AnatozooError, DataError, OutputError
from anatozoo.io.files import is_dicom
from anatozoo.metrics.measurements import Measurement
from anatozoo.page.pictures import PLOTTING
from anatozoo.results.base import Result
from anatozoo.results.quality import QualityResult
from anatozoo.serve.inputs import Found
from anatozoo.serve.measured import Measured, MeasuredWriter
from anatozoo.serve.options import ReadOptions
from anatozoo.serve.runner import task_for
from anatozoo.serve.tasks import Task, names_of
from anatozoo.service.models import Model, excuse, lay_out
from anatozoo.zoo.kinds import CONTOURS, VOLUME

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge

SAMPLES = 50
"""Samples of the latent code for the band of uncertainty."""
_BESIDE = ("png", "csv")
"""Formats beside the default ones; landmarks where a result has some."""
_DICOM = "dicomseg"
_LONGEST_NAME, _MOST_NAME_BYTES = 80, 160
"""Systems take names of 255 bytes; files of an answer add to it."""
_GZIPPED = re.compile(r"(\.nii)?\.gz$", re.IGNORECASE)
_VOLUME = (VOLUME.takes[0], 3)
_MOST_LABELS = 12
"""More values than that are grey levels."""


@dataclass(frozen=True)
class Upload:
    """What a user has sent, in memory.

    Attributes:
        name: what it is called, harmless as the name of a file.
        content: bytes of its files, one after another.
        ends: where each of them ends.
    """

    name: str
    content: bytes | bytearray = field(repr=False)
    ends: tuple[int, ...]

    @property
    def about(self) -> str:
        """Name and size in a few words."""
        files = f"{len(self.ends)} files, " if len(self.ends) > 1 else ""
        return f"{self.name} ({files}{size_words(len(self.content))})"


@dataclass(frozen=True)
class Choices:
    """What a user has chosen for a prediction.

    Attributes:
        band: whether samples tell how sure contours are, of models that can draw some.
        judged: whether the quality is estimated, where there is an atlas and a radiograph.
        spacing_mm: millimetres per pixel, None as the file says.
        invert: of radiographs, whether air is bright; None as the file says.
        allow_any_modality: of radiographs, whether DICOM of other kinds is taken.
        classes: of masks, names of the labels 1, 2, ...; None takes the model's organs.
    """

    band: bool = False
    judged: bool = False
    spacing_mm: tuple[float, ...] | None = None
    invert: bool | None = None
    allow_any_modality: bool = False
    classes: tuple[str, ...] | None = None

    def options(self, accepted: Sequence[str]) -> ReadOptions:
        """What of it a kind of run takes."""
        return ReadOptions(**{name: getattr(self, name) for name in accepted if hasattr(self, name)})


@dataclass(frozen=True)
class Answered:
    """What a model says of an upload.

    Attributes:
        model: its name and version.
        result: what it has found.
        measurements: of the result.
        flags: remarks on the result.
        quality: how good it may be; None where that was not asked for or not possible.
        notes: what could not be done, in sentences.
        files: the files that `anatozoo predict` would write, by name.
    """

    model: str
    result: Result
    measurements: tuple[Measurement, ...]
    flags: tuple[str, ...]
    quality: QualityResult | None
    notes: tuple[str, ...]
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, roughly."""
        parts: list[Any] = [self.result]
        if self.quality is not None:
            matches = self.quality.matches
            parts += [
                self.quality,
                *matches,
                *(m.registration for m in matches if m.registration is not None),
            ]
        return sum(map(len, self.files.values())) + sum(
            _nbytes(v) for part in parts for v in vars(part).values()
        )


def _nbytes(value: Any) -> int:
    """Memory of an array, or of those in a dictionary or tuple."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    each = value if isinstance(value, tuple) else (value,)
    return sum(array.nbytes for array in each if isinstance(array, np.ndarray))


def size_words(count: int) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"


def clean_name(name: str) -> str:
    """A name of a file without folders, without characters that mean something elsewhere, not hidden."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = re.sub(r"[^\w.\- ]+", "_", last).strip(" ._-")
    short = kept[:_LONGEST_NAME].encode("utf-8", "ignore")[:_MOST_NAME_BYTES].decode("utf-8", "ignore")
    return short or "upload"


def takes_of(upload: Upload) -> tuple[str, int]:
    """What an upload seems to be: ``"image"``, ``"mask"`` or ``"volume"``, and its dimensions.

    A file that cannot be read counts as an image; the model's own reader then says why.
    """
    if len(upload.ends) > 1:
        return _VOLUME
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            return _takes_of(lay_out(Path(folder), upload.content, upload.ends))
        except Exception:  # whatever is wrong with it, a model's reader says it better
            return "image", 2


def _takes_of(source: Path) -> tuple[str, int]:
    from anatozoo.io.raw import read_raw

    if is_dicom(source):
        from anatozoo.io.dicom_file import read_dicom
        from anatozoo.io.dicom_header import frames_of

        return _VOLUME if frames_of(read_dicom(source, stop_before_pixels=True)) > 1 else ("image", 2)
    values = np.asarray(read_raw(source)[1])
    if values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8:
        return "image", 2  # in colour
    dims = 3 if values.ndim == 3 else 2
    # A few values are enough to tell grey levels.
    some = np.unique(values.ravel()[:: max(1, values.size // 200_000)])
    # What is all alike, as an exposure that failed, is an image.
    if 1 < len(some) <= _MOST_LABELS and (some == np.rint(some)).all() and some.min() == 0:
        return "mask", dims
    return _VOLUME if dims == 3 else ("image", 2)


def can_sample(model: Model) -> bool:
    """Whether a model can say how sure its contours are."""
    return model.kind is CONTOURS and bool(getattr(model.model, "has_latent", False))


def can_be_judged(model: Model) -> bool:
    """Whether the quality of a model's segmentations can be estimated by an atlas."""
    return model.kind.segments


def answer(model: Model, upload: Upload, choices: Choices, judge: Judge | None = None) -> Answered:
    """Predict, measure, and write in memory what `anatozoo predict` would write.

    The upload is on disk while this runs, in a folder of its own under the system's for temporary files. Not
    to be called by two threads at a time with one model.

    Args:
        model: the model.
        upload: what it is to look at.
        choices: how.
        judge: what estimates the quality, where that is chosen.

    Raises:
        DataError: the upload cannot be answered; one sentence says why, without any path.
        OutputError: no file can be written.
    """
    network = model.model
    with _laid_out(upload) as (folder, source):
        _check_series(source, model)
        if choices.band and can_sample(model):
            network.samples = SAMPLES
        try:
            task = task_for(
                network,
                Found((source,), {}),
                folder / "out",
                options=choices.options(model.kind.job_class().accepts),
                judge=judge if choices.judged and can_be_judged(model) else None,
            )
            return _do(task, folder / "out")
        except Exception as error:  # one bad file never stops the page, whatever is wrong with it
            raise DataError(_without(folder, excuse(error, model.name, source)[1])) from error
        finally:
            if can_sample(model):
                network.samples = None


def _check_series(source: Path, model: Model) -> None:
    """Refuse several files that are no slices of one volume.

    Raises:
        DataError: one is no DICOM, or the model takes one image.
    """
    if not source.is_dir():
        return
    files = sorted(source.iterdir())
    other = [number for number, file in enumerate(files, start=1) if not is_dicom(file)]
    if other:
        raise DataError(
            f"several files are taken as the slices of one DICOM series, and number {other[0]} of these "
            f"{len(files)} is no DICOM; drop one picture at a time."
        )
    if _VOLUME[0] not in model.kind.takes:
        raise DataError(f"{model.name} takes one image, and these are {len(files)} files; drop one.")


@contextmanager
def _laid_out(upload: Upload) -> Iterator[tuple[Path, Path]]:
    """A folder, removed in the end, and in it what was sent.

    Raises:
        OutputError: it cannot be written.
    """
    with ExitStack() as stack:
        try:
            name = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            folder = Path(name).resolve()
            place = folder / "in"
            place.mkdir()
            source = lay_out(place, upload.content, upload.ends, _GZIPPED.sub("", upload.name) or "upload")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OutputError(
                f"the upload cannot be written to the folder for temporary files ({reason}); make room "
                "there, or start the page with another TMPDIR."
            ) from error
        yield folder, source


def _do(task: Task[Any, Any, Any], out: Path) -> Answered:
    """Do the one input of a run, as `anatozoo.serve.engine` does."""
    formats = task.formats
    chosen = tuple(name for name in formats.writers if name in (*formats.default, *_BESIDE))
    [job] = task.jobs({}, chosen)
    outcome = task.compute_one(task.read(job))
    result: Result = getattr(outcome, "result", outcome)
    if not getattr(result, "landmarks", {}):
        chosen = tuple(name for name in chosen if name != "csv")
    with PLOTTING:
        task.save(outcome, job, out, chosen)
    measured = tuple(task.measure(outcome))
    if task.measures and measured:
        name = names_of(task.models)
        table = MeasuredWriter(out, [Measured(job.key, name, measured, tuple(task.flags(outcome)))])
        table.finish([])
    reason = task.lacks(outcome)
    notes = [f"There is no estimate of the quality: {reason}"] if reason else []
    if result.dicom is not None and _DICOM in formats.writers:
        try:
            with PLOTTING:
                task.save(outcome, job, out, [_DICOM])
        except AnatozooError as error:
            notes.append(f"There is no DICOM segmentation: {_without(out.parent, str(error))}")
    files = {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}
    quality = getattr(outcome, "quality", None)
    return Answered(
        names_of(task.models), result, measured, tuple(task.flags(outcome)), quality, tuple(notes), files
    )


def _without(folder: Path, words: str) -> str:
    """A sentence on one line without the path of a folder."""
    return " ".join(words.split()).replace(f"{folder}/", "").replace(str(folder), "a temporary folder")
