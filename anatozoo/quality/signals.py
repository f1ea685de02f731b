"""Cheap quality signals of a segmentation from its mask alone, without registration or ground truth.

* `reconstruction_agreement`: agreement with the reconstruction by an autoencoder of masks (Post-DAE,
  Larrazabal et al., IEEE TMI 2020; AENet, Mansilla et al., Neural Networks 2020).
* `mask_agreement`: agreement with another segmentation, such as that of another model.
* `shape_faults`: parts, holes, missing organs and organs in the wrong order.

Signals of latent codes are in `anatozoo.quality.latents`. `anatozoo.quality.calibration` converts signals to
Dice.

Masks are a label map (array, file, SimpleITK or PIL image) with `classes`, organ -> mask, or a result.
If one side has ``lungs`` and the other each lung, the lungs are joined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.metrics.functional import dice
from anatozoo.metrics.plausibility import CHEST_ORDER, Order, components, holes, organ_masks, organ_order
from anatozoo.organs import parts_of
from anatozoo.quality.latents import loaded
from anatozoo.quality.organs import OrganMasks, common_organs, exclusive_labels, labels_for, read_organs


def mask_agreement(mask: Any, other: Any, classes: Sequence[str] | None = None) -> dict[str, float]:
    """Dice of each organ between two segmentations of one image, such as those of two models.

    Pixels belong to one organ; on both sides the later organs of `other` cover the earlier ones. Organs that
    only one side names are not judged: pixels that a label map gives to such an organ, for example clavicles
    over the lungs, count on neither side.

    Args:
        mask: the judged segmentation, see `read_organs`.
        other: the other segmentation: organ -> mask, a result, or `OrganMasks`.
        classes: names of the values of `mask`, if it is a label map.

    Returns:
        Organ -> Dice in 0 … 1; 0 for an organ that the judged mask names but lacks, whatever `other` has.

    Raises:
        DataError: no organ in common.
        GeometryError: they lie on different grids.
    """
    ours, theirs = read_organs(mask, classes), read_organs(other)
    if ours.grid.shape != theirs.grid.shape:
        raise GeometryError(
            f"the masks have the shapes {ours.grid.shape} and {theirs.grid.shape}; bring one to the other's."
        )
    organs = common_organs(ours.masks, theirs.masks)
    maps = [exclusive_labels(side, organs) for side in (ours, theirs)]
    judged = ~np.logical_or.reduce(
        [side.anything & (labels == 0) for side, labels in zip((ours, theirs), maps, strict=True)]
    )
    first, second = (np.where(judged, labels, 0) for labels in maps)
    return {
        # Dice would be NaN for an organ on neither side, but the judged mask lacks it.
        organ: dice(first == value, second == value) if (first == value).any() else 0.0
        for value, organ in enumerate(organs, start=1)
    }


def reconstruction(mask: Any, model: Any, classes: Sequence[str] | None = None) -> OrganMasks:
    """Reconstruction of a segmentation by an autoencoder of masks, on the segmentation's grid.

    Organs that the model lacks are left out. If it has both lungs and the mask only ``lungs``, these are cut
    at the column of their centroid; the patient's right is on the left of the image.

    Args:
        mask: see `read_organs`; not empty.
        model: checkpoint name or module: one that repairs masks (`postdae-*`) or has ``reconstruct``
            (`aenet-*`).
        classes: names of the values, if `mask` is a label map.

    Raises:
        ConfigError: the model is not an autoencoder of masks.
        DataError: mask and model share no organ.
        ImageError: the model cannot take the mask, for example an empty one.
        GeometryError: the model works in millimetres and the spacing is unknown.
    """
    from anatozoo.tasks.repair import RepairTask

    found, model = read_organs(mask, classes), loaded(model)
    names = _organs_of(model)
    given = _source(labels_for(found, names), found.grid)
    if callable(getattr(model, "reconstruct", None)):
        labels = model.reconstruct(given)
    elif isinstance(model, RepairTask):
        labels = model.predict(given).after
    else:
        raise ConfigError(
            f"{type(model).__name__} makes no masks of masks; take a checkpoint of postdae or aenet."
        )
    return OrganMasks(organ_masks(labels, names), found.grid)


def reconstruction_agreement(mask: Any, model: Any, classes: Sequence[str] | None = None) -> dict[str, float]:
    """Dice of each organ between a mask and its reconstruction by an autoencoder of masks.

    A plausible mask hardly changes. Errors with a plausible shape, such as a heart that is too large, do not
    change either: this signal cannot detect them.

    Args:
        mask: see `read_organs`.
        model: see `reconstruction`.
        classes: names of the values, if `mask` is a label map.

    Returns:
        Organ -> Dice in 0 … 1; 0 for each organ of an empty mask, and for organs that the mask lacks.

    Raises:
        ConfigError, DataError, ImageError, GeometryError: see `reconstruction`.
    """
    found, model = read_organs(mask, classes), loaded(model)
    names = _organs_of(model)
    if not labels_for(found, names).any():
        return dict.fromkeys(common_organs(found.masks, names), 0.0)
    return mask_agreement(found, reconstruction(found, model))


@dataclass(frozen=True)
class ShapeFaults:
    """Faults of shapes that need no image, made by `shape_faults`.

    Attributes:
        extra_parts: organ -> connected components beyond one, or beyond two for ``lungs`` and ``clavicles``;
            -1 if such a pair is connected or has one side only. 0 for a missing organ.
        holes: organ -> enclosed parts of the background.
        missing: organs that the mask names but lacks.
        order: pairs of organs in the wrong order.
    """

    extra_parts: dict[str, int]
    holes: dict[str, int]
    missing: tuple[str, ...]
    order: tuple[Order, ...]

    def count(self, organ: str | None = None) -> int:
        """Number of faults of one organ, including its pairs in the wrong order; None counts all.

        Raises:
            ConfigError: the organ is unknown.
        """
        if organ is None:
            parts = sum(map(abs, self.extra_parts.values()))
            return parts + sum(self.holes.values()) + len(self.missing) + len(self.order)
        if organ not in self.holes:
            raise ConfigError(f"{organ} was not judged, but {', '.join(self.holes)}.")
        broken = sum(organ in (pair.organ, pair.other) for pair in self.order)
        return abs(self.extra_parts[organ]) + self.holes[organ] + (organ in self.missing) + broken


def shape_faults(
    mask: Any,
    classes: Sequence[str] | None = None,
    *,
    pairs: Sequence[tuple[str, str, str]] | None = None,
) -> ShapeFaults:
    """Parts, holes, missing organs and wrong order of a mask, by `anatozoo.metrics.plausibility`.

    Args:
        mask: see `read_organs`.
        classes: names of the values, if it is a label map.
        pairs: (organ, relation, other), see `anatozoo.metrics.plausibility.organ_order`. None takes those of
            the chest whose organs are present; ``lungs`` as one organ have none.

    Raises:
        ConfigError: a pair names an unknown organ or relation.
        DataError, GeometryError, ImageError: see `read_organs`.
    """
    found = read_organs(mask, classes).masks
    there = {organ: bool(values.any()) for organ, values in found.items()}
    chosen = (
        [pair for pair in CHEST_ORDER if pair.organ in found and pair.other in found]
        if pairs is None
        else pairs
    )
    return ShapeFaults(
        extra_parts={
            organ: components(values) - len(parts_of(organ)) if there[organ] else 0
            for organ, values in found.items()
        },
        holes={organ: holes(values) for organ, values in found.items()},
        missing=tuple(organ for organ in found if not there[organ]),
        order=tuple(organ_order(found, chosen)) if chosen else (),
    )


def _organs_of(model: Any) -> tuple[str, ...]:
    names: Any = getattr(model, "organs", ())
    return tuple(names)


def _source(labels: npt.NDArray[np.uint8], grid: Grid) -> Any:
    """A label map as input of a model, with its spacing if it is known."""
    return labels if grid.spacing_mm is None else itk_image(labels, grid)
