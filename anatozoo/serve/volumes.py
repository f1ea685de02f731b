"""Segment volumes, and restore those with thick slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from anatozoo.errors import ConfigError, GeometryError, ImageError
from anatozoo.results.dicom_files import REPORT
from anatozoo.results.mesh import MeshResult
from anatozoo.results.restored import RestoredVolume
from anatozoo.results.volume import VolumeResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.heart_reports import HeartReport, is_of_two_volumes, write_heart_report
from anatozoo.serve.hearts import Heart, find_hearts, functions, has_ventricle
from anatozoo.serve.images import DIFFER
from anatozoo.serve.inputs import Found
from anatozoo.serve.manifest import Row
from anatozoo.serve.measured import MEASUREMENTS_NAME, Measured, joined
from anatozoo.serve.options import DEFAULT_OPTIONS, OptionError, ReadOptions
from anatozoo.serve.plan import Job
from anatozoo.serve.tasks import Predictor


class VolumeTask(FileTask[Path, Any]):
    """What is done with volumes in files, one file a volume, one after another.

    Args:
        model: a loaded checkpoint.
        found: the volumes.
        options: how they are read.

    Raises:
        OptionError: an option is not for volumes.
    """

    one: ClassVar[str] = "volume"
    accepts: ClassVar[tuple[str, ...]] = ("spacing_mm",)
    largest_batch: ClassVar[int | None] = 1

    def __init__(self, model: Predictor, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        super().__init__([model], found, options, axes=3)
        self.model = model

    def read(self, job: Job[Path]) -> Path:
        """Nothing: the model reads volumes itself, for it knows in what order their axes have to be."""
        return job.source

    def compute_one(self, item: Path) -> Any:
        """Do one volume."""
        return self.model.predict(item, spacing_mm=self.options.spacing_mm)

    def save(self, result: Any, job: Job[Path], folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write volume, picture and JSON, with the volume's name alone for its path."""
        with self.plotting:
            self.told(result, job).save(folder, formats, job.stem)
        return {}


class SegmentVolumes(VolumeTask):
    """Segment volumes."""

    done: ClassVar[tuple[str, ...]] = ("segmented",)
    measures: ClassVar[bool] = True
    doing: ClassVar[str] = "segmenting"
    alone: ClassVar[str] = (
        "{name} segments volumes, which are repaired in a run of their own: give the folder of these "
        "results to {then}."
    )
    formats = VolumeResult.formats

    def __init__(self, model: Predictor, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(model, found, options)
        self.hearts: Sequence[Heart] | None = None
        self._outputs: dict[str, tuple[str, ...]] = {}
        self._functions: list[tuple[Heart, Measured]] = []
        self._measured: Mapping[str, Measured] = {}
        if getattr(model, "votes", False):
            self.formats = VolumeResult.voted_formats
            self.layout = replace(self.layout, numbers=DIFFER)  # type: ignore[misc]

    def save(self, result: Any, job: Job[Path], folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write labels, picture and JSON; of ensembles the row also says how far the members differ."""
        row = super().save(result, job, folder, formats)
        return row | {name: f"{value:.6g}" for name, value in result.votes_row().items()}

    def set_hearts(self, hearts: Sequence[Heart]) -> None:
        """Say which volumes are which phase of a heart, where names and ``Info.cfg`` do not.

        Raises:
            OptionError: the model finds no ventricle.
        """
        if not has_ventricle(self.model.organs):
            raise OptionError("phases", f"is for hearts; {self.model.checkpoint_name} finds no ventricle.")
        self.hearts = hearts

    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Path]]:
        """A job for each volume."""
        self._outputs = {key: row.outputs for key, row in earlier.items()}
        return super().jobs(earlier, formats)

    def relate(self, measured: Mapping[str, Measured], earlier: Sequence[Measured]) -> list[Measured]:
        """Ejection fraction, stroke volume and mass of hearts with both phases."""
        self._measured = dict(measured)
        if not has_ventricle(getattr(self.model, "organs", ())):
            return super().relate(measured, earlier)
        hearts, notes = find_hearts(self.found.images) if self.hearts is None else (self.hearts, [])
        keys = {str(path): key for path, key in self._keys.items()}
        known = {
            (heart.ed, heart.es): heart
            for heart in (Heart(h.patient, keys.get(h.ed, h.ed), keys.get(h.es, h.es)) for h in hearts)
        }
        own = {key for pair in known for key in pair}
        # A run over one of the two phases of an earlier heart changes what follows from both.
        for each in earlier:
            parts = each.parts(measured)
            if len(parts) == 2 and own.isdisjoint(parts):
                known[parts[0], parts[1]] = Heart(each.patient, *parts)
        found, more = functions(known.values(), measured)
        function = {each.file: each for each in found}
        pairs = ((heart, function.get(joined(heart.ed, heart.es))) for heart in known.values())
        self._functions = [(heart, each) for heart, each in pairs if each is not None]
        done = (
            f"{len(found)} heart{'s' * (len(found) != 1)} with both phases: function in {MEASUREMENTS_NAME}."
        )
        self.notes = (*([done] if found else []), *notes, *more)
        return found

    def finish(self, folder: Path, rows: Sequence[Row]) -> None:
        """Put the function of hearts into the reports of end-diastole, and take it out of all others."""
        if not has_ventricle(getattr(self.model, "organs", ())):
            return
        paths = {key: path for path, key in self._keys.items()}
        outputs = self._outputs | {row.file: row.outputs for row in rows}
        reports = {
            key: folder / name for key, names in outputs.items() for name in names if name.endswith(REPORT)
        }
        wanted, notes = [], []
        for heart, function in self._functions:
            report, ed, es = reports.pop(heart.ed, None), paths.get(heart.ed), paths.get(heart.es)
            if report is None:
                continue
            if ed is None or es is None:
                notes.append(
                    f"{heart.patient}: {report.name} does not hold this function; give both phases at once."
                )
                continue
            wanted.append((heart.patient, HeartReport(report, ed, self._measured[heart.ed], es, function)))
        for key, report in reports.items():
            path = paths.get(key)
            if path is None or key not in self._measured or not report.is_file():
                continue
            if is_of_two_volumes(report, len(self.parts(path))):
                wanted.append((key, HeartReport(report, path, self._measured[key])))
        about = (self.model.checkpoint_name, self.model.checkpoint_version, self.model.organs)
        for name, each in wanted:
            try:
                write_heart_report(each, *about, keep_patient=self._keep_patient)
            except (ImageError, GeometryError, ConfigError) as error:
                notes.append(f"{name}: {each.path.name} does not hold this function: {error}")
        self.notes = (*self.notes, *notes)


class FindMeshes(SegmentVolumes):
    """Find the surfaces of hearts in stacks of images."""

    done: ClassVar[tuple[str, ...]] = ("found",)
    doing: ClassVar[str] = "finding surfaces"
    alone: ClassVar[str] = "{name} finds surfaces, which need no repair; leave {then} out."
    formats = MeshResult.formats

    def save(self, result: Any, job: Job[Path], folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write surfaces, labels, picture and JSON."""
        return VolumeTask.save(self, result, job, folder, formats)


class RestoreVolumes(VolumeTask):
    """Make fine slices of thick ones."""

    done: ClassVar[tuple[str, ...]] = ("restored",)
    doing: ClassVar[str] = "restoring"
    alone: ClassVar[str] = "{name} restores volumes; only a segmentation can be followed."
    formats = RestoredVolume.formats
