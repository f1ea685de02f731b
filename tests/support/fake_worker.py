"""The computing process of a service with a model that misbehaves on pictures of certain widths.

Run as ``python -m tests.support.fake_worker`` in place of `anatozoo.service.worker`; needs no torch.
"""

import ctypes
import io
import os
import sys
import tempfile
import time
import types
from dataclasses import replace
from typing import Any

import PIL.Image

from anatozoo.io.images import read_image
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.serve.options import RADIOGRAPHS, ReadOptions
from anatozoo.service.models import Model
from anatozoo.zoo import hub
from anatozoo.zoo.kinds import CONTOURS, Kind
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom

SLOW, HANGS, CRASHES, EXITS, FAILS, LEAVES = 33, 34, 35, 36, 37, 38
"""Widths of pictures."""


def png(width: int = 60) -> bytes:
    """A phantom of this width as PNG."""
    file = io.BytesIO()
    PIL.Image.fromarray(make_chest_phantom(width, 64).image).save(file, "PNG")
    return file.getvalue()


class Misbehaving(FakeSegmenter):
    """Segments, but for some widths."""

    kind: Kind | None = None

    def predict(self, x: Any, **options: Any) -> SegmentationResult:
        image = read_image(x, **options)
        width = image.size[0]
        if width == SLOW:
            time.sleep(1.5)
        if width == HANGS:
            tempfile.mkstemp()
            time.sleep(600)
        if width == CRASHES:
            ctypes.string_at(0)
        if width == EXITS:
            os._exit(3)
        if width == FAILS:
            raise ValueError("of the patient Doe^Jane")
        if width == LEAVES:
            tempfile.mkstemp()
        return self._result(image)


class Job:
    """What `anatozoo.serve.images.SegmentImages` says of a run, without torch."""

    accepts, one, formats = RADIOGRAPHS, "image", SegmentationResult.formats

    def __init__(self, model: Any, found: Any, options: ReadOptions) -> None:
        options.check(self.accepts, model.checkpoint_name, f"{self.one}s")
        self.options = options.for_axes(2)


def load(name: str, **options: Any) -> Misbehaving:
    """A model of this name."""
    model = Misbehaving()
    model.kind = replace(CONTOURS, job="tests.support.fake_worker:Job")
    model.checkpoint_name = name
    # All that is imported by a first prediction now, so that none is slow on a busy machine.
    Model(model).answer(png(), [len(png())], "json", {})
    return model


if __name__ == "__main__":
    from anatozoo.service import worker

    hub.load = load  # type: ignore[assignment]
    # Torch takes seconds to import, and nothing is computed by it here.
    sys.modules["torch"] = types.SimpleNamespace(set_num_threads=lambda count: None)  # type: ignore[assignment]
    worker.main()
