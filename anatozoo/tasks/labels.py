"""From a 2-D image to one label per pixel: prediction, evaluation and losses, under partial annotation.

If an organ is not annotated in an image, its pixels have another label: background, or an organ that it would
cover. Both labels then count as right.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import parts_of
from anatozoo.nn.graphs import organ_names
from anatozoo.nn.labels import one_hot
from anatozoo.nn.losses import masked_dice_loss
from anatozoo.tasks.base import FRAGMENT
from anatozoo.tasks.cases import label_cases
from anatozoo.tasks.images import ImageTask
from anatozoo.tasks.views import Maps

if TYPE_CHECKING:
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.metrics.cases import Case
    from anatozoo.results.segmentation import SegmentationResult

DiceKind = Literal["paper", "organs"]
"""One soft Dice over all labels, background included, or the mean of the organs' soft Dice."""


class LabelTask(ImageTask):
    """A model that gives each pixel of one 2-D image one label.

    Subclasses set `network`, which gives logits. Each pixel has one label: where the heart covers a lung, the
    pixel is heart.

    Args:
        organs: name of a set, or names of organs in the order of their labels 1, 2, ..., see
            `anatozoo.nn.graphs.organ_names`.
        frame: see `ImageTask`.
        check_view: see `ImageTask`.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset({"maps"})

    organs: list[str]
    network: nn.Module

    def __init__(
        self, organs: str | Sequence[str], frame: FrameSpec | Mapping[str, Any], check_view: bool = False
    ) -> None:
        super().__init__(frame, check_view)
        self.organs = organ_names(organs)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, S, S), background first, of images (B, 1, S, S) in [0, 1]."""
        logits: Tensor = self.network(image)
        return logits

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1 + organs, S, S) of the batch's ``image``."""
        return self(batch["image"])

    def columns(self) -> list[str]:
        """Dice over all organs and of each."""
        return ["dice", *(f"dice/{organ}" for organ in self.organs)]

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Masks of the annotated organs at the network's resolution.

        A pixel that may belong to an organ without annotation counts as right.
        """
        labels, known = batch["labels"], batch["known"] > 0
        found = judged_labels(output.argmax(1), labels, known)
        return label_cases(found, labels, self.organs, batch, image=batch["image"], known=known)

    def maps(self, output: Tensor, batch: Mapping[str, Tensor]) -> Maps:
        """Probabilities, from logits (B, 1 + organs, S, S), with the labels."""
        probability = output.float().log_softmax(1).exp()
        return Maps(probability, one_hot(batch["labels"], output.shape[1]), batch["known"] > 0)

    def _answers(self, batch: Tensor) -> np.ndarray:
        probability: np.ndarray = self(batch).float().softmax(1).cpu().numpy()
        return probability

    def _result(self, image: "Image", geometry: "Geometry", answer: np.ndarray) -> "SegmentationResult":
        from anatozoo.results.labels import LabelResult

        # Probabilities are resampled and then compared: a label map cannot be interpolated.
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
        """Flags of results that a person should check."""
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


def label_losses(logits: Tensor, labels: Tensor, known: Tensor, dice: DiceKind) -> dict[str, Tensor]:
    """Cross-entropy and a soft Dice loss, under partial annotation.

    Args:
        logits: (B, 1 + organs, H, W), background first.
        labels: (B, H, W) int64, 0 for background.
        known: (B, organs) bool, whether each organ is annotated in the image.
        dice: ``"paper"`` (one Dice over all labels, background included) or ``"organs"`` (the mean of the
            organs' Dice).

    Returns:
        ``cross_entropy`` and ``dice``, scalars.
    """
    log_probability = logits.float().log_softmax(1)
    right = log_probability.masked_fill(~admissible(labels, known), -torch.inf).logsumexp(1)
    if dice == "paper":
        # Probabilities and one-hot labels both sum to 1 at each pixel, so that Dice over all labels together
        # is the mean probability of the right labels.
        loss = 1 - right.exp().mean()
    else:
        truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(right.dtype)
        probability = torch.where(truth > 0, right.exp()[:, None], log_probability[:, 1:].exp())
        loss = masked_dice_loss(probability, truth, known[:, :, None, None].to(right.dtype).expand_as(truth))
    return {"cross_entropy": -right.mean(), "dice": loss}


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
