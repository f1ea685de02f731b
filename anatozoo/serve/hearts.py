"""Which two volumes are one heart at end-diastole and at end-systole, and what follows from both."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatozoo.data.layouts.acdc import read_info
from anatozoo.errors import DataError
from anatozoo.io.files import without_suffix
from anatozoo.io.tables import read_records
from anatozoo.metrics.cardiac import VENTRICLES, function_of_volumes
from anatozoo.serve.measured import Measured, joined

COLUMNS = ("patient", "ed", "es")
INFO = "Info.cfg"
_FRAME = re.compile(r"(?P<patient>.+)_frame(?P<number>\d+)", re.IGNORECASE)
_PHASE = re.compile(r"(?:^|(?<=[_. -]))(ed|es)(?=[_. -]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Heart:
    """The volumes of one patient.

    Attributes:
        patient: the name.
        ed: path, or in tables the key, of the volume at end-diastole.
        es: that of the volume at end-systole.
    """

    patient: str
    ed: str
    es: str


def read_phases(path: str | os.PathLike[str]) -> list[Heart]:
    """Read a table of hearts: a CSV file with the columns ``patient``, ``ed`` and ``es``, in any order.

    Paths are relative to the folder of the table.

    Raises:
        DataError: the file cannot be read, has other columns or no line below them, a field is empty, or a
            patient or a volume is there twice.
    """
    file = Path(os.path.abspath(os.path.expanduser(os.fspath(path))))
    header, *lines = read_records(file).records or [(1, [])]
    columns = [text.strip().lower() for text in header[1]]
    if sorted(columns) != sorted(COLUMNS) or not lines:
        raise DataError(f"{str(file)!r} needs the columns {', '.join(COLUMNS)}, no others, and a line below.")
    hearts, seen = [], dict[str, int]()
    for number, fields in lines:
        given = dict(zip(columns, (text.strip() for text in fields), strict=False))
        if len(fields) != len(columns) or not all(given.values()) or "\0" in "".join(fields):
            raise DataError(f"{str(file)!r}, line {number}: write a patient and two volumes into each line.")
        ed, es = (os.path.abspath(file.parent / os.path.expanduser(given[key])) for key in ("ed", "es"))
        for what in (f"the patient {given['patient']!r}", f"the volume {ed!r}", f"the volume {es!r}"):
            if what in seen:
                raise DataError(f"{str(file)!r}, line {number}: {what} is in line {seen[what]} already.")
            seen[what] = number
        hearts.append(Heart(given["patient"], ed, es))
    return hearts


def find_hearts(paths: Sequence[Path]) -> tuple[list[Heart], list[str]]:
    """Pair volumes of which something says which phase they are; nothing is guessed from volumes.

    What says it is ACDC's ``Info.cfg`` beside ``NAME_frameNN.nii.gz``, or else a part ``ED`` or ``ES`` of the
    names of two volumes, between underscores, hyphens, points or blanks, whose names agree otherwise; where
    nothing else is left of them, the folder's name is the patient's.

    Args:
        paths: absolute paths of volumes, files or folders of a series.

    Returns:
        The hearts, and why others are not paired, a sentence each.
    """
    phases: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    infos: dict[Path, dict[str, str]] = {}
    frames: Counter[tuple[Path, str]] = Counter()
    notes = []
    for path in paths:
        stem, folder = without_suffix(path.name), path.parent
        frame = _FRAME.fullmatch(stem)
        if frame and folder not in infos:
            try:
                infos[folder] = read_info(folder / INFO)
            except DataError as error:
                infos[folder] = {}
                notes.append(str(error))
        if frame and (phase := _phase_of(int(frame["number"]), infos[folder])):
            phases[folder, frame["patient"]][phase].append(path)
        elif frame and not infos[folder]:
            frames[folder, frame["patient"]] += 1
        elif len(found := list(_PHASE.finditer(stem))) == 1:
            [part] = found
            rest = (stem[: part.start()].rstrip("_. -") + stem[part.end() :]).strip("_. -")
            phases[folder, rest or folder.name][part[1].lower()].append(path)
    hearts = []
    for (_, patient), each in phases.items():
        if many := [phase for phase, files in each.items() if len(files) > 1]:
            count = len(each[many[0]])
            notes.append(f"{patient}: {count} volumes are called {many[0].upper()}, so none was paired.")
        elif len(each) == 2:
            hearts.append(Heart(patient, str(each["ed"][0]), str(each["es"][0])))
    for (_, patient), count in frames.items():
        if count > 1:
            notes.append(
                f"{patient}: of {count} frames no {INFO} says which is ED and which ES; give --phases."
            )
    return hearts, notes


def _phase_of(number: int, info: Mapping[str, str]) -> str | None:
    stated = {key.lower(): value for key, value in info.items()}
    numbers = {phase: stated.get(phase, "") for phase in ("ed", "es")}
    return next((phase for phase, text in numbers.items() if text.isdecimal() and int(text) == number), None)


def functions(
    hearts: Collection[Heart], measured: Mapping[str, Measured]
) -> tuple[list[Measured], list[str]]:
    """Function of the hearts of which both volumes were measured.

    Args:
        hearts: with the keys of their volumes.
        measured: by key.

    Returns:
        What follows from both, and what is wrong with others, a sentence each.
    """
    found, notes = [], []
    for heart in hearts:
        phases = [measured.get(key) for key in (heart.ed, heart.es)]
        ed, es = phases
        if ed is None or es is None:
            notes.append(f"{heart.patient}: {'ED' if ed is None else 'ES'} was not segmented.")
            continue
        volumes = [{m.organ: m.value for m in each.measurements if m.unit == "ml"} for each in (ed, es)]
        if not all(volumes):
            notes.append(f"{heart.patient}: without the spacing of both volumes (--spacing-mm) no function.")
            continue
        try:
            function = function_of_volumes(*volumes)
        except DataError as error:
            notes.append(f"{heart.patient}: {error}")
            continue
        flags = tuple(dict.fromkeys((*function.flags, *ed.flags, *es.flags)))
        if function.flags:
            notes.append(
                f"{heart.patient}: larger at end-systole than at end-diastole "
                f"({', '.join(function.flags)}); are the two exchanged?"
            )
        file, numbers = joined(heart.ed, heart.es), tuple(function.measurements)
        found.append(Measured(file, ed.checkpoint, numbers, flags, heart.patient))
    return found, notes


def has_ventricle(organs: Collection[str]) -> bool:
    """Whether a model finds what a heart's function is computed of."""
    return not set(VENTRICLES).isdisjoint(organs)
