"""Find the landmarks of masks in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from anatozoo.io.annotations import Entry
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.organ_masks import OrganMasks, read_entry
from anatozoo.organs import PAIRS
from anatozoo.results.mask_contours import MaskContourResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.inputs import MASK_ENDING, Found
from anatozoo.serve.manifest import Layout, Row
from anatozoo.serve.options import DEFAULT_OPTIONS, ReadOptions
from anatozoo.serve.plan import Job, fingerprint
from anatozoo.serve.sources import SOURCE
from anatozoo.serve.tasks import Predictor

MEASURES = ("dice", "hd_px", "hd_mm")
"""What the table says of each organ."""


class FindLandmarks(FileTask[OrganMasks, MaskContourResult]):
    """Find the landmarks of masks in files.

    The table says how well the landmarks reproduce each mask: Dice and Hausdorff distance of each organ,
    as far as the masks tell organs apart.

    Args:
        model: a loaded checkpoint.
        found: the masks; one of several files, one for each organ, by a path that tells it from the others.
        options: how they are read.
        entries: path -> all files of that mask; None where each mask is a label map in one file.
        codes: what the values of the files mean; None takes the options' classes or the model's organs.

    Raises:
        OptionError: an option is not for masks.
    """

    one: ClassVar[str] = "mask"
    done: ClassVar[tuple[str, ...]] = ("traced",)
    doing: ClassVar[str] = "finding landmarks"
    accepts: ClassVar[tuple[str, ...]] = ("spacing_mm", "classes")
    ending: ClassVar[str] = MASK_ENDING
    formats = MaskContourResult.formats
    alone: ClassVar[str] = "{name} finds landmarks of masks; only a segmentation can be followed."

    def __init__(
        self,
        model: Predictor,
        found: Found,
        options: ReadOptions = DEFAULT_OPTIONS,
        entries: Mapping[Path, Entry] = MappingProxyType({}),
        codes: LabelCodes | None = None,
    ) -> None:
        self.entries = entries
        super().__init__([model], found, options, axes=2)
        self.model = model
        if codes is None and options.classes is not None:
            codes = LabelCodes.of(options.classes)
        self.codes = codes
        names = [*model.organs, *PAIRS]
        columns = tuple(f"{measure}/{name}" for name in names for measure in MEASURES)
        self.layout = Layout(details=("models", SOURCE), numbers=columns)  # type: ignore[misc]

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The files of a mask."""
        return self.entries[path].paths if path in self.entries else super().parts(path)

    def forgets(self, row: Row) -> bool:
        """A folder of which something could not be taken, for it may be whole now, or says so again."""
        return not row.stem

    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Path]]:
        """A job for each mask; the meaning of values is part of what makes one done."""
        jobs = super().jobs(earlier, formats)
        if self.codes is None or self.options.classes is not None:  # the options are counted already
            return jobs
        said = sorted(self.codes.ranges.items())
        return [replace(job, fingerprint=fingerprint([], job.fingerprint, said)) for job in jobs]

    def read(self, job: Job[Path]) -> OrganMasks:
        """Read the masks of one image."""
        entry = self.entries.get(job.source, Entry({None: job.source}))
        organs, spacing = list(self.model.organs), self.options.spacing_mm
        return read_entry(entry, organs, job.source.name, self.codes, spacing)

    def compute(self, items: Sequence[OrganMasks]) -> list[MaskContourResult]:
        """Find the landmarks of a batch."""
        return list(self.model.predict_batch(items, batch_size=len(items)))

    def compute_one(self, item: OrganMasks) -> MaskContourResult:
        """Find the landmarks of one mask."""
        found: MaskContourResult = self.model.predict(item)
        return found

    def save(
        self, result: MaskContourResult, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write the landmarks; the row says how well they reproduce the mask."""
        result.save(folder, formats, job.stem)
        in_mm = result.hd_mm or {}
        more = {f"dice/{name}": f"{value:.5f}" for name, value in result.dice.items()}
        more |= {f"hd_px/{name}": f"{value:.3f}" for name, value in result.hd_px.items()}
        return more | {f"hd_mm/{name}": f"{value:.3f}" for name, value in in_mm.items()}
