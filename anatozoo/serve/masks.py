"""Repair masks: those in files, or those that another model has just drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from anatozoo.errors import ConfigError
from anatozoo.io.images import Image
from anatozoo.metrics.measurements import Measurement
from anatozoo.results.repair import RepairResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.images import read_radiograph
from anatozoo.serve.inputs import MASK_ENDING, Found
from anatozoo.serve.options import DEFAULT_OPTIONS, RADIOGRAPHS, ReadOptions
from anatozoo.serve.plan import Job
from anatozoo.serve.tasks import Predictor, add_to_json


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


@dataclass(frozen=True)
class Repaired:
    """What two models said of one image, one after the other.

    Attributes:
        image: what was read.
        drawn: what the segmenter found.
        result: what the repair made of it.
    """

    image: Image
    drawn: SegmentationResult
    result: RepairResult

    @property
    def flags(self) -> tuple[str, ...]:
        """Remarks on the image and of the repair; those on the mask before it stand in the JSON."""
        return tuple(dict.fromkeys([*self.image.flags, *self.result.flags]))


class SegmentThenRepair(FileTask[Image, Repaired]):
    """Segment radiographs and repair the masks; the repaired ones are saved.

    Args:
        model: a loaded checkpoint that segments.
        then: one that repairs.
        found: the images.
        options: how they are read.

    Raises:
        ConfigError: the two do not go together: the first draws an organ that the second does not know, or
            the second is for volumes.
    """

    one: ClassVar[str] = "image"
    done: ClassVar[tuple[str, ...]] = ("segmented", "repaired")
    measures: ClassVar[bool] = True
    doing: ClassVar[str] = "segmenting"
    side_by_side: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = RADIOGRAPHS
    formats = RepairResult.formats

    def __init__(
        self, model: Predictor, then: Predictor, found: Found, options: ReadOptions = DEFAULT_OPTIONS
    ) -> None:
        check_organs(model, then)
        super().__init__([model, then], found, options, axes=2)
        self.model, self.then = model, then

    def read(self, job: Job[Path]) -> Image:
        """Read a radiograph."""
        return read_radiograph(job.source, self.options)

    def compute(self, items: Sequence[Image]) -> list[Repaired]:
        """Segment and repair a batch."""
        drawn = [_named(result) for result in self.model.predict_batch(items, batch_size=len(items))]
        repaired = list(self.then.predict_batch(drawn, batch_size=len(items)))
        return [Repaired(*three) for three in zip(items, drawn, repaired, strict=True)]

    def compute_one(self, item: Image) -> Repaired:
        """Segment and repair one image."""
        drawn = _named(self.model.predict(item))
        return Repaired(item, drawn, self.then.predict(drawn))

    def measure(self, result: Repaired) -> Sequence[Measurement]:
        """What is measured of the repaired mask."""
        return result.result.measurements

    def save(self, result: Repaired, job: Job[Path], folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write the repaired mask; its JSON says who drew it."""
        with self.plotting:
            self.told(result.result, job).save(folder, formats, job.stem)
        if "json" in formats:
            drawn = result.drawn
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


def check_organs(model: Any, then: Predictor) -> None:
    """Make sure that masks of one model can be given to the other: organs have names, and names must match.

    A repair that knows more organs than there are is none the worse; pairs such as ``"lungs"`` take their two
    parts.

    Raises:
        ConfigError: they cannot.
    """
    from anatozoo.organs import PAIRS

    first, second = model.checkpoint_name, then.checkpoint_name
    if len(then.shape) != 2:
        raise ConfigError(f"{second} repairs volumes, and {first} segments 2-D images.")
    known = list(then.organs)
    accepted = {*known, *(part for organ in known for part in PAIRS.get(organ, ()))}
    if unknown := [organ for organ in model.organs if organ not in accepted]:
        raise ConfigError(
            f"{first} draws {', '.join(unknown)}, which {second} does not know; that repairs "
            f"{', '.join(known)}. Choose a checkpoint for these organs."
        )


def _named(result: SegmentationResult) -> SegmentationResult:
    return replace(result, image=Path(result.image).name)
