"""Dice and surface distances as `torchmetrics.Metric`: means over distinct images, for each organ.

>>> metric = Dice(["lung_right", "lung_left", "heart"])
>>> metric.update(prediction, reference, index=batch["index"])  # doctest: +SKIP
>>> metric.compute()  # doctest: +SKIP
{"dice/lung_right": 0.95, "dice/lung_right/n": 50, ...}

The numbers are those of `anatozoo.metrics.cases.case_row`, under its names. `compute` gives float32 scalars
for ``log_dict``: of each organ the mean over images and, as ``/n``, how many images it covers. An image whose
organ is in neither mask counts in no mean of it; where it is in one only, Dice is 0 and a distance follows
`missing`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.metrics.functional import assd_mm, assd_px, dice, hausdorff_mm, hausdorff_px
from anatozoo.metrics.per_image import PerImageMean
from anatozoo.metrics.plausibility import organ_masks
from anatozoo.metrics.surface import Missing, Unit, as_array


class OrganMetric(PerImageMean):
    """Any function of two masks, for each organ.

    Args:
        name: of the number, with its unit.
        function: of prediction and reference, (H, W) or (D, H, W) bool each; with ``unit="mm"`` it takes
            ``spacing_mm`` too. Functions of modules can be pickled.
        organs: in the order of their labels.
        unit: ``"mm"`` where the function needs a spacing.

    Raises:
        ConfigError: there is no organ, or one twice; or the unit is unknown.
    """

    is_differentiable = False

    def __init__(
        self, name: str, function: Callable[..., float], organs: Sequence[str], *, unit: Unit = "px"
    ) -> None:
        if isinstance(organs, str) or not organs or len(set(organs)) != len(organs):
            raise ConfigError(f"organs={organs!r} must be a list of different names.")
        if unit not in ("px", "mm"):
            raise ConfigError(f"unit={unit!r} must be 'px' or 'mm'.")
        super().__init__(len(organs))
        self.name, self.function, self.organs, self.unit = name, function, list(organs), unit
        # A MetricCollection updates only one of several metrics whose states are equal after the first batch,
        # as those of two distances are when it is perfect. No two metrics share this name.
        self.add_state(f"apart_{uuid4().hex}", default=[])

    def update(  # type: ignore[override]
        self,
        prediction: Tensor | Sequence[Any],
        reference: Tensor | Sequence[Any],
        index: Tensor | Sequence[int] | None = None,
        spacing_mm: Any = None,
    ) -> None:
        """Measure a batch.

        Args:
            prediction: (B, H, W) or (B, D, H, W) labels, 0 for background and i for organ number i from 1; a
                tensor, an array, or a list of images of different sizes.
            reference: the same, of the same images.
            index: (B,) place of each image in the data set, at least 0: an image that a distributed sampler
                repeats counts once. Without it, every image counts.
            spacing_mm: one number or (x, y[, z]) for all images, or a tensor (B, n).

        Raises:
            GeometryError: shapes do not fit, a label is unknown, or a spacing is missing.
            ValueError: `index` does not name each image.
        """
        if len(prediction) != len(reference):
            raise GeometryError(f"{len(prediction)} predictions against {len(reference)} references.")
        spacings = np.asarray(None if spacing_mm is None else as_array(spacing_mm))
        rows = []
        for i, sides in enumerate(zip(prediction, reference, strict=True)):
            ours, truth = (organ_masks(side, self.organs) for side in sides)
            spacing = spacings[i] if spacings.ndim > 1 else spacings
            known = (
                {"spacing_mm": None if spacing_mm is None else spacing.tolist()} if self.unit == "mm" else {}
            )
            rows.append([self.function(ours[organ], truth[organ], **known) for organ in self.organs])
        values = torch.tensor(rows, device=self.device).reshape(len(rows), self.columns)
        places = torch.full((len(rows),), -1) if index is None else torch.as_tensor(index)
        super().update(places.to(self.device), values)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Of each organ the mean, ``NAME/ORGAN``, and the number of images in it, ``NAME/ORGAN/n``."""
        values = self.rows()[1].double()
        means, counts = (x.float().to(self.device) for x in (values.nanmean(0), (~values.isnan()).sum(0)))
        keys = [f"{self.name}/{organ}" for organ in self.organs]
        return dict(zip(keys, means, strict=True)) | {
            f"{key}/n": count for key, count in zip(keys, counts, strict=True)
        }


class Dice(OrganMetric):
    """`anatozoo.metrics.functional.dice` of each organ, 0..1; as ``dice/ORGAN``."""

    higher_is_better = True

    def __init__(self, organs: Sequence[str]) -> None:
        super().__init__("dice", dice, organs)


class Hausdorff(OrganMetric):
    """Hausdorff distance or a percentile of it; as ``hd_px/ORGAN``, ``hd95_mm/ORGAN`` and the like.

    Args:
        organs: in the order of their labels.
        percentile: 100 is the maximum, 95 is HD95.
        unit: ``"px"`` or ``"mm"``.
        missing: distance where one of two masks is empty, see `anatozoo.metrics.functional`.
    """

    higher_is_better = False

    def __init__(
        self,
        organs: Sequence[str],
        *,
        percentile: float = 100.0,
        unit: Unit = "px",
        missing: Missing = "worst",
    ) -> None:
        function = partial(
            hausdorff_mm if unit == "mm" else hausdorff_px, percentile=percentile, missing=missing
        )
        super().__init__(
            f"hd_{unit}" if percentile == 100 else f"hd{percentile:g}_{unit}", function, organs, unit=unit
        )


class MeanSurfaceDistance(OrganMetric):
    """Average symmetric surface distance; as ``assd_px/ORGAN`` or ``assd_mm/ORGAN``; see `Hausdorff`."""

    higher_is_better = False

    def __init__(self, organs: Sequence[str], *, unit: Unit = "px", missing: Missing = "worst") -> None:
        function = partial(assd_mm if unit == "mm" else assd_px, missing=missing)
        super().__init__(f"assd_{unit}", function, organs, unit=unit)
