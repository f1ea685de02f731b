"""Repair masks: those in files, or those that another model has just drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from anatozoo.io.images import Image
from anatozoo.metrics.measurements import Measurement
from anatozoo.results.repair import RepairResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.images import read_radiograph
from anatozoo.serve.inputs import MASK_ENDING, Found
from anatozoo.serve.options import DEFAULT_OPTIONS, RADIOGRAPHS, ReadOptions
from anatozoo.serve.plan import Job
from anatozoo.serve.tasks import Predictor, add_to_json
from anatozoo.tasks.chain import Chain, Chained


class RepairMasks(FileTask[Path, RepairResult]):
    """Repair masks in files, 2-D or 3-D as the model takes them.

    The stem of ``a_mask.png`` is ``a``, so that a repaired mask has the name that it had, in another folder.

    Args:
        model: a loaded checkpoint.
        found: the masks.
        options: how they are read.

    Raises:
        OptionError: an option is not for masks, or the spacing not for the model's dimensions.
    """

    one: ClassVar[str] = "mask"
    done: ClassVar[tuple[str, ...]] = ("repaired",)
    measures: ClassVar[bool] = True
    doing: ClassVar[str] = "repairing"
    accepts: ClassVar[tuple[str, ...]] = ("spacing_mm", "classes")
    ending: ClassVar[str] = MASK_ENDING
    alone: ClassVar[str] = "{name} repairs masks; only a segmentation can be followed."

    def __init__(self, model: Predictor, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        super().__init__([model], found, options, axes=len(model.shape))
        self.model = model
        self.formats = RepairResult.formats if len(model.shape) == 2 else RepairResult.volume_formats

    def read(self, job: Job[Path]) -> Path:
        """Nothing: the model reads masks itself, for it knows what they may hold."""
        return job.source

    def compute(self, items: Sequence[Path]) -> list[RepairResult]:
        """Repair a batch."""
        o = self.options
        return list(
            self.model.predict_batch(items, batch_size=len(items), classes=o.classes, spacing_mm=o.spacing_mm)
        )

    def compute_one(self, item: Path) -> RepairResult:
        """Repair one mask."""
        o = self.options
        found: RepairResult = self.model.predict(item, classes=o.classes, spacing_mm=o.spacing_mm)
        return found

    def save(
        self, result: RepairResult, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write the repaired mask and what changed, with the mask's name alone for its path."""
        with self.plotting:
            self.told(result, job).save(folder, formats, job.stem)
        return {}


class SegmentThenRepair(FileTask[Image, Chained]):
    """Segment radiographs, perhaps translated ones, and repair the masks; the repaired ones are saved.

    Args:
        chain: models that end in one that repairs.
        found: the images.
        options: how they are read.
    """

    one: ClassVar[str] = "image"
    done: ClassVar[tuple[str, ...]] = ("segmented", "repaired")
    measures: ClassVar[bool] = True
    doing: ClassVar[str] = "segmenting"
    side_by_side: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = RADIOGRAPHS
    formats = RepairResult.formats

    def __init__(self, chain: Chain, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(chain.steps, found, options, axes=2)
        self.chain, self.translators = chain, len(chain.translators)

    def read(self, job: Job[Path]) -> Image:
        """Read a radiograph."""
        return read_radiograph(job.source, self.options)

    def compute(self, items: Sequence[Image]) -> list[Chained]:
        """Segment and repair a batch."""
        return self.chain.run(items)

    def compute_one(self, item: Image) -> Chained:
        """Segment and repair one image."""
        return self.chain.run([item], together=False)[0]

    def measure(self, result: Chained) -> Sequence[Measurement]:
        """What is measured of the repaired mask."""
        measured: Sequence[Measurement] = result.result.measurements
        return measured

    def save(self, result: Chained, job: Job[Path], folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write the repaired mask; its JSON says who drew it."""
        with self.plotting:
            self.told(result.result, job).save(folder, formats, job.stem)
        if "json" in formats:
            drawn = result.results[0]
            add_to_json(
                folder / f"{job.stem}.json",
                {
                    "segmenter": {
                        "checkpoint": drawn.checkpoint,
                        "version": drawn.version,
                        "flags": list(drawn.flags),
                    }
                },
            )
        return {}
