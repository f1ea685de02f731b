"""Estimate the quality of segmentations without their truth."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.io.annotation import Annotation
from anatozoo.io.annotations import Entry
from anatozoo.io.files import stem_of
from anatozoo.io.grid import GridImage
from anatozoo.io.images import Image
from anatozoo.io.label_codes import check_known
from anatozoo.io.read import read_grid_image
from anatozoo.io.tables import composed
from anatozoo.metrics.measurements import Measurement
from anatozoo.organs import with_pairs
from anatozoo.quality.atlas import Atlas
from anatozoo.quality.rca import COUNT, RegisteredImage, judging_of, register_to_atlas
from anatozoo.quality.selectors import Selector
from anatozoo.results.quality import CALIBRATED, QualityResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.images import SegmentImages
from anatozoo.serve.inputs import Found
from anatozoo.serve.manifest import Layout, Row
from anatozoo.serve.options import DEFAULT_OPTIONS, RADIOGRAPHS, ReadOptions
from anatozoo.serve.outputs import QUALITIES
from anatozoo.serve.plan import Job, fingerprint
from anatozoo.serve.sources import SOURCE
from anatozoo.serve.tasks import add_to_json, facts_of, names_of
from anatozoo.tasks.engines import Engine


class Judge:
    """What judges: an atlas and an engine, as a model of a run.

    Args:
        atlas: the atlas.
        engine: what registers.
        count: atlas images for each image.
        classes: names of the values 1, 2, ... of label maps without names.
        selector: what chooses the atlas images; None by their thumbnails.

    Raises:
        ConfigError: the engine registers images of other dimensions than those of the atlas, or no class is
            an organ of the atlas.
        DataError: the atlas has no latents of the selector.

    Attributes:
        checkpoint_name: what tables call it.
        checkpoint_version: changes where the same segmentation may get another estimate.
        no_intervals: why the calibration of the atlas does not apply; empty if it does, or if there is none.
    """

    def __init__(
        self,
        atlas: Atlas,
        engine: Engine,
        count: int = COUNT,
        classes: tuple[str, ...] | None = None,
        selector: Selector | None = None,
    ) -> None:
        if classes and set(atlas.organs).isdisjoint(with_pairs(classes)):
            raise ConfigError(
                f"none of the classes {', '.join(classes)} is an organ of the atlas {atlas.name}, which has "
                f"{', '.join(atlas.organs)}."
            )
        if engine.axes not in (None, len(atlas.shape)):
            raise ConfigError(
                f"{engine.name} registers images of {engine.axes} dimensions, and those of the atlas have "
                f"{len(atlas.shape)}; choose another engine."
            )
        atlas.check_selector(selector)
        judging = judging_of(atlas, engine, selector, min(count, len(atlas)))
        self.no_intervals = "" if atlas.intervals is None else atlas.intervals.refusal(judging)
        # The reason is said once for a run, not by a warning for each image.
        self.atlas = atlas.with_intervals(None) if self.no_intervals else atlas
        self.engine, self.count, self.classes, self.selector = engine, count, classes, selector
        self.checkpoint_name = f"rca {engine.name} on {atlas.name}"
        self.checkpoint_version = f"{engine.version}-{atlas.digest[:8]}"
        self.weights_digest = getattr(engine, "weights_digest", "")
        if selector is not None:
            self.checkpoint_name += f" by {selector.name}"
            self.checkpoint_version += f"-{selector.version}-{selector.digest[:8]}"
        if self.atlas.intervals is not None:
            self.checkpoint_version += f"-{self.atlas.intervals.digest[:8]}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the estimates that an image can get."""
        best = {"dice": "max", f"hd_{self.unit}": "min", f"assd_{self.unit}": "min"}
        organs = ["", *(f"/{organ}" for organ in self.atlas.organs)]
        estimates = tuple(
            f"{metric}_rca_{which}{organ}"
            for metric, which_is_best in best.items()
            for organ in organs
            for which in (which_is_best, "mean")
        )
        calibrated = () if self.atlas.intervals is None else tuple(self.atlas.intervals.organs)
        return estimates + tuple(f"{name}/{organ}" for organ in calibrated for name in CALIBRATED)

    @property
    def unit(self) -> str:
        """Of distances: millimetres where the spacings of the atlas images are known, else pixels."""
        return "mm" if self.atlas.is_metric else "px"

    def __call__(self, image: GridImage, annotation: Annotation) -> QualityResult:
        """Judge a segmentation; an atlas image with the image's own name is not used."""
        return self.register(image).judge(annotation)

    def register(self, image: GridImage) -> RegisteredImage:
        """Register an image to the atlas, to judge any number of its segmentations."""
        name = stem_of(Path(image.name))
        shortage = "" if self.atlas.intervals is None else self.shortage(name)
        # Said in the result, not by a warning for each image.
        atlas = self.atlas.with_intervals(None) if shortage else self.atlas
        registered = register_to_atlas(
            image, atlas, engine=self.engine, selector=self.selector, count=self.count, exclude=[name]
        )
        return replace(registered, no_intervals=self.no_intervals or shortage)

    def shortage(self, name: str) -> str:
        """Why an image of this name is compared with fewer atlas images than others; empty if it is not."""
        size = len(self.atlas)
        if self.count < size or name not in [each.id for each in self.atlas.images]:
            return ""
        return f"{name} is itself one of the {size} atlas images, and others are compared with all {size}"

    def read_image(self, path: Path, options: ReadOptions = DEFAULT_OPTIONS) -> GridImage:
        """Read an image of as many dimensions as the atlas has."""
        return read_grid_image(
            path,
            len(self.atlas.shape),
            spacing_mm=options.spacing_mm,
            invert=options.invert,
            allow_any_modality=options.allow_any_modality,
        )

    def read_mask(self, entry: Entry, image: GridImage) -> Annotation:
        """Read a segmentation of an image.

        Raises:
            DataError: it has another size, or values without a name.
        """
        stored = entry.read()
        if stored.grid is not None and stored.grid.size != image.grid.size:
            sizes = (" x ".join(map(str, grid.size)) for grid in (stored.grid, image.grid))
            raise DataError("the mask is {} pixels, the image {}.".format(*sizes))
        names = dict(enumerate(self.classes or self.atlas.organs, start=1))
        if stored.labels is not None:
            labels = stored.labels if len(names) == 1 else stored.as_stored().labels
            check_known(np.asarray(labels), names, "the mask", "name the values 1, 2, ... by --classes")
        return stored.annotation(image.grid.size, names, image.grid.spacing_mm)

    def numbers(self, result: QualityResult) -> dict[str, str]:
        """The estimates as texts for a table; empty where an organ was not judged."""
        row = result.row()
        return {name: f"{row[name]:.6g}" for name in self.columns if name in row}


@dataclass(frozen=True)
class JudgedSegmentation:
    """A segmentation with the estimate of its quality.

    Attributes:
        result: the segmentation.
        quality: the estimate; None where the image could not be registered to the atlas.
        reason: why not.
    """

    result: SegmentationResult
    quality: QualityResult | None
    reason: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """Remarks on the segmentation, and ``"quality_not_estimated"``."""
        return (*self.result.flags, *(() if self.quality else ("quality_not_estimated",)))


class SegmentAndJudge(FileTask[Image, JudgedSegmentation]):
    """Segment radiographs and estimate how good the segmentations are.

    A segmentation whose quality cannot be estimated is kept and flagged, and its row says why.

    Args:
        segment: how images are segmented and saved.
        judge: what judges.

    Raises:
        ConfigError: the atlas is of volumes, or has none of the model's organs.
    """

    one: ClassVar[str] = "image"
    done: ClassVar[tuple[str, ...]] = ("segmented", "judged")
    measures: ClassVar[bool] = True
    doing: ClassVar[str] = "segmenting"
    accepts: ClassVar[tuple[str, ...]] = RADIOGRAPHS

    def __init__(self, segment: SegmentImages, judge: Judge) -> None:
        check_atlas(segment.model, judge.atlas)
        super().__init__(segment.models, segment.found, segment.options, axes=2)
        self.segment, self.judge, self.formats = segment, judge, segment.formats
        self.layout = Layout(  # type: ignore[misc]
            details=("models", SOURCE, "judge", "atlas_images"),
            numbers=(*segment.layout.numbers, *judge.columns),
        )

    def tell(self, *, keep_patient: bool = True, uids: bool = False) -> None:
        """Settle it for the segmentations too, which `segment` saves."""
        super().tell(keep_patient=keep_patient, uids=uids)
        self.segment.tell(keep_patient=keep_patient, uids=uids)

    @property
    def more(self) -> dict[str, str]:
        """Details of every row."""
        return {**super().more, "judge": names_of([self.judge])}

    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Path]]:
        """A job for each image; what judges counts in what makes it done."""
        facts = [*facts_of(self.judge), self.judge.count]
        return [
            replace(job, fingerprint=fingerprint([job.source], job.fingerprint, *facts))
            for job in super().jobs(earlier, formats)
        ]

    def read(self, job: Job[Path]) -> Image:
        """Read a radiograph."""
        return self.segment.read(job)

    def compute(self, items: Sequence[Image]) -> list[JudgedSegmentation]:
        """Segment a batch, then judge one after another."""
        results = self.segment.compute(items)
        return [self._judged(image, result) for image, result in zip(items, results, strict=True)]

    def compute_one(self, item: Image) -> JudgedSegmentation:
        """Segment and judge one image."""
        return self._judged(item, self.segment.compute_one(item))

    def _judged(self, image: Image, result: SegmentationResult) -> JudgedSegmentation:
        try:
            masks = Annotation(result.size, masks=result.masks, spacing_mm=result.spacing_mm)
            return JudgedSegmentation(result, self.judge(read_grid_image(image, 2), masks))
        except AnatozooError as error:
            return JudgedSegmentation(result, None, " ".join(str(error).split()))

    def measure(self, result: JudgedSegmentation) -> Sequence[Measurement]:
        """What is measured of the segmentation, and its estimated Dice."""
        estimated = [] if result.quality is None else result.quality.measurements
        return [*result.result.measurements, *estimated]

    def lacks(self, result: JudgedSegmentation) -> str:
        """Why the quality could not be estimated."""
        return result.reason

    def save(
        self, result: JudgedSegmentation, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write the segmentation; its JSON and its row have the estimates."""
        quality = result.quality
        found = result.result
        if quality is not None:
            found = replace(found, measured=(*found.measured, *quality.measurements))
        own = self.segment.save(found, job, folder, formats)
        if "json" in formats:
            told = {"error": result.reason} if quality is None else quality.to_dict()
            add_to_json(folder / f"{job.stem}.json", {"quality": told, "flags": list(result.flags)})
        if quality is None:
            return own
        return own | {"atlas_images": ";".join(quality.chosen)} | self.judge.numbers(quality)

    def finish(self, folder: Path, rows: Sequence[Row]) -> None:
        """Write what is of all segmentations together."""
        self.segment.finish(folder, rows)


def check_atlas(model: Any, atlas: Atlas) -> None:
    """Refuse an atlas that cannot judge what a model draws on radiographs.

    Raises:
        ConfigError: it is of volumes, or has none of the model's organs.
    """
    if len(atlas.shape) != 2:
        raise ConfigError(f"the atlas {atlas.name} is of volumes, and the images are radiographs.")
    if set(atlas.organs).isdisjoint(with_pairs(model.organs)):
        raise ConfigError(
            f"{model.checkpoint_name} draws {', '.join(sorted(model.organs))}, and the atlas {atlas.name} "
            f"has {', '.join(atlas.organs)}; take an atlas of these organs."
        )


class JudgeMasks(FileTask[tuple[GridImage, Annotation], QualityResult]):
    """Judge the segmentations of images, both in files.

    Args:
        judge: what judges.
        found: the images.
        masks: name of an image -> its segmentation, see `anatozoo.io.annotations.find_annotations`.
        options: how the images are read.

    Raises:
        DataError: no image has a mask.
        OptionError: the spacing has another number of dimensions than the atlas.
    """

    one: ClassVar[str] = "image"
    done: ClassVar[tuple[str, ...]] = ("judged",)
    doing: ClassVar[str] = "judging"
    accepts: ClassVar[tuple[str, ...]] = RADIOGRAPHS
    largest_batch: ClassVar[int | None] = 1
    formats = QUALITIES

    def __init__(
        self,
        judge: Judge,
        found: Found,
        masks: Mapping[str, Entry],
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> None:
        names = [stem_of(path) for path in found.images]
        if names and masks and not any(composed(name) in masks for name in names):
            raise DataError(
                f"no image has a mask: the first image is called {min(names)}, the first mask {min(masks)}; "
                "masks are found by the names of their images."
            )
        super().__init__([judge], found, options, axes=len(judge.atlas.shape))
        self.judge, self.masks = judge, masks
        self.layout = Layout(details=("models", SOURCE, "atlas_images"), numbers=judge.columns)  # type: ignore[misc]

    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Path]]:
        """A job for each image; its mask counts in what makes it done."""
        jobs = []
        for job in super().jobs(earlier, formats):
            entry = self.masks.get(composed(stem_of(job.source)))
            files = () if entry is None else entry.paths
            # A row of a table is not a file of its own.
            row = None if entry is None or entry.row is None else zlib.crc32(repr(entry.row).encode())
            facts = [row, self.judge.count, self.judge.classes, *self.options.facts(self.accepts)]
            state = fingerprint([job.source, *files], job.fingerprint, *facts)
            jobs.append(replace(job, files=(job.source, *files), fingerprint=state))
        return jobs

    def read(self, job: Job[Path]) -> tuple[GridImage, Annotation]:
        """Read image and mask, and compare their grids."""
        image = self.judge.read_image(job.source, self.options)
        entry = self.masks.get(composed(stem_of(job.source)))
        if entry is None:
            raise DataError(f"there is no mask called {stem_of(job.source)}; masks are found by that name.")
        return image, self.judge.read_mask(entry, image)

    def compute_one(self, item: tuple[GridImage, Annotation]) -> QualityResult:
        """Judge one image."""
        return self.judge(*item)

    def save(
        self, result: QualityResult, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write JSON and picture; the estimates are columns of the row."""
        with self.plotting:
            replace(result, image=job.source.name).save(folder, formats, job.stem)
        return {"atlas_images": ";".join(result.chosen)} | self.judge.numbers(result)
