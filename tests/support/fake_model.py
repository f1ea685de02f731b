"""A model without a network, for everything that happens around a model."""

from collections.abc import Iterable, Iterator
from typing import Any

from anatozoo.io.images import Image, read_image
from anatozoo.results.contours import ContourResult
from anatozoo.results.segmentation import SegmentationResult
from tests.support.phantoms import NODES, make_chest_phantom


class FakeSegmenter:
    """Answers with a phantom's contours, scaled to the image; counts calls, fails for the names in `bad`."""

    checkpoint_name = "fake-phantom"
    checkpoint_version = "1.0.0"
    organs = NODES

    def __init__(self, bad: Iterable[str] = ()) -> None:
        self.bad = set(bad)
        self.seen: list[str] = []
        self.batches: list[int] = []

    def predict(self, x: Any) -> SegmentationResult:
        image = read_image(x)
        self.seen.append(image.name)
        return self._result(image)

    def predict_batch(self, xs: Iterable[Any], batch_size: int = 8) -> Iterator[SegmentationResult]:
        images = [read_image(x) for x in xs]
        self.batches.append(len(images))
        self.seen += [image.name for image in images]
        results = [self._result(image) for image in images]
        yield from results

    def _result(self, image: Image) -> SegmentationResult:
        if image.name in self.bad:
            raise RuntimeError(f"the network\ncannot do {image.name}")
        width, height = image.size
        unit = make_chest_phantom(64, 64, noise=0).landmarks
        landmarks = {organ: (points + 0.5) / 64 * (width, height) - 0.5 for organ, points in unit.items()}
        return ContourResult(
            self.checkpoint_name,
            self.checkpoint_version,
            image.source or image.name,
            image.size,
            image.spacing_mm,
            landmarks,
            flags=image.flags,
            pixels=image.pixels,
            dicom=image.dicom,
        )
