"""How a data set asks a model and judges its answers: one mechanism for all kinds of answers.

A task gives a `Trial` for each case, which reads what the model is given and knows what is true.
`measured` asks the model and makes a row of each answer by `anatozoo.metrics.cases.case_row`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.data.case import Case as DataCase
from anatozoo.data.layouts.registry import LAYOUTS, find_cases
from anatozoo.errors import AnatozooError, ConfigError, DataError, GeometryError, ImageError
from anatozoo.io.annotation import Annotation, misspelt
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.metrics.cases import Case, Measures, Row, case_numbers
from anatozoo.metrics.tables import with_facts
from anatozoo.organs import PAIRS, annotated
from anatozoo.tasks.cases import label_dice
from anatozoo.tasks.temperature import Calibrations

Judge = Callable[[Any], Case]
FAILURES = (ImageError, DataError, GeometryError)
"""What one case may fail by; the others are measured all the same."""
NEEDS = {"image": "an image", "organs": "an annotation"}
"""What a task may need of a case, in words."""


@dataclass(frozen=True)
class Conditions:
    """How a data set asks a model; the fields beside the first two are for some tasks alone.

    Attributes:
        measures: what is measured.
        spacing_mm: millimetres per pixel, (x, y[, z]) or one number, where the data states none; of
            radiographs that of their frame of 1024 x 1024 in place of what the data states.
        exclusive: draw organs without overlap, see `anatozoo.metrics.chest.exclusive`.
        occlusion: side and centre (x, y) of a black square, see `anatozoo.metrics.occlusion.occlude`.
        pairs: how many pairs of cases are registered, always the same ones; None takes all.
        side: pixels to which square images are brought before they are registered; None leaves them.
        degrade: strengths of the damage that is done to masks, empty for its defaults; None damages none.
        profile: of the thick slices that are made, see `anatozoo.nn.thick_slices.degrade_slices`.
        calibration: measures the probabilities of segmenters too, and collects them; None does not.
    """

    measures: Measures = field(default_factory=Measures)
    spacing_mm: tuple[float, ...] | None = None
    exclusive: bool = False
    occlusion: tuple[float, tuple[float, float]] | None = None
    pairs: int | None = None
    side: int | None = None
    degrade: Mapping[str, float] | None = None
    profile: str = "gaussian"
    calibration: Calibrations | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """One question to a model.

    Attributes:
        identity: whom it is about, ``id`` first, in plain values.
        read: reads the files; gives what the model's `ask` takes, and what makes a case of its answer.
    """

    identity: Row
    read: Callable[[], tuple[Any, Judge]] = field(repr=False)


def choose_cases(
    model: Any,
    root: str | Path,
    layout: str,
    split: str | None,
    *,
    label_values: Sequence[int] | str | None = None,
) -> tuple[list[DataCase], int]:
    """The cases of a data set that a model can be asked about.

    Args:
        model: the model.
        root: folder of the data, or a manifest.
        layout: a name of `anatozoo.data.layouts.registry`, or ``"auto"``.
        split: ``"train"``, ``"val"`` or ``"test"``; None takes every case.
        label_values: what stands for the organs in label maps, see `anatozoo.data.layouts.base.Wanted`.

    Returns:
        The cases, and how many more the split has that lack what the model needs.

    Raises:
        DataError: there are none; the message says what was found.
        ConfigError: the layout is unknown, holds no images of the model's dimensions, or takes no label
            values.
    """
    organs = tuple(model.organs) if "organs" in model.needs else ()
    listing = find_cases(root, layout, organs, dims=len(model.shape), label_values=label_values)
    found, chosen = listing.cases, listing.layout
    if label_values is not None and not LAYOUTS[chosen].takes_label_values:
        raise ConfigError(
            f"the layout {chosen!r} says itself what its label maps mean; leave out --labels (label_values)."
        )
    of_split = [case for case in found if split in (None, case.split)]
    if not of_split:
        known = sorted({case.split for case in found if case.split})
        raise DataError(
            f"{root}: none of the {len(found)} cases of layout {chosen!r} is in split {split!r}; the splits "
            f"here are {', '.join(known) or 'none: put lists into splits/train.txt, val.txt, test.txt'}."
        )
    usable = [case for case in of_split if model.usable(case)]
    if not usable:
        lacking = {"image": 0, "organs": 0}
        for case in of_split:
            lacking["image"] += case.image is None
            lacking["organs"] += not all(map(case.has, organs)) or not case.labelled
        words = " and ".join(NEEDS[need] for need in NEEDS if need in model.needs)
        wanted = f" of {', '.join(organs)}" if organs else ""
        raise DataError(
            f"{root}: {len(of_split)} cases in split {split or 'all'!r}, but none has {words}{wanted}, which "
            f"{model.checkpoint_name} needs ({lacking['image']} lack the image, {lacking['organs']} the "
            "annotation)."
        )
    return usable, len(of_split) - len(usable)


def unannotated(model: Any, cases: Sequence[DataCase]) -> list[str]:
    """Sentences on the model's organs that no case annotates, with names in the data that are like theirs.

    An organ counts as annotated if a pair that it belongs to is, such as ``"lungs"``, for pairs are compared.

    Args:
        model: the model.
        cases: those that it is asked about.
    """
    organs = tuple(model.organs) if "organs" in model.needs else ()
    names = frozenset().union(*(case.organs for case in cases))
    paired = {part for pair, parts in PAIRS.items() if pair in names for part in parts}
    lacking = [organ for organ in organs if not annotated(organ, names) and organ not in paired]
    if not lacking:
        return []
    said = [f"no case annotates {', '.join(lacking)}, so that nothing is measured there."]
    hints = misspelt(names, organs).items()
    return said + [f"the data annotate {name}, which may be meant for {near}." for name, near in hints]


def measured(
    model: Any, trials: Iterable[Trial], measures: Measures | None = None, batch_size: int = 4
) -> Iterator[Row]:
    """One row for each trial, in their order: who it is about, then the numbers of its case.

    Those that cannot be read or answered come last, with ``error`` in the place of numbers.

    Args:
        model: is asked.
        trials: of its `trials`.
        measures: what is measured.
        batch_size: questions at a time, where the model takes several.
    """
    waiting: deque[tuple[Row, Judge]] = deque()
    failed: list[Row] = []

    def given() -> Iterator[Any]:
        for trial in trials:
            try:
                question, judge = trial.read()
            except FAILURES as error:
                failed.append(trial.identity | {"error": str(error)})
                continue
            waiting.append((trial.identity, judge))
            yield question

    for answer in model.answers(given(), batch_size):
        identity, judge = waiting.popleft()
        try:
            if isinstance(answer, AnatozooError):
                raise answer
            row = case_numbers(judge(answer), measures)
        except FAILURES as error:
            failed.append(identity | {"error": str(error)})
            continue
        yield identity | row
    yield from failed


def identity_of(case: DataCase) -> Row:
    """Who a case is: ``id``, ``patient``, ``split``, ``dataset``, and its facts, see `with_facts`."""
    known = {"id": case.id, "patient": case.subject, "split": case.split, "dataset": case.domain}
    return with_facts(known, case.facts)


def read_volume(case: DataCase, how: Conditions, dims: int = 3) -> GridImage:
    """Read an image; where it states no spacing, it has that of the conditions.

    Raises:
        DataError, ImageError: there is none, it is damaged, or has another number of dimensions.
        GeometryError: the spacing is of another number of dimensions.
    """
    image = case.read_image(dims)
    if how.spacing_mm is None or image.grid.spacing_mm is not None:
        return image
    return image.with_spacing(spread(how.spacing_mm))


def read_truth(case: DataCase, organs: Sequence[str], how: Conditions) -> tuple[npt.NDArray[np.uint8], Grid]:
    """Read a label map without its image, and its grid; the same holds of the spacing.

    Raises:
        DataError: there is none, or it is damaged.
        GeometryError: the spacing is of another number of dimensions.
    """
    labels, grid = case.read_labels(organs)
    if how.spacing_mm is None or grid.spacing_mm is not None:
        return labels, grid
    return labels, grid.with_spacing(spread(how.spacing_mm))


def spread(spacing_mm: tuple[float, ...]) -> float | tuple[float, ...]:
    """One number counts for all axes."""
    return spacing_mm[0] if len(spacing_mm) == 1 else spacing_mm


def as_mask(labels: npt.NDArray[np.uint8], grid: Grid) -> Any:
    """A label map as models of masks read it, with its place in space where that is known."""
    return labels if grid.spacing_mm is None else itk_image(labels, grid)


def labels_beside(
    found: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.uint8],
    organs: Sequence[str],
    spacing_mm: tuple[float, ...] | None,
    numbers: Mapping[str, float] | None = None,
) -> Case:
    """Two label maps (H, W) or (D, H, W) of one grid, in which organ number i, from 1, has the value i."""
    one, other = (Annotation.from_labels(labels, organs, spacing_mm) for labels in (found, truth))
    return Case(one, other, numbers=numbers or {})


def numbers_case(numbers: Mapping[str, float]) -> Case:
    """A case of numbers alone, where nothing is drawn."""
    return Case(Annotation(()), Annotation(()), numbers=numbers)


def organs_beside(
    found: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.uint8],
    organs: Sequence[str],
    spacing_mm: tuple[float, ...] | None,
) -> Case:
    """`labels_beside` with the mean over the organs as ``dice``."""
    return labels_beside(found, truth, organs, spacing_mm, {"dice": label_dice(found, truth, len(organs))})
