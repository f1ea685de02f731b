"""Register pairs of images, and bring the masks of the moving ones along."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import AnatozooError, GeometryError
from anatozoo.io.files import stem_of
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.io.read import read_grid_image, read_labels
from anatozoo.io.writers import write_itk
from anatozoo.results.field import RegistrationResult
from anatozoo.serve.manifest import Layout, Row
from anatozoo.serve.naming import Nameable, choose_stems, folded
from anatozoo.serve.options import DEFAULT_OPTIONS, RADIOGRAPHS, ReadOptions
from anatozoo.serve.outputs import PROPAGATED
from anatozoo.serve.pairs import IMAGES, MASKS, Pair, PairList
from anatozoo.serve.plan import Job, fingerprint
from anatozoo.serve.sources import SOURCE, content_digest, is_same, path_digest, source_of, source_text
from anatozoo.serve.tasks import Predictor, Task, add_to_json, facts_of, names_of

Labels = npt.NDArray[Any]
_OF_VOLUMES = ("spacing_mm", "ignore_spacing")
_LABEL_TYPES = (np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True, eq=False)
class ReadPair:
    """Two images with the masks that the table gives, each on its image's grid."""

    moving: GridImage
    fixed: GridImage
    moving_labels: Labels | None = None
    fixed_labels: Labels | None = None


@dataclass(frozen=True, eq=False)
class Registered:
    """A registration, and what was given for it."""

    pair: ReadPair
    result: RegistrationResult

    @property
    def flags(self) -> tuple[str, ...]:
        """Remarks of reader and model."""
        return self.result.flags


class RegisterPairs(Task[Pair, ReadPair, Registered]):
    """Register the pairs of a table.

    Args:
        model: a loaded checkpoint.
        pairs: the pairs.
        options: how images are read.

    Raises:
        OptionError: an option is not for the model.
    """

    one: ClassVar[str] = "pair"
    done: ClassVar[tuple[str, ...]] = ("registered",)
    doing: ClassVar[str] = "registering"
    layout: ClassVar[Layout] = Layout(
        "name", ("models", SOURCE, *IMAGES, *MASKS), ("folding_percent", "dice_before", "dice_after")
    )
    accepts: ClassVar[tuple[str, ...]] = (*RADIOGRAPHS, "ignore_spacing")
    alone: ClassVar[str] = "{name} registers pairs; only a segmentation can be followed."
    largest_batch: ClassVar[int | None] = 1
    formats = RegistrationResult.formats

    def __init__(self, model: Predictor, pairs: PairList, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        axes = len(model.shape)
        if axes == 3:
            options.check(_OF_VOLUMES, model.checkpoint_name, "pairs of volumes")
        options.check(self.accepts, model.checkpoint_name, "pairs")
        self.model, self.models, self.pairs = model, (model,), pairs
        self.options = options.for_axes(axes)

    @property
    def refused(self) -> Mapping[str, Row]:
        """Rows of lines that cannot be right."""
        return {
            key: Row(key, "failed", reason, more=self._more(pair))
            for key, (pair, reason) in self.pairs.refused.items()
        }

    def forgets(self, row: Row) -> bool:
        """Lines that were refused before have been corrected, or are refused again."""
        return not row.stem

    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Pair]]:
        """A job for each pair."""
        stems = self._stems(earlier)
        present = {_digest(pair) for pair in self.pairs.pairs}
        facts = [*facts_of(self.model), *self.options.facts(self.accepts)]
        jobs = []
        for pair in self.pairs.pairs:
            stem = stems[pair.line]
            names = self.formats.names(stem, formats)
            if pair.path("moving_mask"):
                names.append(stem + PROPAGATED)
            before = earlier.get(stem)
            known = before is not None and _is_about(before, pair, present)
            more = {SOURCE: source_text(_digest(pair), source_of(before)[1] if before and known else "")}
            if before is not None and not known:
                # Another pair of this name, from another table: it is done again whatever its files' times.
                before = replace(before, fingerprint="")
            jobs.append(
                Job(
                    key=stem,
                    source=pair,
                    files=pair.files,
                    stem=stem,
                    names=tuple(names),
                    fingerprint=fingerprint(pair.files, *pair.details.values(), *facts),
                    earlier=before,
                    more={**self._more(pair), **more},
                    root=pair.folder,
                )
            )
        return jobs

    def _more(self, pair: Pair) -> dict[str, str]:
        return {"models": names_of(self.models), **pair.details}

    def _stems(self, earlier: Mapping[str, Row]) -> dict[int, str]:
        """Line -> stem: the given name, or MOVING_to_FIXED, told apart where several are called so."""
        named = {pair.line: pair.name for pair in self.pairs.pairs if pair.name}
        given = {folded(name) for name in named.values()}
        wishes = {
            pair.line: Nameable(
                "\n".join(pair.images), "_to_".join(stem_of(Path(image)) for image in pair.images)
            )
            for pair in self.pairs.pairs
            if not pair.name
        }
        present = {_digest(pair) for pair in self.pairs.pairs}
        unnamed = [pair for pair in self.pairs.pairs if not pair.name]
        known = {}
        for row in earlier.values():
            if row.stem and folded(row.stem) not in given:
                same = (pair for pair in unnamed if _is_about(row, pair, present))
                pair = next(same, None)
                known["\n".join(pair.images) if pair else f"\0{row.stem}"] = row.stem
        stems = choose_stems(wishes.values(), known, named.values())
        return named | {line: stems[wish.key] for line, wish in wishes.items()}

    def identify(self, job: Job[Pair]) -> dict[str, str]:
        """Digests of the images' paths and of all files."""
        return {SOURCE: source_text(_digest(job.source), content_digest(job.files))}

    def read(self, job: Job[Pair]) -> ReadPair:
        """Read images and masks, and compare their grids."""
        images = {side: self._image(job.source, side) for side in IMAGES}
        labels = {side: self._labels(job.source, side, images[side].grid) for side in IMAGES}
        return ReadPair(images["moving"], images["fixed"], labels["moving"], labels["fixed"])

    def _image(self, pair: Pair, side: str) -> GridImage:
        options = self.options
        try:
            image = read_grid_image(
                pair.path(side),
                len(self.model.shape),
                spacing_mm=options.spacing_mm,
                invert=options.invert,
                allow_any_modality=options.allow_any_modality,
            )
        except AnatozooError as error:
            raise type(error)(f"{side} image: {error}") from error
        # Results name images as the table does.
        return replace(image, source=pair.given[side])

    def _labels(self, pair: Pair, side: str, grid: Grid) -> Labels | None:
        path = pair.path(f"{side}_mask")
        if path is None:
            return None
        try:
            labels, own = read_labels(path, grid.dims)
        except AnatozooError as error:
            raise type(error)(f"{side} mask: {error}") from error
        if self.options.spacing_mm is not None:
            own = replace(own, spacing_mm=grid.spacing_mm)
        if difference := grid.differs_from(own):
            raise GeometryError(
                f"{side} mask: {str(path)!r} lies on another grid than its image ({difference}); resample it "
                "to that first."
            )
        return labels

    def compute_one(self, item: ReadPair) -> Registered:
        """Register one pair."""
        result = self.model.predict(item.moving, item.fixed, ignore_spacing=self.options.ignore_spacing)
        return Registered(item, result)

    def save(
        self, result: Registered, job: Job[Pair], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write the field and what else is chosen, and the moving mask on the fixed grid."""
        found, pair = result.result, result.pair
        with self.plotting:
            found.save(folder, formats, job.stem)
        row = {"folding_percent": f"{100 * found.folding_fraction:.4f}"}
        if pair.moving_labels is None:
            return row
        grid = found.fixed_grid
        warped = found.warp(pair.moving_labels, "labels")
        path = folder / f"{job.stem}{PROPAGATED}"
        write_itk(path, itk_image(_compact(warped), grid), units_known=grid.spacing_mm is not None)
        about: dict[str, Any] = {"mask": path.name, "labels": _values(warped)}
        about |= {column: job.source.given.get(column) for column in MASKS}
        if pair.fixed_labels is not None:
            before = undeformed(found).warp(pair.moving_labels, "labels")
            for when, labels in (("before", before), ("after", warped)):
                by_label = dice_by_label(labels, pair.fixed_labels)
                row[f"dice_{when}"] = f"{np.mean(list(by_label.values())):.4f}" if by_label else ""
                about[f"dice_{when}"] = {str(value): round(d, 4) for value, d in by_label.items()}
        if "json" in formats:
            add_to_json(folder / f"{job.stem}.json", {"propagation": about})
        return row


def undeformed(result: RegistrationResult) -> RegistrationResult:
    """The same registration before the model has deformed anything: one image's frame put on the other's."""
    alone = result.deformation_px @ result.alignment.T
    return replace(result, displacement_px=(result.displacement_px - alone).astype(np.float32))


def dice_by_label(found: Labels, truth: Labels) -> dict[int, float]:
    """Dice of every label above 0 that either map holds, 0 where only one of them does."""
    from anatozoo.metrics.functional import dice

    values = sorted({*_values(found), *_values(truth)})
    return {value: dice(found == value, truth == value) for value in values}


def _values(labels: Labels) -> list[int]:
    return [int(value) for value in np.unique(labels) if value != 0]


def _compact(labels: Labels) -> Labels:
    """The same labels in the smallest type that holds them and that every reader knows."""
    low, high = int(labels.min()), int(labels.max())
    for kind in _LABEL_TYPES:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return labels.astype(kind)
    raise GeometryError(f"labels from {low} to {high} are not labels; number them from 1.")


def _digest(pair: Pair) -> str:
    return path_digest(*pair.images)


def _is_about(row: Row, pair: Pair, present: Collection[str]) -> bool:
    """Whether a row of an earlier run is about a pair: the same images, wherever they lie now."""
    texts = [row.more.get(column, "") for column in IMAGES]
    known = source_of(row)[0]
    if known == _digest(pair):
        return True
    if texts != [pair.details[column] for column in IMAGES]:
        return False
    return is_same(row, _digest(pair), pair.files, present)
