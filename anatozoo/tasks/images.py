"""Models of 2-D images of any size, and segmentation by landmarks or masks."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.tasks.base import Answer, Predictor, in_batches
from anatozoo.tasks.signature import Tensors

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.results.segmentation import SegmentationResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial


class SquareTask(Predictor):
    """A model whose frame is a square that shows the whole of a 2-D image.

    Args:
        frame: its size is one side, its fit ``"pad"``.
    """

    def __init__(self, frame: FrameSpec | Mapping[str, Any]) -> None:
        super().__init__(frame)
        self.frame.require(2, ("pad",))
        if len(set(self.shape)) != 1:
            raise ConfigError(f"the frame's size={self.frame.size} must be one side of a square here.")

    @property
    def side(self) -> int:
        """Side S of the square frame in pixels."""
        return self.shape[0]

    def _read_image(
        self,
        x: Any,
        spacing_mm: float | tuple[float, float] | None,
        invert: bool | None,
        allow_any_modality: bool,
    ) -> "Image":
        """An image as `predict` is given it; see there for the arguments and errors."""
        from anatozoo.io.images import read_image

        if isinstance(spacing_mm, int | float):
            spacing_mm = (spacing_mm, spacing_mm)
        return read_image(x, spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality)


class AnsweringTask(SquareTask, Generic[Answer]):
    """A model of 2-D images whose answers need nothing but the image: no samples, no organs."""

    batched: ClassVar = True

    @abstractmethod
    def results(self, images: "Sequence[Image]", precision: str | None = None) -> list[Answer]:
        """The answers to images, which are computed together.

        Args:
            images: as read.
            precision: see `predict`.
        """

    def predict(
        self,
        x: Any,
        *,
        spacing_mm: float | tuple[float, float] | None = None,
        invert: bool | None = None,
        allow_any_modality: bool = False,
        precision: str | None = None,
    ) -> Answer:
        """The answer to one image of any size.

        Args:
            x: path, bytes, binary file object, pydicom data set, array (H, W), tensor, PIL or SimpleITK
                image, or an `anatozoo.io.images.Image`; see `anatozoo.io.images.read_image`.
            spacing_mm: millimetres per pixel, one number or (x, y), if the file has none.
            invert: whether to flip the polarity; None follows the file.
            allow_any_modality: accept DICOM files that are not declared as chest radiographs.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.

        Raises:
            ImageError: the image cannot be read or is not of a kind that the model takes.
            ConfigError: the precision is not possible.
        """
        image = self._read_image(x, spacing_mm, invert, allow_any_modality)
        return self.results([image], precision)[0]

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 8,
        *,
        allow_any_modality: bool = False,
        precision: str | None = None,
        on_error: str = "raise",
    ) -> Iterator[Answer]:
        """Answers to many images, `batch_size` at a time, in order, the same as `predict`'s.

        Args:
            xs: whatever `predict` takes.
            batch_size: how many are computed together.
            allow_any_modality: see `predict`.
            precision: see `predict`.
            on_error: ``"raise"``, or ``"record"``: an image that fails gives an
                `anatozoo.tasks.base.FailedInput` in its place, which is false, and the others their results.

        Raises:
            ConfigError: `batch_size` is below 1, or precision or on_error are not possible.
            ImageError: an image cannot be read; the ones before it have been yielded.
        """
        from anatozoo.io.images import read_image

        return in_batches(
            xs,
            batch_size,
            lambda x: read_image(x, allow_any_modality=allow_any_modality),
            lambda images: self.results(images, precision),
            on_error,
        )


class ImageTask(SquareTask):
    """A model that segments organs on one 2-D image, in a square frame that shows the whole image.

    Args:
        frame: frame of the network; its size is one side, its fit ``"pad"``.
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.

    Attributes:
        organs: names of the organs.
        samples: default of the argument of `predict`; see `sampled`.
    """

    conditions: ClassVar = frozenset({"exclusive", "occlusion", "samples"})
    batched: ClassVar = True

    organs: Any
    samples: int | None = None

    def __init__(self, frame: FrameSpec | Mapping[str, Any], check_view: bool = False) -> None:
        super().__init__(frame)
        self.check_view = check_view

    def image_tensors(self) -> Tensors:
        """The image as the network takes it, for `signature`."""
        return Tensors("image", (1, *self.shape), "grey values in [0, 1], 0 around the image")

    def predict(
        self,
        x: Any,
        *,
        spacing_mm: float | tuple[float, float] | None = None,
        invert: bool | None = None,
        allow_any_modality: bool = False,
        precision: str | None = None,
        samples: int | None = None,
    ) -> "SegmentationResult":
        """Segment one image of any size.

        Args:
            x: path, bytes, binary file object, pydicom data set, array (H, W), tensor, PIL or SimpleITK
                image, or an `anatozoo.io.images.Image`; see `anatozoo.io.images.read_image`.
            spacing_mm: millimetres per pixel, one number or (x, y), if the file has none.
            invert: whether to flip the polarity; None follows the file.
            allow_any_modality: accept DICOM files that are not declared as chest radiographs.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.
            samples: of models with a latent code, draw so many codes, 2 to 1000, and give the mean of their
                landmarks and the standard deviation, see `anatozoo.results.contours.ContourResult`. The
                same image always gets the same codes. None takes the attribute of this name; None there
                predicts from the mean of the code.

        Returns:
            Landmarks or a label map, in pixels of the source image.

        Raises:
            ImageError: the image cannot be read or is not of a kind that the model takes.
            ConfigError: the precision is not possible, the number of samples neither, or the model has no
                latent code.
        """
        image = self._read_image(x, spacing_mm, invert, allow_any_modality)
        return self._segment([image], precision, self.sampled(samples))[0]

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 8,
        *,
        allow_any_modality: bool = False,
        precision: str | None = None,
        samples: int | None = None,
        on_error: str = "raise",
    ) -> Iterator["SegmentationResult"]:
        """Segment many images, `batch_size` at a time; yields results in order, the same as `predict`'s.

        Args:
            xs: whatever `predict` takes.
            batch_size: how many are computed together.
            allow_any_modality: see `predict`.
            precision: see `predict`.
            samples: see `predict`.
            on_error: ``"raise"``, or ``"record"``: an image that fails gives an
                `anatozoo.tasks.base.FailedInput` in its place, which is false, and the others their results.

        Raises:
            ConfigError: `batch_size` is below 1, or precision, samples or on_error are not possible.
            ImageError: an image cannot be read; the ones before it have been yielded.
        """
        from anatozoo.io.images import read_image

        count = self.sampled(samples)
        return in_batches(
            xs,
            batch_size,
            lambda x: read_image(x, allow_any_modality=allow_any_modality),
            lambda images: self._segment(images, precision, count),
            on_error,
        )

    def sampled(self, samples: Any) -> int | None:
        """How many codes are drawn for an image; None draws none.

        Args:
            samples: the number; None takes the attribute of this name.

        Raises:
            ConfigError: it is not a whole number from 2 to 1000, or the model has no latent code.
        """
        from anatozoo.results.contours import checked_samples

        samples = self.samples if samples is None else samples
        if samples is None:
            return None
        count = checked_samples(samples)
        if not self.has_latent:
            raise ConfigError(
                f"{self.checkpoint_name} has no latent code to draw samples of; leave samples out, or take a "
                "checkpoint of hybridgnet."
            )
        return count

    @property
    def has_latent(self) -> bool:
        """Whether the model draws contours from a latent code of which samples can be taken."""
        return False

    def usable(self, case: "DataCase") -> bool:
        """Whether there is an image, and anything annotated: what both sides know is compared."""
        return case.image is not None and case.labelled

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """Each radiograph, judged by its landmarks or else its masks; see `anatozoo.tasks.chest_cases`.

        Raises:
            ConfigError: the spacing of the conditions is more than one number.
        """
        from anatozoo.tasks.chest_cases import chest_trials

        return chest_trials(cases, how, self._trial)

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[Image, Judge]":
        from anatozoo.io.grid import Grid
        from anatozoo.metrics.occlusion import occlude
        from anatozoo.tasks.chest_cases import compared

        image = case.read_flat()
        if how.occlusion is not None:
            image = occlude(image, *how.occlusion)
        grid = Grid(image.size, image.spacing_mm)
        return image, lambda result: compared(case.read_drawn(tuple(self.organs), grid), result, how)

    @torch.inference_mode()
    def _segment(
        self, images: Sequence["Image"], precision: str | None = None, samples: int | None = None
    ) -> list["SegmentationResult"]:
        from anatozoo.frames.square import to_network

        intensity = self.frame.intensity
        frames, geometries = zip(*(to_network(image, self.side, intensity) for image in images), strict=True)
        if self.check_view:
            from anatozoo.tasks.chest_view import with_view_flags

            stretched = intensity == "percentiles"
            images = with_view_flags(
                images, frames if stretched else [to_network(image, self.side)[0] for image in images]
            )
        batch = self.tensor(np.stack(frames)[:, None])
        with self.answering(precision):
            answers = self._answers(batch) if samples is None else self._samples(batch, samples)
        return [self._result(*item) for item in zip(images, geometries, answers, strict=True)]

    @abstractmethod
    def _answers(self, batch: Tensor) -> Sequence[Any]:
        """The network's output for images (B, 1, S, S), one answer per image."""

    def _samples(self, batch: Tensor, samples: int) -> Sequence[Any]:
        """Several outputs for images (B, 1, S, S), (B, samples, ...), of models that `has_latent`."""
        raise TypeError(f"{type(self).__name__} does not define _samples.")

    @abstractmethod
    def _result(self, image: "Image", geometry: "Geometry", answer: Any) -> "SegmentationResult":
        """The result of one answer, or of several samples of it, on the source image."""
