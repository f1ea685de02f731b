"""What the LightningModules of all methods share."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, ImageError
from anatozoo.io.intensity import check_intensity
from anatozoo.methods.guards import FitGuard, refuse_diverged, refuse_weights_alone
from anatozoo.methods.precision import PredictsInPrecision
from anatozoo.nn.half_precision import full_where_small

if TYPE_CHECKING:
    from anatozoo.io.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.io.intensity import Intensity
    from anatozoo.metrics.cases import Case
    from anatozoo.metrics.per_image import PerImageMean
    from anatozoo.results import SegmentationResult

PAIRED = ("lungs", "clavicles")
"""Names of organs that are two parts under one label."""
FRAGMENT = 0.05
"""Share of an organ's area outside its largest part from which on a result is flagged."""


class ZooModule(PredictsInPrecision, L.LightningModule):
    """A method of the zoo: network, losses and metrics set up in this order, JSON hyper-parameters only.

    Subclasses call ``super().__init__()`` and then `initialise` with their arguments.

    Attributes:
        architecture: hyper-parameters that make the network; a fit takes them over from its starting
            weights (``init_weights``) unless it is told otherwise.
        links: hyper-parameter -> setting of the data module that always has the same value; users give it
            once, on the model.
    """

    architecture: ClassVar[tuple[str, ...]] = ()
    links: ClassVar[Mapping[str, str]] = {}

    columns: list[str]
    val_metrics: "PerImageMean"
    test_metrics: "PerImageMean"
    checkpoint_name: str = "untrained"
    checkpoint_version: str = "0"
    intensity: "Intensity" = "percentiles"
    """How grey values become [0, 1]; methods that offer a choice have it among their settings."""

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
        self.intensity = self.hparams.get("intensity", "percentiles")
        check_intensity(self.intensity)
        self.configure_network()
        full_where_small(self)
        self.configure_losses()
        self.configure_metrics()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the method in a training run's file, so that the command line knows it again.

        Raises:
            DivergedError: a weight is NaN or infinite; good weights of before must not give way to it.
        """
        from anatozoo.methods.sources import METHOD_KEY
        from anatozoo.zoo.checkpoint import method_of

        refuse_diverged(checkpoint)
        with suppress(ConfigError):  # a module that nobody registered has no name
            checkpoint[METHOD_KEY] = method_of(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on from weights alone.

        Raises:
            ConfigError: a fit is resumed from a file without the state of a fit.
        """
        if self._trainer is not None and self._trainer.state.fn == "fit":
            refuse_weights_alone(checkpoint, self._trainer.ckpt_path)

    def configure_callbacks(self) -> list[L.Callback]:
        """What every fit is watched by."""
        return [FitGuard()]

    def configure_network(self) -> None:
        """Build the network from ``self.hparams``."""

    def configure_losses(self) -> None:
        """Prepare what the losses need."""

    def configure_metrics(self) -> None:
        """Say by `judge_by` what is measured."""

    def judge_by(self, columns: Sequence[str]) -> None:
        """Measure these columns in validation and test, one value per image over all processes.

        The progress bar shows the first. Subclasses give the values by `measure`.
        """
        from anatozoo.metrics.per_image import PerImageMean

        self.columns = list(columns)
        self.val_metrics, self.test_metrics = PerImageMean(len(columns)), PerImageMean(len(columns))

    def infer(self, batch: Mapping[str, Tensor]) -> Any:
        """The network's answer to a validation batch: computed once, for `measure` and `cases`."""
        raise TypeError(f"{type(self).__name__} does not define infer.")

    def measure(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The values of a batch, (B, columns); NaN where a column does not apply.

        Args:
            output: what `infer` gave.
            batch: the validation batch.
        """
        raise TypeError(f"{type(self).__name__} does not define measure.")

    def cases(self, output: Any, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Predictions beside what the data says, one per image of the batch, on the CPU.

        Args:
            output: what `infer` gave.
            batch: the validation batch; its ``spacing_mm`` (B, n), NaN where unknown, gives millimetres.
        """
        raise TypeError(f"{type(self).__name__} does not define cases.")

    def total(self, terms: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """The sum of the terms of a training step's loss; logs it and every term."""
        loss = torch.stack(list(terms.values())).sum()
        values = {f"train/{k}": v.detach() for k, v in terms.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=batch_size)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=batch_size)
        return loss

    def begins_afresh(self, stage: str) -> bool:
        """Prepare the network for a fit; whether the fit is fresh, so that it needs its starting weights."""
        if stage != "fit":
            return False
        # Convolutions train fastest so, on CPUs and tensor cores alike; maps follow the weights' format.
        # Before processes are joined, for these share gradients by the layout that they find.
        for part in self.children():
            part.to(memory_format=torch.channels_last)
        return self._trainer is None or not self.trainer.ckpt_path

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Collect the values of each image; callbacks find the answer under ``output``."""
        return self._judge(self.val_metrics, batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Collect the values of each image; callbacks find the answer under ``output``."""
        return self._judge(self.test_metrics, batch)

    def _judge(self, metric: "PerImageMean", batch: dict[str, Tensor]) -> dict[str, Any]:
        output = self.infer(batch)
        metric.update(batch["index"], self.measure(output, batch))
        return {"output": output}

    def on_validation_epoch_end(self) -> None:
        """Log the means over the validation images."""
        self._report("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the means over the test images."""
        self._report("test", self.test_metrics)

    def _report(self, stage: str, metric: "PerImageMean") -> None:
        means = metric.compute()
        metric.reset()
        for column, value in zip(self.columns, means, strict=True):
            shown = column == self.columns[0]
            # The metric has gathered the processes already.
            self.log(f"{stage}/{column}", value, prog_bar=shown, rank_zero_only=False, sync_dist=False)


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
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``, see `anatozoo.methods.precision`; None is
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
        from anatozoo.io.images import to_network

        if not images:
            return []
        frames, geometries = zip(
            *(to_network(image, self.image_size, self.intensity) for image in images), strict=True
        )
        if self.hparams.get("check_view"):
            from anatozoo.methods.chest_view import with_view_flags

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
        """Contours in pixels of the 1024 x 1024 frame; see `anatozoo.methods.base_cases.landmark_cases`."""
        from anatozoo.methods.base_cases import landmark_cases

        return landmark_cases(output, batch, self.organs)

    def _answers(self, batch: Tensor) -> np.ndarray:
        return self.forward_landmarks(batch).double().cpu().numpy() * self.image_size

    def _result(self, image: "Image", geometry: "Geometry", answer: np.ndarray) -> "SegmentationResult":
        from anatozoo.nn.contours import open_loops
        from anatozoo.nn.graphs import organ_slices
        from anatozoo.results import SegmentationResult

        contours, untangled = {}, []
        for organ, part in organ_slices(self.organs).items():
            opened = answer[part]
            # A contour that has shrunk to a point has no loops, only rounding.
            if np.ptp(opened, axis=0).max() > 0.01 * self.image_size:
                opened = open_loops(torch.from_numpy(opened)[None])[0].numpy()
            if not np.array_equal(opened, answer[part]):
                untangled.append(f"untangled_{organ}")
            contours[organ] = geometry.points_to_source(opened)
        return SegmentationResult(
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
        from anatozoo.results import SegmentationResult

        # Probabilities are resampled and then compared: a label map itself has no values in between.
        best = geometry.image_to_source(answer[0])
        labels = np.zeros(best.shape, np.uint8)
        for value, plane in enumerate(answer[1:], start=1):
            probability = geometry.image_to_source(plane)
            labels[probability > best] = value
            np.maximum(best, probability, out=best)
        return SegmentationResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image.source or image.name,
            size=image.size,
            spacing_mm=image.spacing_mm,
            landmarks={},
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
            elif areas[2 if organ in PAIRED else 1 :].sum() > FRAGMENT * areas.sum():
                flags.append(f"fragmented_{organ}")
        return tuple(flags)
