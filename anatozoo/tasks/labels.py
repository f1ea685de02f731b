"""From a 2-D image to one label per pixel: prediction, evaluation and losses, under partial annotation.

If an organ is not annotated in an image, its pixels have another label: background, or an organ that it would
cover. Both labels then count as right.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import shown_box
from anatozoo.nn.graphs import organ_names
from anatozoo.nn.labels import one_hot
from anatozoo.nn.losses import focal, masked_dice_loss, weighted_mean
from anatozoo.organs import parts_of
from anatozoo.tasks.base import FRAGMENT
from anatozoo.tasks.cases import label_cases
from anatozoo.tasks.images import ImageTask
from anatozoo.tasks.signature import Signature, Tensors
from anatozoo.tasks.temperature import Probabilities, checked_temperature, judged_too, softmax
from anatozoo.tasks.views import Maps

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.metrics.cases import Case
    from anatozoo.results.segmentation import SegmentationResult
    from anatozoo.tasks.trials import Conditions, Judge

DiceKind = Literal["paper", "organs"]
"""One soft Dice over all labels, background included, or the mean of the organs' soft Dice."""
Output = Literal["labels", "organs"]
"""One label for each pixel, or a yes or no for each organ at each pixel."""
Missing = Literal["either", "background", "ignore"]
"""What an organ without annotation counts as in the loss of an image, see `label_losses`."""


class LabelTask(ImageTask):
    """A model that gives each pixel of one 2-D image one label.

    Subclasses set `network`, which gives logits. Each pixel has one label: where the heart covers a lung, the
    pixel is heart.

    With ``output="organs"`` the network decides about each organ separately. Organs with a probability above
    0.5 are then painted in their order.

    Args:
        organs: name of a set, or names of organs in the order of their labels 1, 2, ..., see
            `anatozoo.nn.graphs.organ_names`.
        frame: see `ImageTask`.
        check_view: see `ImageTask`.
        output: what the network's channels are: ``"labels"`` (background, then the organs; a pixel has one
            of them) or ``"organs"`` (the organs, independent of one another).
        temperature: what logits are divided by where `probabilities` are asked for, see
            `anatozoo.tasks.temperature`; label maps and training do not depend on it.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset({"maps"})
    conditions: ClassVar = ImageTask.conditions | {"calibration"}

    organs: list[str]
    network: nn.Module

    def __init__(
        self,
        organs: str | Sequence[str],
        frame: FrameSpec | Mapping[str, Any],
        check_view: bool = False,
        output: Output = "labels",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(frame, check_view)
        self.temperature = checked_temperature(temperature)
        if output not in get_args(Output):
            raise ConfigError(f"output={output!r} is unknown; choose {' or '.join(get_args(Output))}.")
        self.organs, self.output = organ_names(organs), output

    @property
    def channels(self) -> int:
        """Output channels of the network."""
        return len(self.organs) + (self.output == "labels")

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, S, S) of images (B, 1, S, S) in [0, 1].

        C is 1 + organs, background first, or with ``output="organs"`` the number of organs.
        """
        logits: Tensor = self.network(image)
        return logits

    def signature(self) -> Signature:
        """Logits of an image."""
        meaning = "logits of the labels, background first; the largest one counts"
        if self.output == "organs":
            meaning = "logits of the organs; those above 0 count, later ones cover earlier ones"
        logits = Tensors("logits", (self.channels, *self.shape), meaning)
        return Signature((self.image_tensors(),), (logits,))

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C, S, S) of the batch's ``image``, see `forward`."""
        return self(batch["image"])

    def columns(self) -> list[str]:
        """Dice over all organs and of each."""
        return ["dice", *(f"dice/{organ}" for organ in self.organs)]

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Masks of the annotated organs at the network's resolution.

        A pixel that may belong to an organ without annotation counts as right.
        """
        labels, known = batch["labels"], batch["known"] > 0
        best = output.argmax(1) if self.output == "labels" else painted(output > 0)
        found = judged_labels(best, labels, known)
        return label_cases(found, labels, self.organs, batch, image=batch["image"], known=known)

    def maps(self, output: Tensor, batch: Mapping[str, Tensor]) -> Maps:
        """Probabilities of the labels, from logits (B, C, S, S), with the labels."""
        if self.output == "labels":
            probability = output.float().log_softmax(1).exp()
        else:
            probability = uncovered(output.float().sigmoid())
        return Maps(probability, one_hot(batch["labels"], probability.shape[1]), batch["known"] > 0)

    @torch.inference_mode()
    def probabilities(self, x: Any, *, precision: str | None = None) -> Probabilities:
        """The probabilities of the labels of one image in the network's square frame.

        Args:
            x: an image, see `predict`.
            precision: see `predict`.

        Raises:
            ImageError, ConfigError: see `predict`.
        """
        from anatozoo.frames.square import to_network
        from anatozoo.io.images import read_image

        pixels, geometry = to_network(read_image(x), self.side, self.frame.intensity)
        with self.answering(precision):
            scores = self.computed(self.tensor(pixels)[None, None])[0][0].float().cpu()
        link = softmax if self.output == "labels" else _of_organs
        return Probabilities(scores, self.temperature, geometry.mask_to_target, link)

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[Image, Judge]":
        from anatozoo.io.grid import Grid

        image, judge = super()._trial(case, how)
        # Where an organ is not annotated, nobody knows what is right.
        if how.calibration is None or not all(map(case.has, self.organs)):
            return image, judge
        labels, _ = case.read_labels(self.organs, Grid(image.size, image.spacing_mm))
        return image, judged_too(judge, how.calibration, lambda: self.probabilities(image), labels)

    def _answers(self, batch: Tensor) -> Sequence[np.ndarray]:
        logits = self.computed(batch)[0].float()
        probability = logits.softmax(1) if self.output == "labels" else logits.sigmoid()
        return list(probability.cpu().numpy())

    def _result(self, image: "Image", geometry: "Geometry", answer: np.ndarray) -> "SegmentationResult":
        from anatozoo.results.labels import LabelResult

        labels = labels_on_source(answer, geometry, self.output)
        return LabelResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image.source or image.name,
            size=image.size,
            spacing_mm=image.spacing_mm,
            flags=(*image.flags, *self._flags(labels)),
            dicom=image.dicom,
            pixels=image.pixels,
            label_map=labels,
            classes=tuple(self.organs),
        )

    def _flags(self, labels: np.ndarray) -> tuple[str, ...]:
        """Flags of results that a person should check."""
        import cv2

        flags = []
        box = shown_box(labels > 0)
        if box is None or max(part.stop - part.start - 1 for part in box) < 0.2 * max(labels.shape):
            flags.append("very_small_anatomy")
        for value, organ in enumerate(self.organs, start=1):
            _, _, parts, _ = cv2.connectedComponentsWithStats((labels == value).view(np.uint8))
            areas = np.sort(parts[1:, cv2.CC_STAT_AREA])[::-1]
            if not len(areas):
                flags.append(f"missing_{organ}")
            elif areas[len(parts_of(organ)) :].sum() > FRAGMENT * areas.sum():
                flags.append(f"fragmented_{organ}")
        return tuple(flags)


def labels_on_source(probability: np.ndarray, geometry: "Geometry", output: Output = "labels") -> np.ndarray:
    """The label map (H, W) uint8 of probabilities on the source grid.

    Args:
        probability: (C, S, S) in the frame, see `LabelTask.forward` for the channels.
        geometry: from the source to the frame.
        output: what the channels are, see `LabelTask`.
    """
    # Probabilities are resampled and then compared: a label map cannot be interpolated.
    planes = map(geometry.image_to_source, probability)
    # An organ that is decided apart is there if it is more probable than not.
    best = next(planes) if output == "labels" else np.float32(0.5)
    labels = np.zeros(geometry.source_size[::-1], np.uint8)
    for value, plane in enumerate(planes, start=1):
        labels[plane > best] = value
        if output == "labels":
            best = np.maximum(best, plane)
    return labels


def painted(masks: Tensor) -> Tensor:
    """Label maps (B, H, W) int64 from masks (B, C, H, W) bool; later organs cover earlier ones."""
    values = torch.arange(1, 1 + masks.shape[1], device=masks.device)[None, :, None, None]
    return (masks * values).amax(1)


def uncovered(probability: Tensor) -> Tensor:
    """Probabilities of labels from those of independent organs, of which later ones cover earlier ones.

    Args:
        probability: (B, C, H, W), of each organ.

    Returns:
        (B, 1 + C, H, W), background first: the probability of the organ and of none that would cover it.
    """
    absent = 1 - F.pad(probability, (0, 0, 0, 0, 0, 1))
    free = absent.flip(1).cumprod(1).flip(1)
    return torch.cat([free[:, :1], probability * free[:, 1:]], 1)


def _of_organs(scores: Tensor) -> Tensor:
    """Probabilities of labels (1 + C, ...) from logits (C, ...) of independent organs."""
    flat = scores.sigmoid().flatten(1)
    return uncovered(flat[None, :, None])[0, :, 0].unflatten(1, scores.shape[1:])


def label_losses(
    logits: Tensor,
    labels: Tensor,
    known: Tensor,
    dice: DiceKind,
    missing: Missing = "either",
    focal_gamma: float = 0.0,
) -> dict[str, Tensor]:
    """Cross-entropy and a soft Dice loss, under partial annotation.

    Args:
        logits: (B, 1 + organs, H, W), background first.
        labels: (B, H, W) int64, 0 for background.
        known: (B, organs) bool, whether each organ is annotated in the image.
        dice: ``"paper"`` (one Dice over all labels, background included) or ``"organs"`` (the mean of the
            organs' Dice).
        missing: what counts as right where an organ without annotation may be: ``"either"`` (that organ, and
            the label that is given), ``"background"`` (the label that is given, as if all organs were
            annotated: a network then learns that such images lack the organ), or ``"ignore"`` (nothing:
            pixels labelled as background do not count in images that lack an organ's annotation).
        focal_gamma: see `anatozoo.nn.losses.focal`.

    Returns:
        ``cross_entropy`` and ``dice``, scalars.
    """
    log_probability = logits.float().log_softmax(1)
    allowed = admissible(labels, known if missing == "either" else torch.ones_like(known))
    right = log_probability.masked_fill(~allowed, -torch.inf).logsumexp(1)
    counted = torch.ones_like(right)
    if missing == "ignore":
        counted = ((labels > 0) | known.all(1)[:, None, None]).to(right.dtype)
    elif missing == "background":
        known = torch.ones_like(known)
    if dice == "paper":
        # Probabilities and one-hot labels both sum to 1 at each pixel, so that Dice over all labels together
        # is the mean probability of the right labels.
        loss = 1 - weighted_mean(right.exp(), counted)
    else:
        truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(right.dtype)
        probability = torch.where(truth > 0, right.exp()[:, None], log_probability[:, 1:].exp())
        weight = known[:, :, None, None].to(right.dtype) * counted[:, None]
        loss = masked_dice_loss(probability, truth, weight)
    # A logarithm of a sum of probabilities may round to above 0.
    entropy = focal(-right.clamp_max(0), focal_gamma) if focal_gamma else -right
    return {"cross_entropy": weighted_mean(entropy, counted), "dice": loss}


def organ_losses(
    logits: Tensor, labels: Tensor, known: Tensor, focal_gamma: float = 0.0
) -> dict[str, Tensor]:
    """Cross-entropy and soft Dice of organs that are decided separately, where they are annotated.

    The loss of UNet-HT, the baseline for heterogeneous labels of Gaggion et al., ISBI 2023: for each organ
    binary cross-entropy, and one soft Dice over the pixels of all images of the batch.

    The paper's loss leaves organs out of images without their annotation. Here labels are one map in which
    later organs cover earlier ones, so that a pixel also leaves out the organs before its label: lung behind
    an annotated heart may be lung. Otherwise the same pixel would count as no lung where the heart is
    annotated, and as lung where it is not.

    Args:
        logits: (B, C, H, W) of the organs.
        labels: (B, H, W) int64, 0 for background.
        known: (B, C) bool, whether each organ is annotated in the image.
        focal_gamma: see `anatozoo.nn.losses.focal`.

    Returns:
        ``cross_entropy`` and ``dice``, scalars: means over the organs that have a pixel that counts.
    """
    values = torch.arange(1, 1 + logits.shape[1], device=labels.device)[None, :, None, None]
    given = labels[:, None]
    truth = (given == values).to(torch.float32)
    weight = (known[:, :, None, None] & (given <= values)).to(truth.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    entropy = focal(entropy, focal_gamma)
    probability, where = logits.float().sigmoid() * weight, (0, 2, 3)
    counted, overlap = weight.sum(where), 2 * (probability * truth).sum(where)
    dice = (overlap + 1.0) / (probability.sum(where) + (truth * weight).sum(where) + 1.0)
    present = (counted > 0).to(truth.dtype)
    of_organ = (entropy * weight).sum(where) / counted.clamp_min(1)
    return {"cross_entropy": weighted_mean(of_organ, present), "dice": weighted_mean(1 - dice, present)}


def admissible(labels: Tensor, known: Tensor) -> Tensor:
    """The labels that may be true at each pixel, given the annotated organs.

    Args:
        labels: (B, H, W) int64, 0 for background.
        known: (B, C) bool, whether each organ is annotated in the image.

    Returns:
        (B, 1 + C, H, W) bool: the label itself, and every organ without annotation that would cover it.
    """
    values = torch.arange(1 + known.shape[1], device=labels.device)[None, :, None, None]
    given = labels[:, None]
    unknown = F.pad(~known, (1, 0))[:, :, None, None]
    return (values == given) | (unknown & (values > given))


def judged_labels(prediction: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """The prediction, replaced by the label where it may be right: at organs without annotation.

    Args:
        prediction: (B, H, W) int64.
        labels: (B, H, W) int64.
        known: (B, C) bool.
    """
    allowed = admissible(labels, known).gather(1, prediction[:, None])[:, 0]
    return torch.where(allowed, labels, prediction)
