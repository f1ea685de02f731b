"""Segment and translate images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from anatozoo.io.annotations import CHEXMASK
from anatozoo.io.images import Image, read_image
from anatozoo.io.rle import ChexmaskRow, read_chexmask, write_chexmask
from anatozoo.results.contours import ContourResult
from anatozoo.results.dicom_files import with_probability
from anatozoo.results.labels import LabelResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.results.translated import TranslatedImage
from anatozoo.serve.files import FileTask
from anatozoo.serve.inputs import Found
from anatozoo.serve.manifest import Row
from anatozoo.serve.options import DEFAULT_OPTIONS, RADIOGRAPHS, ReadOptions
from anatozoo.serve.plan import Job
from anatozoo.serve.tasks import Predictor
from anatozoo.tasks.chain import Chain
from anatozoo.tasks.chest_cases import spread_numbers

SPREAD = ("sigma_px",)
"""Columns of a run that draws samples of the latent code."""
DIFFER = ("disagreement",)
"""Columns of a run of an ensemble."""


class SegmentImages(FileTask[Image, SegmentationResult]):
    """Segment radiographs.

    Args:
        model: a loaded checkpoint.
        found: the images.
        options: how they are read.
        before: checkpoints that translate them, in this order.

    Raises:
        OptionError: an option is not for radiographs.
        ConfigError: a translator is for other images.
    """

    one: ClassVar[str] = "image"
    done: ClassVar[tuple[str, ...]] = ("segmented",)
    measures: ClassVar[bool] = True
    doing: ClassVar[str] = "segmenting"
    side_by_side: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = RADIOGRAPHS
    formats = SegmentationResult.formats

    def __init__(
        self,
        model: Predictor,
        found: Found,
        options: ReadOptions = DEFAULT_OPTIONS,
        before: Sequence[Any] = (),
    ) -> None:
        super().__init__([*before, model], found, options, axes=2)
        self.model, self.chain, self.translators = model, Chain(*before, model), len(before)
        if getattr(model, "has_masks", False):
            self.formats = ContourResult.dual_formats
        if getattr(model, "samples", None) is not None:
            self.formats = with_probability(self.formats)
            self.layout = replace(self.layout, numbers=SPREAD)  # type: ignore[misc]
        if getattr(model, "votes", False):
            self.formats = LabelResult.voted_formats
            self.layout = replace(self.layout, numbers=DIFFER)  # type: ignore[misc]

    def read(self, job: Job[Path]) -> Image:
        """Read a radiograph."""
        return read_radiograph(job.source, self.options)

    def compute(self, items: Sequence[Image]) -> list[SegmentationResult]:
        """Segment a batch."""
        return [each.result for each in self.chain.run(items)]

    def compute_one(self, item: Image) -> SegmentationResult:
        """Segment one image."""
        found: SegmentationResult = self.chain.run([item], together=False)[0].result
        return found

    def save(
        self, result: SegmentationResult, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write mask, overlay, landmarks and JSON, with the image's name alone for its path."""
        self.told(result, job).save(folder, formats, job.stem)
        numbers = spread_numbers(result).items()
        return {name: f"{value:.6g}" for name, value in numbers if name in self.layout.numbers}

    def finish(self, folder: Path, rows: Sequence[Row]) -> None:
        """Put the tables of CheXmask, one for each image, together in ``chexmask.csv``."""
        [ending] = self.formats.endings["chexmask"]
        names = [row.stem + ending for row in rows if row.stem + ending in row.outputs]
        tables = [read_chexmask(folder / name) for name in names if (folder / name).is_file()]
        if tables:
            found: dict[str, ChexmaskRow] = {}
            for name, table in zip(names, tables, strict=True):
                for image, row in table.items():
                    # Images of one name in several folders are told apart as their results are.
                    found[image if image not in found else name.removesuffix(ending)] = row
            write_chexmask(folder / CHEXMASK, found)


class TranslateImages(FileTask[Image, TranslatedImage]):
    """Give images the look of another domain.

    Args:
        model: a loaded checkpoint.
        found: the images.
        options: how they are read.

    Raises:
        OptionError: an option is not for radiographs.
    """

    one: ClassVar[str] = "image"
    done: ClassVar[tuple[str, ...]] = ("translated",)
    doing: ClassVar[str] = "translating"
    side_by_side: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = RADIOGRAPHS
    alone: ClassVar[str] = "{name} translates images; only a segmentation can be followed."
    formats = TranslatedImage.formats

    def __init__(self, model: Predictor, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        super().__init__([model], found, options, axes=2)
        self.model = model

    def read(self, job: Job[Path]) -> Image:
        """Read an image."""
        return read_radiograph(job.source, self.options)

    def compute(self, items: Sequence[Image]) -> list[TranslatedImage]:
        """Translate a batch."""
        return list(self.model.predict_batch(items, batch_size=len(items)))

    def compute_one(self, item: Image) -> TranslatedImage:
        """Translate one image."""
        found: TranslatedImage = self.model.predict(item)
        return found

    def save(
        self, result: TranslatedImage, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write image, picture and JSON, with the image's name alone for its path."""
        with self.plotting:
            self.told(result, job).save(folder, formats, job.stem)
        return {}


def read_radiograph(path: Path, options: ReadOptions) -> Image:
    """Read a radiograph as the options say.

    Raises:
        ImageError: it cannot be read.
    """
    spacing = options.spacing_mm
    return read_image(
        path,
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        invert=options.invert,
        allow_any_modality=options.allow_any_modality,
    )
