"""Contours of organs by landmarks, from a 2-D image or from masks: all that landmarks share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.contours import open_loops
from anatozoo.nn.graphs import check_organs, organ_slices
from anatozoo.nn.raster import polygon_inside, soft_polygon
from anatozoo.tasks.images import ImageTask, SquareTask
from anatozoo.tasks.labels import labels_on_source
from anatozoo.tasks.signature import Signature, Tensors
from anatozoo.tasks.views import Maps, Points, over_background

if TYPE_CHECKING:
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.metrics.cases import Case
    from anatozoo.nn.hybridgnet import HybridGNetOutput
    from anatozoo.results.segmentation import SegmentationResult

MAP_SIDE = 128
"""Largest side of label maps drawn from contours, in pixels."""
MAP_SOFTNESS = 0.01
"""Softness of the border of such a map, as a share of its side."""
SAMPLES_SEED = 0
"""Seed of the samples of the latent code: the same image always gets the same."""


class Contours(SquareTask):
    """A model that marks organ contours by landmarks, whatever it looks at.

    Subclasses implement `forward_landmarks`.

    Args:
        organs: landmarks per organ, in order.
        frame: see `SquareTask`.
        **more: arguments of further bases.
    """

    offers: ClassVar = frozenset({"points", "maps"})

    organs: dict[str, int]

    def __init__(self, organs: Mapping[str, int], frame: FrameSpec | Mapping[str, Any], **more: Any) -> None:
        super().__init__(frame, **more)
        self.organs = check_organs(organs)

    @property
    def parts(self) -> dict[str, slice]:
        """Position of each organ's landmarks among all landmarks."""
        return organ_slices(self.organs)

    def columns(self) -> list[str]:
        """Error of the landmarks in pixels of the 1024 frame, and Dice of each organ."""
        return ["mse_px2", *(f"dice/{organ}" for organ in self.organs)]

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Landmarks (B, N, 2) in [0, 1] of the frame from images or planes (B, C, S, S) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not define forward_landmarks.")

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Landmarks (B, N, 2) in [0, 1] of the batch's ``image``."""
        return self.forward_landmarks(batch["image"])

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Contours in pixels of the 1024 x 1024 frame; see `anatozoo.tasks.cases.landmark_cases`."""
        from anatozoo.tasks.cases import landmark_cases

        return landmark_cases(output, batch, self.organs)

    def points(self, output: Any, batch: Mapping[str, Tensor]) -> Points:
        """Predicted with reference landmarks.

        Args:
            output: landmarks (B, N, 2) in [0, 1], or an output of the network that has them as ``landmarks``.
            batch: ``landmarks`` (B, N, 2) and ``landmark_weight`` (B, N).
        """
        return Points(_landmarks(output), batch["landmarks"], batch["landmark_weight"])

    def maps(self, output: Any, batch: Mapping[str, Tensor]) -> Maps:
        """The organs as soft label maps, drawn from the landmarks in a differentiable way.

        Later organs cover earlier ones.

        Args:
            output: see `points`.
            batch: ``landmarks`` (B, N, 2) and ``landmark_weight`` (B, N), above 0 where one is known.
        """
        size, found, parts = min(MAP_SIDE, self.side), _landmarks(output).float(), self.parts.values()
        soft = [soft_polygon(found[:, part], size, MAP_SOFTNESS) for part in parts]
        hard = [polygon_inside(batch["landmarks"][:, part], size, size).float() for part in parts]
        known = [(batch["landmark_weight"][:, part] > 0).all(1) for part in parts]
        return Maps(over_background(soft), over_background(hard), torch.stack(known, 1))

    def _contours(self, answer: np.ndarray, geometry: "Geometry") -> tuple[dict[str, np.ndarray], list[str]]:
        """Contours in source pixels without their small loops, and a flag for each that had one.

        Args:
            answer: landmarks (N, 2) in pixels of the frame.
            geometry: from the source to the frame.
        """
        contours, untangled = {}, []
        for organ, part in self.parts.items():
            opened = answer[part]
            # Loops of a contour that has shrunk to a point are rounding errors.
            if np.ptp(opened, axis=0).max() > 0.01 * self.side:
                opened = open_loops(torch.from_numpy(opened)[None])[0].numpy()
            if not np.array_equal(opened, answer[part]):
                untangled.append(f"untangled_{organ}")
            contours[organ] = geometry.points_to_source(opened)
        return contours, untangled

    def _flags(
        self, contours: dict[str, np.ndarray], size: tuple[int, int], beside: Sequence[np.ndarray] = ()
    ) -> tuple[str, ...]:
        """Flags of results that a person should check.

        Args:
            contours: of the organs that the result holds, in pixels of the source.
            size: (width, height) of the source.
            beside: contours of other organs, which count only where it is asked how large the anatomy is.
        """
        from anatozoo.metrics.contours import self_intersections

        limit = np.asarray(size, dtype=float)
        every = np.concatenate(list(contours.values()))
        flags = []
        if ((every < -1) | (every > limit)).any(1).mean() > 0.05:
            flags.append("landmarks_outside_image")
        if np.ptp(np.concatenate([every, *beside]), axis=0).max() < 0.2 * limit.max():
            flags.append("very_small_anatomy")
        flags += [f"self_intersecting_{o}" for o, points in contours.items() if self_intersections(points)]
        return tuple(flags)


def _landmarks(output: Any) -> Tensor:
    landmarks: Tensor = getattr(output, "landmarks", output)
    return landmarks


class ContourTask(Contours, ImageTask):
    """A model that marks organ contours by landmarks on one 2-D image.

    Subclasses implement `forward_landmarks`, those with a latent code `forward_samples`, and those that give
    masks beside the contours `forward_with_masks`.

    Args:
        organs: landmarks per organ, in order.
        frame: see `ImageTask`.
        check_view: see `ImageTask`.
    """

    organs: dict[str, int]

    def __init__(
        self, organs: Mapping[str, int], frame: FrameSpec | Mapping[str, Any], check_view: bool = False
    ) -> None:
        super().__init__(organs, frame, check_view=check_view)

    @property
    def has_latent(self) -> bool:
        """Whether `forward_samples` is implemented."""
        return type(self).forward_samples is not ContourTask.forward_samples

    @property
    def has_masks(self) -> bool:
        """Whether the network gives masks beside the contours, by `forward_with_masks`."""
        return False

    def forward_with_masks(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """The landmarks of `forward_landmarks`, and the probabilities of masks that do not come from them.

        Args:
            image: (B, 1, S, S) in [0, 1].

        Returns:
            Landmarks (B, N, 2) in [0, 1] of the frame, and probabilities (B, 1 + organs, S, S), background
            first, or None.
        """
        return self.forward_landmarks(image), None

    def forward_samples(self, image: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Landmarks (B, samples, N, 2) in [0, 1] of the frame, from codes drawn for images (B, 1, S, S).

        Args:
            image: (B, 1, S, S) in [0, 1].
            samples: codes for each image; all images get the same random numbers.
            generator: draws them, on the CPU.
        """
        raise TypeError(f"{type(self).__name__} does not define forward_samples.")

    def signature(self) -> Signature:
        """Landmarks of an image, and the probabilities of masks beside them."""
        meaning = "x, y as shares of the frame's side, counted from the middle of its first pixel"
        outputs = [Tensors("landmarks", (sum(self.organs.values()), 2), meaning)]
        if self.has_masks:
            meaning = "probabilities of the labels, background first"
            outputs.append(Tensors("masks", (1 + len(self.organs), *self.shape), meaning))
        return Signature((self.image_tensors(),), tuple(outputs))

    def computed(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Landmarks, and masks where the network gives them."""
        landmarks, masks = self.forward_with_masks(*inputs)
        return (landmarks,) if masks is None else (landmarks, masks)

    def _answers(self, batch: Tensor) -> Sequence[Any]:
        return self._apart(*self.computed(batch))

    def _samples(self, batch: Tensor, samples: int) -> Sequence[Any]:
        generator = torch.Generator().manual_seed(SAMPLES_SEED)
        found = self.forward_samples(batch, samples, generator)
        # Masks are those of the mean code: labels have no mean.
        return self._apart(found, self.forward_with_masks(batch)[1] if self.has_masks else None)

    def _apart(self, landmarks: Tensor, masks: Tensor | None = None) -> Sequence[Any]:
        """Landmarks in pixels of the frame and probabilities of the masks or None, image by image."""
        pixels = landmarks.double().cpu().numpy() * self.side
        planes = [None] * len(pixels) if masks is None else masks.float().cpu().numpy()
        return list(zip(pixels, planes, strict=True))

    def _result(self, image: "Image", geometry: "Geometry", answer: Any) -> "SegmentationResult":
        from anatozoo.results.contours import ContourResult
        from anatozoo.results.shares import SampledContours

        answer, planes = answer
        sigma = shares = None
        if answer.ndim == 3:
            deviation = answer.std(0, ddof=1) / geometry.scale
            sigma = {organ: deviation[part] for organ, part in self.parts.items()}
            drawn = geometry.points_to_source(answer).astype(np.float32)
            shares = SampledContours(
                {organ: drawn[:, part] for organ, part in self.parts.items()}, image.size
            )
        mean = answer if sigma is None else answer.mean(0)
        contours, untangled = self._contours(mean, geometry)
        result = ContourResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image.source or image.name,
            size=image.size,
            spacing_mm=image.spacing_mm,
            landmarks=contours,
            flags=(*image.flags, *self._flags(contours, image.size), *untangled),
            dicom=image.dicom,
            shares=shares,
            pixels=image.pixels,
            sigma=sigma,
            samples=None if sigma is None else len(answer),
            label_map=None if planes is None else labels_on_source(planes, geometry),
        )
        return (
            replace(result, flags=(*result.flags, *result.disagreements)) if result.disagreements else result
        )


class NetworkContourTask(ContourTask):
    """A model of contours whose `network` gives all its outputs for an image, the landmarks among them."""

    network: Any

    def forward(self, image: Tensor) -> "HybridGNetOutput":
        """All outputs for images (B, 1, S, S) in [0, 1]."""
        output: HybridGNetOutput = self.network(image)
        return output

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Final landmarks (B, N, 2) in [0, 1]."""
        return self(image).landmarks
