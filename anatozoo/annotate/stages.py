"""From a file to a record: decode, frame and network, estimate of quality, run lengths.

Every engine runs these, on one thread of a CPU or on a GPU, with batches that only the plan decides on. So
the same image gives the same record whoever computes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from anatozoo.annotate.plan import Item, Settings
from anatozoo.annotate.records import SIDE, Frame, Record
from anatozoo.annotate.sources import SourceGone, check_roots, open_item
from anatozoo.annotate.tries import REASON, Tries
from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.io.images import Image, read_image
from anatozoo.io.landmarks import rounded
from anatozoo.text import one_line

STAGES = ("decode", "network", "quality", "encode")
"""What the time of a shard is divided into; the network's includes its frame."""
_READERS = 2


class Stages:
    """The loaded model and atlas, and what they make of images.

    Args:
        settings: of the plan.
        device: where networks compute.

    Raises:
        AnatozooError: model or atlas cannot be loaded, or do not go together.

    Attributes:
        facts: what both are, see `anatozoo.annotate.plan.Plan`.
        cpu: stage -> seconds of this thread, and of those that read.
        wall: stage -> seconds by the clock; of reading, those that were waited for.
    """

    def __init__(self, settings: Settings, device: str = "cpu") -> None:
        import torch

        from anatozoo.serve.tasks import facts_of, kind_of
        from anatozoo.version import __version__
        from anatozoo.zoo.hub import load
        from anatozoo.zoo.kinds import CONTOURS, LABELS

        self.settings = settings
        self.model = load(settings.model, device=device, trainable=False)
        if kind_of(self.model) not in (CONTOURS, LABELS):
            raise ConfigError(
                f"{settings.model} does not segment radiographs; `anatozoo list` shows what does."
            )
        self.judge = None if settings.quality is None else _judge(settings, self.model, device)
        judged = [] if self.judge is None else [*facts_of(self.judge), str(self.judge.count)]
        self.facts: dict[str, Any] = {
            "anatozoo": __version__,
            "torch": torch.__version__.partition("+")[0],
            "model": list(facts_of(self.model)),
            "quality": judged,
            "organs": list(self.model.organs),
            "estimates": [] if self.judge is None else list(self.judge.columns),
        }
        self.cpu, self.wall = dict.fromkeys(STAGES, 0.0), dict.fromkeys(STAGES, 0.0)

    def run(
        self, items: Sequence[Item], roots: Sequence[str] = (), tries: Tries | None = None
    ) -> Iterator[Record]:
        """The records of images, in their order.

        The files of the next batch are read while this one is computed, and no more, so that memory does not
        grow with the number of images.

        Args:
            items: the images.
            roots: of their plan.
            tries: of these images; where it is careful, nothing is read ahead.

        Raises:
            SourceGone: a source is out of reach.
        """
        size, tries = self.settings.batch_size, tries or Tries()
        numbers = range(len(items))
        batches = [numbers[at : at + size] for at in range(0, len(items), size)]

        def read(number: int) -> tuple[Image | Record, float]:
            start = time.thread_time()
            if number in tries.deadly:
                return Record(items[number].id, items[number].location, "failed", REASON), 0.0
            tries.begin(number)
            return self._decoded(items[number], roots), time.thread_time() - start

        with ThreadPoolExecutor(1 if tries.careful else _READERS, thread_name_prefix="anatozoo") as pool:
            ahead: list[list[Future[tuple[Image | Record, float]]]] = []
            try:
                for at, batch in enumerate(batches):
                    for each in batches[at + len(ahead) : at + (1 if tries.careful else 2)]:
                        ahead.append([pool.submit(read, number) for number in each])
                    with self._timed("decode", cpu=False):
                        done = [future.result() for future in ahead.pop(0)]
                    self.cpu["decode"] += sum(seconds for _, seconds in done)
                    yield from self._records(items, batch, [each for each, _ in done], tries)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _decoded(self, item: Item, roots: Sequence[str]) -> Image | Record:
        if item.same_as:
            return Record(item.id, item.location, "duplicate", f"it has the content of {item.same_as}")
        settings = self.settings
        try:
            return read_image(
                open_item(item, roots),
                spacing_mm=settings.spacing_mm,
                invert=settings.invert,
                allow_any_modality=settings.allow_any_modality,
            )
        except SourceGone:
            raise
        except Exception as error:  # whatever is wrong with a file, the others go on
            check_roots(item.location, roots, error)
            return _failure(item, error)

    def _records(
        self, items: Sequence[Item], batch: Sequence[int], read: Sequence[Image | Record], tries: Tries
    ) -> Iterator[Record]:
        images = [each for each in read if isinstance(each, Image)]
        tries.begin(*(n for n, each in zip(batch, read, strict=True) if isinstance(each, Image)))
        with self._timed("network"):
            results = iter(self._segmented(images))
        for number, each in zip(batch, read, strict=True):
            item = items[number]
            if isinstance(each, Record):
                yield each
                continue
            result = next(results)
            if isinstance(result, Exception):
                yield _failure(item, result)
                continue
            tries.begin(number)
            try:
                yield self._record(item, each, result)
            except Exception as error:
                yield _failure(item, error)

    def _segmented(self, images: Sequence[Image]) -> list[Any]:
        """A result or an error for each image."""
        if not images:
            return []
        try:
            return list(self.model.predict_batch(images, batch_size=len(images)))
        except Exception:  # one of them is to blame, and only that one fails
            return [self._segmented_one(image) for image in images]

    def _segmented_one(self, image: Image) -> Any:
        try:
            return self.model.predict(image)
        except Exception as error:
            return error

    def _record(self, item: Item, image: Image, result: Any) -> Record:
        flags, estimates, chosen, reason = result.flags, {}, (), ""
        if self.judge is not None:
            with self._timed("quality"):
                judged = self._judged(image, result)
            if isinstance(judged, str):
                flags, reason = (*flags, "quality_not_estimated"), judged
            else:
                row, chosen = judged.row(), judged.chosen
                estimates = {name: row[name] for name in self.judge.columns if name in row}
        with self._timed("encode"):
            original, square = _frames(image, result)
            numbers = {f"area_px/{organ}": area for organ, area in result.areas_px.items()}
            if result.cardiothoracic_ratio is not None:
                numbers["cardiothoracic_ratio"] = result.cardiothoracic_ratio
            return Record(
                item.id,
                item.location,
                reason=reason,
                flags=tuple(flags),
                size=result.size,
                spacing_mm=result.spacing_mm,
                landmarks={
                    o: tuple(value for point in rounded(p) for value in point)
                    for o, p in result.landmarks.items()
                },
                original=original,
                square=square,
                numbers={name: float(f"{value:.6g}") for name, value in (numbers | estimates).items()},
                atlas_images=tuple(chosen),
            )

    def _judged(self, image: Image, result: Any) -> Any:
        """The estimate, or why there is none."""
        from anatozoo.io.annotation import Annotation
        from anatozoo.io.read import read_grid_image

        assert self.judge is not None
        try:
            masks = Annotation(result.size, masks=result.masks, spacing_mm=result.spacing_mm)
            return self.judge(read_grid_image(image, 2), masks)
        except AnatozooError as error:
            return one_line(str(error))

    @contextmanager
    def _timed(self, stage: str, cpu: bool = True) -> Iterator[None]:
        start, used = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.wall[stage] += time.perf_counter() - start
            if cpu:
                self.cpu[stage] += time.thread_time() - used


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: as many images at a time as there are cores are faster than one on all.

    It also makes sums the same on every machine, whatever the number of its cores.
    """
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _judge(settings: Settings, model: Any, device: str) -> Any:
    from anatozoo.quality.atlas import Atlas
    from anatozoo.quality.rca import COUNT
    from anatozoo.quality.selectors import selector_of
    from anatozoo.serve.quality import Judge, check_atlas
    from anatozoo.tasks.engines import LEARNED, engine_of

    assert settings.quality is not None
    atlas = Atlas.load(settings.quality)
    check_atlas(model, atlas)
    engine = engine_of(list(settings.registration) if settings.registration else LEARNED)
    for each in getattr(engine, "engines", (engine,)):
        if hasattr(each, "model"):
            each.model.to(device)
    return Judge(atlas, engine, settings.count or COUNT, selector=selector_of(settings.selector))


def _frames(image: Image, result: Any) -> tuple[Frame, Frame]:
    """The annotation in the image's own pixels and in CheXmask's square."""
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.landmarks import draw_organ_mask
    from anatozoo.io.rle import chexmask_row, encode_rle

    def frame(size: tuple[int, int], landmarks: Mapping[str, Any], masks: Mapping[str, Any]) -> Frame:
        runs = {organ: encode_rle(mask) for organ, mask in masks.items()}
        return Frame(chexmask_row(size, landmarks, {}).points, runs)

    original = frame(result.size, result.landmarks, result.masks)
    geometry = Geometry.fit(result.size, (SIDE, SIDE), aspect=image.aspect)
    if geometry.scale == (1.0, 1.0) and geometry.offset == (0.0, 0.0):
        return original, original
    points = {organ: geometry.points_to_target(each) for organ, each in result.landmarks.items()}
    if points:
        masks = {organ: draw_organ_mask(each, (SIDE, SIDE)) for organ, each in points.items()}
    else:
        masks = {organ: geometry.mask_to_target(mask) for organ, mask in result.masks.items()}
    return original, frame((SIDE, SIDE), points, masks)


def _failure(item: Item, error: Exception) -> Record:
    text = one_line(str(error))
    if not isinstance(error, AnatozooError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    # The same wherever the source is mounted.
    for path in (item.location, item.id):
        text = text.replace(f"{path!r}: ", "").replace(repr(path), "the file")
    return Record(item.id, item.location, "failed", text)
