"""Put the function of a heart, which takes both phases, into the structured report of its end-diastole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import AnatozooError, GeometryError, ImageError
from anatozoo.io.writers import write_bytes
from anatozoo.serve.measured import Measured

if TYPE_CHECKING:
    from anatozoo.io.dicom_out.reference import Reference


@dataclass(frozen=True)
class HeartReport:
    """A report of one phase.

    Attributes:
        path: the file, which a run has written.
        own: the volume of that phase, a DICOM file or a folder of a series.
        measured: of that volume alone.
        other: the volume of the other phase; None where nothing follows from both.
        function: what does.
    """

    path: Path
    own: Path
    measured: Measured
    other: Path | None = None
    function: Measured | None = None


def write_heart_report(
    wanted: HeartReport, name: str, version: str, organs: Sequence[str], *, keep_patient: bool
) -> None:
    """Write the report again; a file that says so already is left as it is.

    The measures of the function refer to the instances of both phases, and its flags are remarks.

    Args:
        wanted: what it says.
        name: of the checkpoint.
        version: of the checkpoint.
        organs: its organs.
        keep_patient: whether the report holds the patient and the study.

    Raises:
        ImageError: a volume cannot be read any more.
        GeometryError: nothing can refer to it, or the phases are not of one study. If it is the other phase
            that fails, the report is written without a function before, so that none of before stays.
        ConfigError: highdicom is not installed.
        OutputError: the file cannot be written.
    """
    from anatozoo.io.dicom_out.sr import report
    from anatozoo.io.dicom_out.stamp import Maker, needs_highdicom

    needs_highdicom()
    own, flags, both = _reference(wanted.own, keep_patient), wanted.measured.flags, None
    failure: AnatozooError | None = None
    if wanted.other is not None and wanted.function is not None:
        try:
            other = _reference(wanted.other, keep_patient)
            if other.source.study != own.source.study:
                raise GeometryError("the phases are of two studies, so that no report can be of both.")
            flags = tuple(dict.fromkeys((*flags, *wanted.function.flags)))
            both = (other, wanted.function.measurements)
        except (ImageError, GeometryError) as error:
            failure = error
    numbers = wanted.measured.measurements
    content = report(own, Maker(name, version, flags), organs, numbers, with_other=both)
    if not wanted.path.is_file() or wanted.path.read_bytes() != content:
        write_bytes(wanted.path, content)
    if failure is not None:
        raise failure


def is_of_two_volumes(report: Path, files: int) -> bool:
    """Whether a report refers to more instances than its volume has files; also where it is damaged."""
    from anatozoo.io.dicom_file import read_dicom

    try:
        studies = read_dicom(report).CurrentRequestedProcedureEvidenceSequence
        series = [each for study in studies for each in study.ReferencedSeriesSequence]
        return sum(len(each.ReferencedSOPSequence) for each in series) > files
    except Exception:  # whatever is wrong with it, it is written anew
        return True


def _reference(path: Path, keep_patient: bool) -> Reference:
    from anatozoo.io.dicom_out.reference import read_reference
    from anatozoo.io.dicom_volume import read_dicom_volume

    pixels: Any
    _, pixels, _, _, source = read_dicom_volume(path)
    return read_reference(replace(source, keep_patient=keep_patient), pixels.shape)
