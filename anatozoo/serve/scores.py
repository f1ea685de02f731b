"""Score images for findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from anatozoo.data.findings import as_numbers
from anatozoo.io.images import Image
from anatozoo.results.scores import DIGITS, ScoreResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.images import read_radiograph
from anatozoo.serve.inputs import Found
from anatozoo.serve.options import DEFAULT_OPTIONS, RADIOGRAPHS, ReadOptions
from anatozoo.serve.plan import Job


class ScoreImages(FileTask[Image, ScoreResult]):
    """Score images; ``manifest.csv`` has a column ``score/FINDING`` for each finding.

    Args:
        model: a loaded classifier.
        found: the images.
        options: how they are read.

    Raises:
        OptionError: an option is not for images.
    """

    one: ClassVar[str] = "image"
    done: ClassVar[tuple[str, ...]] = ("scored",)
    doing: ClassVar[str] = "scoring"
    alone: ClassVar[str] = "{name} scores images and draws nothing that could be repaired; leave {then} out."
    side_by_side: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = RADIOGRAPHS
    formats = ScoreResult.formats

    def __init__(self, model: Any, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        super().__init__([model], found, options, axes=2)
        self.model = model
        columns = tuple(as_numbers(dict.fromkeys(model.findings, 0.0)))
        self.layout = replace(self.layout, numbers=columns)  # type: ignore[misc]

    def read(self, job: Job[Path]) -> Image:
        """Read an image."""
        return read_radiograph(job.source, self.options)

    def compute(self, items: Sequence[Image]) -> list[ScoreResult]:
        """Score a batch."""
        return list(self.model.predict_batch(items, batch_size=len(items)))

    def compute_one(self, item: Image) -> ScoreResult:
        """Score one image."""
        found: ScoreResult = self.model.predict(item)
        return found

    def save(
        self, result: ScoreResult, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write the files, with the image's name alone for its path; the row holds the scores too."""
        with self.plotting:
            self.told(result, job).save(folder, formats, job.stem)
        return {name: f"{score:.{DIGITS}f}" for name, score in as_numbers(result.scores).items()}
