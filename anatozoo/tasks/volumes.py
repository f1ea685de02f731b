"""From a volume of any size to a `VolumeResult`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import labels_on_grid, largest_plane
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import StackFrame, fit_frame
from anatozoo.io.read import read_stack
from anatozoo.nn.labels import check_labels, one_hot
from anatozoo.nn.windows import in_windows
from anatozoo.tasks.base import FRAGMENT, Predictor, in_batches
from anatozoo.tasks.cases import label_cases
from anatozoo.tasks.signature import Signature, Tensors
from anatozoo.tasks.temperature import Probabilities, checked_temperature, judged_too
from anatozoo.tasks.views import Maps

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.io.grid import GridImage
    from anatozoo.metrics.cases import Case
    from anatozoo.results.volume import VolumeResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial

WIDER = 1.5
"""Size of the second view of slices relative to the network's frame, along each axis."""
OVERLAP = 0.25
"""Overlap of neighbouring windows, as a share of their size."""
ORDERS_AGREE = 0.7
"""Results are flagged if an organ's Dice between the two orders of slices is lower."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a model sees of a volume.

    Attributes:
        frame: the frame that it looked at.
        probability: (1 + organs, ...) in it.
        flags: remarks.
        votes: of ensembles, the probabilities of each member (members, 1 + organs, ...).
    """

    frame: Frame
    probability: npt.NDArray[np.float32]
    flags: tuple[str, ...] = ()
    votes: npt.NDArray[np.float32] | None = None


class VolumeTask(Predictor):
    """A model that gives each voxel of a volume one label.

    Subclasses set `network`, which gives logits, or implement `forward`.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: three-dimensional input of the network.
        one_part: keep only the largest connected component of all organs together, for organs that touch one
            another as those of the heart do.
        temperature: what logits are divided by where `probabilities` are asked for, see
            `anatozoo.tasks.temperature`; label maps and training do not depend on it.

    Attributes:
        sees_parts: whether the network may process a volume in windows; else it sees one frame of it.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset({"maps"})
    conditions: ClassVar = frozenset({"calibration"})
    sees_parts: bool = True

    def __init__(
        self,
        organs: Sequence[str],
        frame: FrameSpec | Mapping[str, Any],
        one_part: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(frame)
        self.frame.require(3)
        self.organs = check_labels(organs)
        if not 1 <= len(self.organs) <= 254:
            raise ConfigError(f"organs={self.organs} must be 1 to 254 names.")
        self.one_part = one_part
        self.temperature = checked_temperature(temperature)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, D, H, W), background first, of images (B, 1, D, H, W) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not define forward.")

    def signature(self) -> Signature:
        """Logits of one window of a volume."""
        meaning = "logits of the labels, background first; the largest one counts"
        return Signature(
            (Tensors("image", (1, *self.seen_shape), "grey values in [0, 1], 0 around the volume"),),
            (Tensors("logits", (1 + len(self.organs), *self.shape), meaning),),
        )

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """Shape of what the network sees of a volume at a time, (D, H, W)."""
        return self.shape

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1 + organs, D, H, W) of the batch's ``image``."""
        logits: Tensor = self(batch["image"])
        return logits

    def columns(self) -> list[str]:
        """Dice over all organs and of each."""
        return ["dice", *(f"dice/{name}" for name in self.organs)]

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Predicted label maps with the references, within the frame."""
        return label_cases(output.argmax(1), batch["labels"], self.organs, batch, image=batch["image"])

    def maps(self, output: Tensor | Sequence[Tensor], batch: Mapping[str, Tensor]) -> Maps:
        """Probabilities, from logits or the first of several, with the labels."""
        logits = output if isinstance(output, Tensor) else output[0]
        truth = one_hot(batch["labels"].long(), len(self.organs) + 1)
        return Maps(logits.float().softmax(1), truth)

    def predict(
        self,
        x: Any,
        *,
        spacing_mm: float | Sequence[float] | None = None,
        whole: bool | None = None,
        precision: str | None = None,
    ) -> "VolumeResult":
        """Segment one volume of any size.

        The network looks at the middle of the slices, as large as its frame, and at all slices, by windows
        where there are more than the frame holds. Where the anatomy reaches the border of this view, it looks
        at half as much again along each axis, window by window, and if need be at the whole slices.

        Volumes with directions are brought into one order before, and labels back. Where nothing tells which
        end of a stack of slices is which, the network sees both orders, each also turned by half a turn
        within the slices, and the mean of its four probabilities counts; ``"slice_order_uncertain"`` is
        flagged where the two orders do not agree.

        Args:
            x: path to NIfTI, MetaImage or NRRD, folder of a DICOM series, DICOM file, bytes or binary file
                object of such a file, pydicom data set or list of those of one series, array or tensor
                (D, H, W) or (H, W), or SimpleITK image; see `anatozoo.io.read.read_stack`.
            spacing_mm: millimetres per voxel, one number or (x, y, z), where the source has none.
            whole: look at whole slices (True) or their middle alone (False); None decides as above. A network
                that sees one frame alone (`sees_parts`) does not take True.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.

        Returns:
            The label map on the source grid.

        Raises:
            ImageError: the volume cannot be read or is not of a kind that the model takes.
            GeometryError: the model works in millimetres and the spacing is unknown.
            ConfigError: `whole` of a network that sees one frame alone, or a precision that is not possible.
        """
        stack = read_stack(x, spacing_mm=spacing_mm, slices=self.frame.fit == "slices")
        with self.answering(precision):
            return self._segment(stack, whole)

    @torch.inference_mode()
    def probabilities(
        self,
        x: Any,
        *,
        spacing_mm: float | Sequence[float] | None = None,
        whole: bool | None = None,
        precision: str | None = None,
    ) -> Probabilities:
        """The probabilities of the labels of one volume, in the view of it that `predict` decides by.

        Of several views that are averaged, the temperature changes the mean. Parts that `one_part` takes away
        are still in it.

        Args:
            x: a volume, see `predict`.
            spacing_mm: see `predict`.
            whole: see `predict`.
            precision: see `predict`.

        Raises:
            ImageError, GeometryError, ConfigError: see `predict`.
        """
        stack = read_stack(x, spacing_mm=spacing_mm, slices=self.frame.fit == "slices")
        with self.answering(precision):
            look = self._view(stack, whole)
        tiny = torch.finfo(torch.float32).tiny
        scores = torch.from_numpy(look.probability).clamp_min(tiny).log()
        return Probabilities(scores, self.temperature, look.frame.labels)

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 1,
        *,
        precision: str | None = None,
        on_error: str = "raise",
    ) -> Iterator["VolumeResult"]:
        """Segment many volumes, one after another; yields results in order.

        Args:
            xs: whatever `predict` takes.
            batch_size: of no effect on volumes, which fill a device one by one; at least 1.
            precision: see `predict`.
            on_error: ``"raise"``, or ``"record"``: a volume that fails gives an
                `anatozoo.tasks.base.FailedInput` in its place, which is false, and the others their results.

        Raises:
            ConfigError: `batch_size` is below 1, or on_error is neither of the two.
            ImageError: a volume cannot be read; the ones before it have been yielded.
        """
        return in_batches(
            xs, min(batch_size, 1), lambda x: self.predict(x, precision=precision), list, on_error
        )

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """Each volume, its label map judged on the volume's own grid."""
        from anatozoo.tasks.trials import Trial, identity_of

        return [Trial(identity_of(case), partial(self._trial, case, how)) for case in cases]

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[GridImage, Judge]":
        from anatozoo.tasks.trials import organs_beside, read_volume

        image = read_volume(case, how)
        truth, grid = case.read_labels(self.organs, image.grid)

        def judge(result: "VolumeResult") -> "Case":
            if result.label_map.shape != truth.shape:
                raise GeometryError(
                    f"the model answers on {result.label_map.shape} voxels, finer slices than the "
                    f"{truth.shape} of the annotation; give annotations and images with fine slices, whose "
                    "answers are on their own grid."
                )
            found = organs_beside(result.label_map, truth, self.organs, grid.spacing_mm)
            return replace(found, numbers={**found.numbers, **result.votes_row()})

        if how.calibration is None:
            return image, judge
        return image, judged_too(judge, how.calibration, lambda: self.probabilities(image), truth)

    def golden_input(self) -> npt.NDArray[np.uint8]:
        """A volume that is free to share, for the golden test: the one with the most segmented voxels."""
        spacing = self.frame.spacing_mm if self.frame.fit == "spacing" else None
        # A result without labels would prove little, and a network for hearts may find none in a ball.
        samples = (_ball(self.shape), _heart(self.shape))
        return max(samples, key=lambda each: len(np.unique(self.predict(each, spacing_mm=spacing).mask)))

    @torch.inference_mode()
    def _segment(self, stack: "GridImage", whole: bool | None) -> "VolumeResult":
        from anatozoo.results.volume import VolumeResult

        look = self._view(stack, whole)
        probability = without_loose_parts(look.probability) if self.one_part else look.probability
        labels = labels_on_grid(probability, look.frame)
        return VolumeResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=stack.source or stack.name,
            grid=look.frame.grid,
            classes=tuple(self.organs),
            label_map=labels,
            flags=(*stack.flags, *look.flags, *self._flags(labels)),
            dicom=stack.dicom,
            pixels=_repeated(stack.pixels, look.frame.grid.shape),
            **self._votes(look),
        )

    def _view(self, stack: "GridImage", whole: bool | None) -> Look:
        """The view that the anatomy needs, see `predict`."""
        if whole and not self.sees_parts:
            raise ConfigError("this model sees one frame of a volume and nothing beside it; leave whole out.")
        look = self._look(stack, None if whole else 1.0)
        if whole is None and self._reaches_border(look.frame, look.probability):
            if not self.sees_parts:
                look = replace(look, flags=(*look.flags, "anatomy_at_border"))
            elif bool((look.probability.argmax(0) > 0).any()):
                # What is larger than the view is mostly little larger; whole slices take much longer.
                look = self._look(stack, WIDER)
            if self.sees_parts and self._reaches_border(look.frame, look.probability):
                look = self._look(stack, None)
        return look

    def _votes(self, look: Look) -> dict[str, Any]:
        """What the members of an ensemble say, see `anatozoo.results.votes.Votes`; else empty."""
        return {}

    def _look(self, stack: "GridImage", part: float | None) -> Look:
        """Look at a volume.

        Args:
            stack: the stack.
            part: how much of its slices to look at, in sides of the network's frame; None at all of them.
        """
        frame = fit_frame(stack.grid, self.frame, whole=self.sees_parts)
        if part is not None:
            # All slices, but of each the middle alone.
            sides = (math.ceil(part * own) for own in self.shape[1:])
            view = tuple(min(pair) for pair in zip(sides, frame.shape[1:], strict=True))
            frame = type(frame)(frame.grid, (frame.shape[0], *view), frame.matrix)
        image = frame.image(stack.pixels)
        if not isinstance(frame, StackFrame) or frame.order_known:
            return Look(frame, self._probability(image))
        one = self._turned_probability(image)
        other = frame.unreversed(self._turned_probability(frame.reversed().image(stack.pixels)))
        flags = () if orders_agree(one, other) else ("slice_order_uncertain",)
        return Look(frame, (one + other) / 2, flags)

    def _turned_probability(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The mean of the probabilities of an image (D, H, W) and of the same turned by half a turn.

        What lost its directions may be turned, too: by half a turn where both axes of the slices point the
        other way. The network learned all turns, but answers each a little differently.
        """
        once = self._probability(image)
        turned = self._probability(np.ascontiguousarray(image[:, ::-1, ::-1]))
        both: npt.NDArray[np.float32] = (once + turned[..., ::-1, ::-1]) / np.float32(2)
        return both

    def _probability(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities (1 + organs, D, H, W) of an image (D, H, W) in the frame."""
        logits = in_windows(
            self.tensor(image)[None, None], self.shape, lambda part: self.computed(part)[0], OVERLAP
        )
        return logits[0].float().softmax(0).cpu().numpy()

    def _reaches_border(self, frame: Frame, probability: npt.NDArray[np.float32]) -> bool:
        """Whether the anatomy reaches a border of the frame within the image."""
        found = probability.argmax(0) > 0
        size = frame.scale * frame.orientation.size(frame.grid.size)
        for axis in (1, 2):
            goes_on = size[2 - axis] > frame.shape[axis] + 1
            ends = np.take(found, [0, -1], axis)
            if goes_on and ends.any():
                return True
        return not found.any() and frame.cuts

    def _flags(self, labels: npt.NDArray[np.uint8]) -> list[str]:
        """Flags of results that a person should check."""
        from scipy.ndimage import label

        flags = []
        for value, organ in enumerate(self.organs, start=1):
            mask = labels == value
            if not mask.any():
                flags.append(f"missing_{organ}")
                continue
            parts, count = label(mask, np.ones((3, 3, 3)))
            if count > 1:
                sizes = np.sort(np.bincount(parts.ravel())[1:])
                if sizes[:-1].sum() > FRAGMENT * sizes.sum():
                    flags.append(f"fragmented_{organ}")
        return flags


def _repeated(pixels: npt.NDArray[np.float32], shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Pixels on the grid of the labels, which may have several voxels for each along an axis."""
    for axis, (side, wanted) in enumerate(zip(pixels.shape, shape, strict=True)):
        pixels = pixels if side == wanted else np.repeat(pixels, wanted // side, axis)
    return pixels


def orders_agree(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    """Whether the probabilities (1 + organs, ...) of two orders of slices agree on each organ."""
    a, b = largest_plane(list(one)), largest_plane(list(other))
    for value in range(1, len(one)):
        mine, its = a == value, b == value
        if 2 * np.count_nonzero(mine & its) < ORDERS_AGREE * (np.count_nonzero(mine) + np.count_nonzero(its)):
            return False
    return True


def without_loose_parts(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities (1 + organs, D, H, W) with only the largest component of all organs together."""
    from scipy.ndimage import binary_dilation, label

    found, corners = largest_plane(list(probability)) > 0, np.ones((3, 3, 3))
    parts, count = label(found, corners)
    if count < 2:
        return probability
    apart = found & (parts != np.bincount(parts[found]).argmax())
    # Dilated by one voxel: interpolated between voxels, the organ would still win there.
    around = binary_dilation(apart, corners) & (apart | ~found)
    return np.where(around & (np.arange(len(probability)) > 0)[:, None, None, None], 0, probability)


def _ball(shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """A bright ball in noise."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    away = sum(axis**2 for axis in axes)
    noise = np.random.default_rng(0).integers(0, 60, shape)
    return (noise + 150 * (away < 0.3)).astype(np.uint8)


def _heart(shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Slices of a heart across its long axis: bright blood in a dark ring, a bright crescent beside it."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    y, x = y / 0.7, x / 0.7
    size = np.sqrt(1 - 0.5 * z**2) * (np.abs(z) < 0.85)
    away = np.hypot(y, x)
    grey = np.full(shape, 110.0)
    grey[np.hypot(y, (x + 0.52) / 0.9) < 0.42 * size] = 210
    grey[away < 0.4 * size] = 60
    grey[away < 0.26 * size] = 220
    return (grey + np.random.default_rng(0).normal(0, 5, shape)).clip(0, 255).astype(np.uint8)
