"""Put the function of a heart, which takes both phases, into the structured report of its end-diastole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import GeometryError
from anatozoo.io.writers import write_bytes
from anatozoo.metrics.measurements import Measurement
from anatozoo.serve.measured import Measured

if TYPE_CHECKING:
    from anatozoo.io.dicom_out.reference import Reference


@dataclass(frozen=True)
class HeartReport:
    """A report of end-diastole.

    Attributes:
        path: the file, which a run has written.
        ed: the volume at end-diastole, a DICOM file or a folder of a series.
        es: the volume at end-systole.
        measured: of the volume at end-diastole alone.
        function: what follows from both; empty where nothing does.
    """

    path: Path
    ed: Path
    es: Path
    measured: Measured
    function: tuple[Measurement, ...]


def write_heart_report(
    wanted: HeartReport, name: str, version: str, organs: Sequence[str], *, keep_patient: bool
) -> None:
    """Write the report again, with the function; a file that says so already is left as it is.

    The measures of the function refer to the instances of both phases.

    Args:
        wanted: what it says.
        name: of the checkpoint.
        version: of the checkpoint.
        organs: its organs.
        keep_patient: whether the report holds the patient and the study.

    Raises:
        ImageError: a volume cannot be read any more.
        GeometryError: nothing can refer to it, or the phases are not of one study.
        OutputError: the file cannot be written.
    """
    from anatozoo.io.dicom_out.sr import report
    from anatozoo.io.dicom_out.stamp import Maker

    ed = _reference(wanted.ed, keep_patient)
    both = None
    if wanted.function:
        es = _reference(wanted.es, keep_patient)
        if es.source.study != ed.source.study:
            raise GeometryError("end-diastole and end-systole are of two studies, so no report is of both.")
        both = (es, wanted.function)
    maker = Maker(name, version, wanted.measured.flags)
    content = report(ed, maker, organs, wanted.measured.measurements, with_other=both)
    if not wanted.path.is_file() or wanted.path.read_bytes() != content:
        write_bytes(wanted.path, content)


def _reference(path: Path, keep_patient: bool) -> Reference:
    from anatozoo.io.dicom_out.reference import read_reference
    from anatozoo.io.dicom_volume import read_dicom_volume

    pixels: Any
    _, pixels, _, _, source = read_dicom_volume(path)
    return read_reference(replace(source, keep_patient=keep_patient), pixels.shape)
