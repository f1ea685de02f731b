"""The computing process of a service with a model that misbehaves on pictures of certain widths.

Run as ``python -m tests.support.fake_worker`` in place of `anatozoo.service.worker`; needs no torch.
"""

import ctypes
import os
import sys
import tempfile
import time
import types
from typing import Any

from anatozoo.io.images import read_image
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.zoo import hub
from tests.support.fake_model import FakeSegmenter

SLOW, HANGS, CRASHES, EXITS, FAILS, LEAVES = 33, 34, 35, 36, 37, 38
"""Widths of pictures."""


class Misbehaving(FakeSegmenter):
    """Segments, but for some widths."""

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


def load(name: str, **options: Any) -> Misbehaving:
    """A model of this name."""
    model = Misbehaving()
    model.checkpoint_name = name
    return model


if __name__ == "__main__":
    from anatozoo.service import worker

    hub.load = load  # type: ignore[assignment]
    sys.modules["torch"] = types.SimpleNamespace(set_num_threads=lambda count: None)  # type: ignore[assignment]
    worker.main()
