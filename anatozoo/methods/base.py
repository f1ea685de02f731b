"""What the LightningModules of all methods share."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from anatozoo.io.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.results import SegmentationResult


class ZooModule(L.LightningModule):
    """A method of the zoo: network, losses and metrics set up in this order, JSON hyper-parameters only.

    Subclasses call ``super().__init__()`` and then `initialise` with their arguments.
    """

    checkpoint_name: str = "untrained"
    checkpoint_version: str = "0"

    def initialise(self) -> None:
        """Save the hyper-parameters, check that they are JSON, and build the parts.

        Raises:
            ConfigError: a hyper-parameter is no JSON value, so that a checkpoint would need pickle.
        """
        try:
            plain = json.loads(json.dumps(dict(self.hparams)))
        except TypeError as error:
            raise ConfigError(f"hyper-parameters must be JSON values: {error}.") from error
        self.hparams.update(plain)
        # Lightning's command line notes here how it made the module, which is no argument of ours.
        self.hparams.pop("_instantiator", None)
        self.configure_network()
        self.configure_losses()
        self.configure_metrics()

    def configure_network(self) -> None:
        """Build the network from ``self.hparams``."""

    def configure_losses(self) -> None:
        """Prepare what the losses need."""

    def configure_metrics(self) -> None:
        """Build the metrics."""


class LandmarkModule(ZooModule):
    """A method that marks organ contours by landmarks on one 2-D image.

    Subclasses set `organs` and `image_size` and implement `forward_landmarks`.
    """

    organs: dict[str, int]
    image_size: int

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Landmarks (B, N, 2) in [0, 1] of the frame from images (B, 1, S, S) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not define forward_landmarks.")

    def predict(
        self,
        x: Any,
        *,
        spacing_mm: float | tuple[float, float] | None = None,
        invert: bool | None = None,
        allow_any_modality: bool = False,
    ) -> "SegmentationResult":
        """Segment one image of any size.

        Args:
            x: path, array (H, W), tensor, PIL or SimpleITK image, or an `anatozoo.io.images.Image`.
            spacing_mm: millimetres per pixel, one number or (x, y), where the file has none.
            invert: whether to flip the polarity; None follows the file.
            allow_any_modality: accept DICOM files that say they are no chest radiograph.

        Returns:
            Landmarks and masks in pixels of the source image.

        Raises:
            ImageError: the image cannot be read or is not of a kind that the model takes.
        """
        from anatozoo.io.images import read_image

        if isinstance(spacing_mm, int | float):
            spacing_mm = (spacing_mm, spacing_mm)
        image = read_image(x, spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality)
        return self._segment([image])[0]

    def predict_batch(
        self, xs: Iterable[Any], batch_size: int = 8, *, allow_any_modality: bool = False
    ) -> Iterator["SegmentationResult"]:
        """Segment many images, `batch_size` at a time; yields results in order, the same as `predict`'s.

        Raises:
            ConfigError: `batch_size` is below 1.
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
                yield from self._segment(batch)
                raise
            if len(batch) == batch_size:
                yield from self._segment(batch)
                batch = []
        yield from self._segment(batch)

    @torch.inference_mode()
    def _segment(self, images: Sequence["Image"]) -> list["SegmentationResult"]:
        from anatozoo.io.images import to_network

        if not images:
            return []
        frames, geometries = zip(*(to_network(image, self.image_size) for image in images), strict=True)
        batch = torch.from_numpy(np.stack(frames))[:, None].to(self.device, self._input_dtype())
        was_training = self.training
        self.eval()
        try:
            landmarks = self.forward_landmarks(batch).double().cpu().numpy() * self.image_size
        finally:
            self.train(was_training)
        return [self._result(*item) for item in zip(images, geometries, landmarks, strict=True)]

    def _input_dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _result(self, image: "Image", geometry: "Geometry", landmarks: np.ndarray) -> "SegmentationResult":
        from anatozoo.nn.graphs import organ_slices
        from anatozoo.results import SegmentationResult

        points = geometry.points_to_source(landmarks)
        contours = {organ: points[part] for organ, part in organ_slices(self.organs).items()}
        return SegmentationResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image.source or image.name,
            size=image.size,
            spacing_mm=image.spacing_mm,
            landmarks=contours,
            flags=(*image.flags, *self._flags(contours, image.size)),
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
