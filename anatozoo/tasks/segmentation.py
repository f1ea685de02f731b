"""What the LightningModules share that find organs on one 2-D image, by landmarks or by masks."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, ImageError
from anatozoo.io.annotation import parts_of
from anatozoo.training.module import FRAGMENT, ZooModule

if TYPE_CHECKING:
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.metrics.cases import Case
    from anatozoo.results.segmentation import SegmentationResult

"""Names of organs that are two parts under one label."""


class SegmentationModule(ZooModule):
    """A method that finds organs on one 2-D image; subclasses say what the network answers.

    Subclasses set `organs` and `image_size`; a hyper-parameter ``check_view`` asks for `chest_view`'s flags.
    """

    organs: Any
    image_size: int

    def predict(
        self,
        x: Any,
        *,
        spacing_mm: float | tuple[float, float] | None = None,
        invert: bool | None = None,
        allow_any_modality: bool = False,
        precision: str | None = None,
    ) -> "SegmentationResult":
        """Segment one image of any size.

        Args:
            x: path, array (H, W), tensor, PIL or SimpleITK image, or an `anatozoo.io.images.Image`.
            spacing_mm: millimetres per pixel, one number or (x, y), where the file has none.
            invert: whether to flip the polarity; None follows the file.
            allow_any_modality: accept DICOM files that say they are no chest radiograph.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``, see `anatozoo.tasks.precision`; None is
                what the attribute of this name says, ``"32"``.

        Returns:
            Landmarks or a label map, in pixels of the source image.

        Raises:
            ImageError: the image cannot be read or is not of a kind that the model takes.
            ConfigError: the precision is not possible.
        """
        from anatozoo.io.images import read_image

        if isinstance(spacing_mm, int | float):
            spacing_mm = (spacing_mm, spacing_mm)
        image = read_image(x, spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality)
        return self._segment([image], precision)[0]

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 8,
        *,
        allow_any_modality: bool = False,
        precision: str | None = None,
    ) -> Iterator["SegmentationResult"]:
        """Segment many images, `batch_size` at a time; yields results in order, the same as `predict`'s.

        Raises:
            ConfigError: `batch_size` is below 1, or the precision is not possible.
            ImageError: an image cannot be read; the ones before it have been yielded.
        """
        from anatozoo.io.images import read_image

        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size} must be at least 1.")
        batch: list[Image] = []
        for x in xs:
            try:
                batch.append(read_image(x, allow_any_modality=allow_any_modality))
            except ImageError:
                yield from self._segment(batch, precision)
                raise
            if len(batch) == batch_size:
                yield from self._segment(batch, precision)
                batch = []
        yield from self._segment(batch, precision)

    @torch.inference_mode()
    def _segment(self, images: Sequence["Image"], precision: str | None = None) -> list["SegmentationResult"]:
        from anatozoo.frames.square import to_network

        if not images:
            return []
        frames, geometries = zip(
            *(to_network(image, self.image_size, self.intensity) for image in images), strict=True
        )
        if self.hparams.get("check_view"):
            from anatozoo.tasks.chest_view import with_view_flags

            stretched = self.intensity == "percentiles"
            images = with_view_flags(
                images, frames if stretched else [to_network(image, self.image_size)[0] for image in images]
            )
        batch = torch.from_numpy(np.stack(frames))[:, None].to(self.device, self._input_dtype())
        was_training = self.training
        self.eval()
        try:
            with self.in_precision(precision):
                answers = self._answers(batch)
        finally:
            self.train(was_training)
        return [self._result(*item) for item in zip(images, geometries, answers, strict=True)]

    def _input_dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @abstractmethod
    def _answers(self, batch: Tensor) -> np.ndarray:
        """What the network says about images (B, 1, S, S), one answer per image."""

    @abstractmethod
    def _result(self, image: "Image", geometry: "Geometry", answer: np.ndarray) -> "SegmentationResult":
        """Bring one answer to the source image."""


class LandmarkModule(SegmentationModule):
    """A method that marks organ contours by landmarks on one 2-D image.

    Subclasses set `organs` (landmarks per organ, in order) and `image_size`, and implement
    `forward_landmarks`.
    """

    organs: dict[str, int]

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Landmarks (B, N, 2) in [0, 1] of the frame from images (B, 1, S, S) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not define forward_landmarks.")

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Landmarks (B, N, 2) in [0, 1] of the batch's ``image``."""
        return self.forward_landmarks(batch["image"])

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Contours in pixels of the 1024 x 1024 frame; see `anatozoo.tasks.cases.landmark_cases`."""
        from anatozoo.tasks.cases import landmark_cases

        return landmark_cases(output, batch, self.organs)

    def _answers(self, batch: Tensor) -> np.ndarray:
        return self.forward_landmarks(batch).double().cpu().numpy() * self.image_size

    def _result(self, image: "Image", geometry: "Geometry", answer: np.ndarray) -> "SegmentationResult":
        from anatozoo.nn.contours import open_loops
        from anatozoo.nn.graphs import organ_slices
        from anatozoo.results.contours import ContourResult

        contours, untangled = {}, []
        for organ, part in organ_slices(self.organs).items():
            opened = answer[part]
            # A contour that has shrunk to a point has no loops, only rounding.
            if np.ptp(opened, axis=0).max() > 0.01 * self.image_size:
                opened = open_loops(torch.from_numpy(opened)[None])[0].numpy()
            if not np.array_equal(opened, answer[part]):
                untangled.append(f"untangled_{organ}")
            contours[organ] = geometry.points_to_source(opened)
        return ContourResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image.source or image.name,
            size=image.size,
            spacing_mm=image.spacing_mm,
            landmarks=contours,
            flags=(*image.flags, *self._flags(contours, image.size), *untangled),
            pixels=image.pixels,
        )

    def _flags(self, contours: dict[str, np.ndarray], size: tuple[int, int]) -> tuple[str, ...]:
        """Cheap signs that a result should be looked at."""
        from anatozoo.metrics.contours import self_intersections

        limit = np.asarray(size, dtype=float)
        every = np.concatenate(list(contours.values()))
        flags = []
        if ((every < -1) | (every > limit)).any(1).mean() > 0.05:
            flags.append("landmarks_outside_image")
        if np.ptp(every, axis=0).max() < 0.2 * limit.max():
            flags.append("very_small_anatomy")
        flags += [f"self_intersecting_{o}" for o, points in contours.items() if self_intersections(points)]
        return tuple(flags)


class MaskModule(SegmentationModule):
    """A method that gives each pixel of one 2-D image one label.

    Subclasses set `organs` (in the order of their labels 1, 2, ...) and `image_size`, and implement
    `forward_logits`. Labels exclude one another: where the heart covers a lung, the pixel is heart.
    """

    organs: list[str]

    def forward_logits(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, S, S), background first, from images (B, 1, S, S) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not define forward_logits.")

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1 + organs, S, S) of the batch's ``image``."""
        return self.forward_logits(batch["image"])

    def _answers(self, batch: Tensor) -> np.ndarray:
        return self.forward_logits(batch).float().softmax(1).cpu().numpy()

    def _result(self, image: "Image", geometry: "Geometry", answer: np.ndarray) -> "SegmentationResult":
        from anatozoo.results.labels import LabelResult

        # Probabilities are resampled and then compared: a label map itself has no values in between.
        best = geometry.image_to_source(answer[0])
        labels = np.zeros(best.shape, np.uint8)
        for value, plane in enumerate(answer[1:], start=1):
            probability = geometry.image_to_source(plane)
            labels[probability > best] = value
            np.maximum(best, probability, out=best)
        return LabelResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image.source or image.name,
            size=image.size,
            spacing_mm=image.spacing_mm,
            flags=(*image.flags, *self._flags(labels)),
            pixels=image.pixels,
            label_map=labels,
            classes=tuple(self.organs),
        )

    def _flags(self, labels: np.ndarray) -> tuple[str, ...]:
        """Cheap signs that a result should be looked at."""
        import cv2

        flags = []
        rows, columns = (np.flatnonzero((labels > 0).any(axis)) for axis in (1, 0))
        if not len(rows) or max(np.ptp(rows), np.ptp(columns)) < 0.2 * max(labels.shape):
            flags.append("very_small_anatomy")
        for value, organ in enumerate(self.organs, start=1):
            _, _, parts, _ = cv2.connectedComponentsWithStats((labels == value).view(np.uint8))
            areas = np.sort(parts[1:, cv2.CC_STAT_AREA])[::-1]
            if not len(areas):
                flags.append(f"missing_{organ}")
            elif areas[len(parts_of(organ)) :].sum() > FRAGMENT * areas.sum():
                flags.append(f"fragmented_{organ}")
        return tuple(flags)
