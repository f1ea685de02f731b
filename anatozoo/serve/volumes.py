"""Segment volumes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from anatozoo.errors import ConfigError
from anatozoo.results_volume import VolumeResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.inputs import Found
from anatozoo.serve.outputs import VOLUMES, Formats
from anatozoo.serve.plan import DEFAULT_OPTIONS, Job, ReadOptions
from anatozoo.serve.tasks import Model


class VolumeSegmenter(Model, Protocol):
    """What a model needs to segment volumes.

    Attributes:
        shape: (D, H, W) of the network's frame.
    """

    shape: tuple[int, ...]

    def predict(self, x: Any, *, spacing_mm: Any = ...) -> VolumeResult:
        """Segment one volume: a path, an array or a SimpleITK image."""


class SegmentVolumes(FileTask[Path, VolumeResult]):
    """Segment volumes in files, one file a volume, one after another.

    Args:
        model: a loaded checkpoint.
        found: the volumes.
        options: how they are read.

    Raises:
        ConfigError: the spacing is not of three numbers, or an option is for radiographs.
    """

    one: ClassVar[str] = "volume"
    done: ClassVar[str] = "segmented"
    doing: ClassVar[str] = "segmenting"
    largest_batch: ClassVar[int | None] = 1

    def __init__(self, model: VolumeSegmenter, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        if options.spacing_mm is not None and len(options.spacing_mm) != 3:
            raise ConfigError(f"spacing_mm={options.spacing_mm} must be (x, y, z) for volumes.")
        if options.invert is not None or options.allow_any_modality:
            raise ConfigError(
                "invert and allow_any_modality are for radiographs, and this model is for volumes."
            )
        super().__init__([model], found, options)
        self.model, self.options = model, options
        # Matplotlib promises nothing to threads.
        self._plotting = threading.Lock()

    @property
    def formats(self) -> Formats:
        """The formats of the results."""
        return VOLUMES

    def read(self, job: Job[Path]) -> Path:
        """Nothing: the model reads volumes itself, for it knows in what order their axes have to be."""
        return job.source

    def compute(self, items: Sequence[Path]) -> list[VolumeResult]:
        """Segment volumes one after another."""
        return [self.compute_one(item) for item in items]

    def compute_one(self, item: Path) -> VolumeResult:
        """Segment one volume."""
        return self.model.predict(item, spacing_mm=self.options.spacing_mm)

    def save(
        self, result: VolumeResult, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write label map, picture and JSON, with the volume's name alone for its path."""
        with self._plotting:
            replace(result, image=job.source.name).save(folder, formats, job.stem)
        return {}
