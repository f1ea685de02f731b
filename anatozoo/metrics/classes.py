"""The functions of this package as `torchmetrics.Metric`: one value per image and class, and their means.

>>> metric = Dice(["lung_right", "lung_left", "heart"])
>>> metric.update(prediction, reference, index=batch["index"])  # doctest: +SKIP
>>> metric.compute()  # doctest: +SKIP
{"dice/lung_right": 0.95, "dice/lung_right/n": 50, "dice/lung_right/missed": 2, ...}

`compute` gives scalars float32 for ``log_dict``: the mean over images of each number, beside it the number of
images it covers (``/n``) and, of masks, of those whose reference has the class while the prediction has not
(``/missed``). Images are told apart by `index`, their places in the data set: with it, an image that a
distributed sampler repeats counts once. Without it every image counts.

Where a class is in neither mask the image counts in no mean of it. Where it is in one only, overlap is 0, and
a distance follows ``missing``: ``"worst"``, the default, is the image's diagonal, ``"nan"`` leaves the image
out of the mean (not out of ``/missed``), a number is taken as it is, in the metric's unit.

Predictions and references are batches, tensors on any device, arrays, or lists of images of different sizes:

* label maps (B, ...) with 0 for background and i for class number i from 1;
* (B, C + 1, ...) one-hot, probabilities or logits, background first: the largest counts;
* (B, C, ...) booleans or probabilities of classes that may overlap: above 0.5 counts.

Millimetres (``unit="mm"``) need `spacing_mm` at each update: one number or (x, y[, z]) for all images, or a
tensor (B, n).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torchmetrics

from anatozoo.errors import ConfigError
from anatozoo.metrics import functional, plausibility, registration
from anatozoo.metrics.batches import Batch, Index
from anatozoo.metrics.generic import (
    FieldMetric,
    LandmarkMetric,
    MaskMetric,
    ProbabilityMetric,
    ShapeMetric,
)
from anatozoo.metrics.surface import Missing, Spacing, Unit, known_spacing, surface_distances

if TYPE_CHECKING:
    from anatozoo.zoo.spec import CheckpointSpec


class Dice(MaskMetric):
    """`anatozoo.metrics.functional.dice` of each class, 0..1; as ``dice/CLASS``."""

    higher_is_better = True

    def __init__(self, classes: Sequence[str], *, dims: int = 2) -> None:
        super().__init__(functional.dice, ["dice"], classes, dims=dims)


class IoU(MaskMetric):
    """`anatozoo.metrics.functional.iou` of each class, 0..1; as ``iou/CLASS``."""

    higher_is_better = True

    def __init__(self, classes: Sequence[str], *, dims: int = 2) -> None:
        super().__init__(functional.iou, ["iou"], classes, dims=dims)


class Sensitivity(MaskMetric):
    """`anatozoo.metrics.functional.sensitivity` of each class, 0..1; as ``sensitivity/CLASS``."""

    higher_is_better = True

    def __init__(self, classes: Sequence[str], *, dims: int = 2) -> None:
        super().__init__(functional.sensitivity, ["sensitivity"], classes, dims=dims)


class Precision(MaskMetric):
    """`anatozoo.metrics.functional.precision` of each class, 0..1; as ``precision/CLASS``."""

    higher_is_better = True

    def __init__(self, classes: Sequence[str], *, dims: int = 2) -> None:
        super().__init__(functional.precision, ["precision"], classes, dims=dims)


class RelativeSizeError(MaskMetric):
    """`anatozoo.metrics.functional.relative_size_error` of each class; as ``relative_size_error/CLASS``."""

    def __init__(self, classes: Sequence[str], *, dims: int = 2) -> None:
        super().__init__(functional.relative_size_error, ["relative_size_error"], classes, dims=dims)


class Hausdorff(MaskMetric):
    """Hausdorff distance or a percentile of it; as ``hd_px/CLASS``, ``hd95_mm/CLASS`` and the like.

    Args:
        classes: in the order of their labels.
        percentile: 100 is the maximum, 95 is HD95.
        dims: 2 or 3.
        unit: ``"px"`` or ``"mm"``.
        missing: distance where one of two masks is empty, see the module.
    """

    higher_is_better = False

    def __init__(
        self,
        classes: Sequence[str],
        *,
        percentile: float = 100.0,
        dims: int = 2,
        unit: Unit = "px",
        missing: Missing = "worst",
    ) -> None:
        name = f"hd_{unit}" if percentile == 100 else f"hd{percentile:g}_{unit}"
        function = functional.hausdorff_mm if unit == "mm" else functional.hausdorff_px
        super().__init__(
            function, [name], classes, dims=dims, unit=unit, percentile=percentile, missing=missing
        )


class ASSD(MaskMetric):
    """Average symmetric surface distance; as ``assd_px/CLASS`` or ``assd_mm/CLASS``; see `Hausdorff`."""

    higher_is_better = False

    def __init__(
        self, classes: Sequence[str], *, dims: int = 2, unit: Unit = "px", missing: Missing = "worst"
    ) -> None:
        function = functional.assd_mm if unit == "mm" else functional.assd_px
        super().__init__(function, [f"assd_{unit}"], classes, dims=dims, unit=unit, missing=missing)


class NSD(MaskMetric):
    """Normalised surface Dice at a tolerance, 0..1; as ``nsd/CLASS``. `tolerance` is in `unit`."""

    higher_is_better = True

    def __init__(
        self,
        classes: Sequence[str],
        tolerance: float,
        *,
        dims: int = 2,
        unit: Unit = "px",
        missing: Missing = "worst",
    ) -> None:
        options = {f"tolerance_{unit}": tolerance, "missing": missing}
        super().__init__(functional.nsd, ["nsd"], classes, dims=dims, unit=unit, **options)


class SurfaceMetrics(MaskMetric):
    """Hausdorff distance, HD95, ASSD and, with a tolerance, NSD, at the cost of one of them.

    As ``hd_px/CLASS``, ``hd95_px/CLASS``, ``assd_px/CLASS`` and ``nsd/CLASS``; for arguments see `Hausdorff`.
    """

    def __init__(
        self,
        classes: Sequence[str],
        tolerance: float | None = None,
        *,
        dims: int = 2,
        unit: Unit = "px",
        missing: Missing = "worst",
    ) -> None:
        names = [f"hd_{unit}", f"hd95_{unit}", f"assd_{unit}", *(["nsd"] if tolerance is not None else [])]
        options = {"tolerance": tolerance, "missing": missing, "in_mm": unit == "mm"}
        super().__init__(_surface_numbers, names, classes, dims=dims, unit=unit, **options)


class Components(ShapeMetric):
    """`anatozoo.metrics.plausibility.components` of each class that was found; as ``components/CLASS``."""

    higher_is_better = False

    def __init__(self, classes: Sequence[str], *, dims: int = 2) -> None:
        super().__init__(plausibility.components, "components", classes, dims=dims)


class Holes(ShapeMetric):
    """`anatozoo.metrics.plausibility.holes` of each class that was found; as ``holes/CLASS``."""

    higher_is_better = False

    def __init__(self, classes: Sequence[str], *, dims: int = 2) -> None:
        super().__init__(plausibility.holes, "holes", classes, dims=dims)


class LandmarkError(LandmarkMetric):
    """Mean distance of landmarks, or a percentile; as ``error_px``, ``error_px/CLASS``, ``error95_mm``.

    Args:
        classes: class -> its number of landmarks, in order; None measures all together alone.
        percentile: of the distances in place of their mean.
        unit: ``"px"`` or ``"mm"``.
    """

    higher_is_better = False

    def __init__(
        self,
        classes: Mapping[str, int] | None = None,
        *,
        percentile: float | None = None,
        unit: Unit = "px",
    ) -> None:
        kind = "landmark_error" if percentile is None else "landmark_percentile"
        name = f"error_{unit}" if percentile is None else f"error{percentile:g}_{unit}"
        options = {} if percentile is None else {"percentile": percentile}
        function = getattr(functional, f"{kind}_{'mm' if unit == 'mm' else 'px'}")
        super().__init__(function, name, classes, unit=unit, **options)


class LandmarkMSE(LandmarkMetric):
    """Mean squared difference of coordinates; as ``mse_px2``, ``mse_px2/CLASS`` or ``mse_mm2``."""

    higher_is_better = False

    def __init__(self, classes: Mapping[str, int] | None = None, *, unit: Unit = "px") -> None:
        function = functional.landmark_mse_mm2 if unit == "mm" else functional.landmark_mse_px2
        super().__init__(function, f"mse_{unit}2", classes, unit=unit)


class FoldingFraction(FieldMetric):
    """`anatozoo.metrics.registration.folding_fraction` of fields (B, n, ...); as ``folding_fraction``."""

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__(registration.folding_fraction, "folding_fraction")


class LogJacobianSD(FieldMetric):
    """`anatozoo.metrics.registration.log_jacobian_sd` of fields (B, n, ...); as ``log_jacobian_sd``."""

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__(registration.log_jacobian_sd, "log_jacobian_sd")


class Smoothness(FieldMetric):
    """`anatozoo.metrics.registration.smoothness` of fields (B, n, ...), in pixels; as ``smoothness``."""

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__(registration.smoothness, "smoothness")


class InverseConsistencyError(FieldMetric):
    """Mean distance by which two fields miss the way back; as ``inverse_consistency_error_px`` or ``_mm``."""

    higher_is_better = False

    def __init__(self, *, unit: Unit = "px") -> None:
        function = (
            registration.inverse_consistency_error_mm
            if unit == "mm"
            else registration.inverse_consistency_error_px
        )
        super().__init__(function, f"inverse_consistency_error_{unit}", unit=unit)

    def update(  # type: ignore[override]
        self, field: Batch, inverse: Batch, index: Index = None, spacing_mm: Any = None
    ) -> None:
        """Measure fields and their inverses, (B, n, ...) each; one ``spacing_mm`` or (B, n) for mm."""
        self.measure(index, spacing_mm, field=field, inverse=inverse)


class TargetRegistrationError(FieldMetric):
    """Mean distance of landmarks after registration; as ``target_registration_error_px`` or ``_mm``."""

    higher_is_better = False

    def __init__(self, *, unit: Unit = "px") -> None:
        function = (
            registration.target_registration_error_mm
            if unit == "mm"
            else registration.target_registration_error_px
        )
        super().__init__(function, f"target_registration_error_{unit}", unit=unit)

    def update(  # type: ignore[override]
        self, field: Batch, fixed: Batch, moving: Batch, index: Index = None, spacing_mm: Any = None
    ) -> None:
        """Measure fields (B, n, ...) with landmarks (B, N, n) of fixed and moving images in pixels."""
        self.measure(index, spacing_mm, field=field, fixed=fixed, moving=moving)


class ECE(ProbabilityMetric):
    """Expected calibration error of each image, not of all images' pixels together; as ``ece``."""

    def __init__(self, *, bins: int = 15, ignore_label: int | None = None) -> None:
        super().__init__(functional.ece, "ece", ignore_label=ignore_label, bins=bins)


class Brier(ProbabilityMetric):
    """`anatozoo.metrics.functional.brier` of each image; as ``brier``."""

    def __init__(self, *, ignore_label: int | None = None) -> None:
        super().__init__(functional.brier, "brier", ignore_label=ignore_label)


class NLL(ProbabilityMetric):
    """`anatozoo.metrics.functional.nll` of each image, in nats; as ``nll``."""

    def __init__(self, *, floor: float = 1e-7, ignore_label: int | None = None) -> None:
        super().__init__(functional.nll, "nll", ignore_label=ignore_label, floor=floor)


def default_metrics(spec: "CheckpointSpec", unit: Unit = "px") -> torchmetrics.MetricCollection:
    """The metrics that suit a checkpoint's output, over its classes.

    * ``"landmarks"``: `LandmarkMSE`, `LandmarkError`, and its 95th percentile;
    * ``"mask"``: `Dice`, `SurfaceMetrics`, `Components`, `Holes`;
    * ``"displacement"``: `FoldingFraction`, `LogJacobianSD`, and `Dice` and `SurfaceMetrics` of the labels.

    ``update`` takes ``prediction``, ``reference``, ``index`` and ``spacing_mm``; of a registration ``field``
    too, while prediction and reference are the warped and the fixed labels. Give them by name: each metric
    takes what it knows. Each turns channels into labels by itself, so label maps are quicker.

    Args:
        spec: of `anatozoo.info`.
        unit: of distances; ``"mm"`` needs `spacing_mm` at each update.

    Raises:
        ConfigError: there are none for this kind of output, or `unit` is unknown.
    """
    classes, dims, kind = spec.output.classes, len(spec.input.size), spec.output.kind
    metrics: dict[str, torchmetrics.Metric | torchmetrics.MetricCollection]
    if kind == "landmarks":
        counts = spec.output.landmarks
        metrics = {
            "landmark_mse": LandmarkMSE(counts, unit=unit),
            "landmark_error": LandmarkError(counts, unit=unit),
            "landmark_error95": LandmarkError(counts, percentile=95, unit=unit),
        }
    elif kind in ("mask", "displacement"):
        metrics = {"dice": Dice(classes, dims=dims), "surface": SurfaceMetrics(classes, dims=dims, unit=unit)}
        if kind == "mask":
            metrics |= {"components": Components(classes, dims=dims), "holes": Holes(classes, dims=dims)}
        else:
            metrics |= {"folding_fraction": FoldingFraction(), "log_jacobian_sd": LogJacobianSD()}
    else:
        raise ConfigError(f"{spec.name} gives {kind!r}, for which there are no default metrics; choose some.")
    return torchmetrics.MetricCollection(metrics)


def _surface_numbers(
    prediction: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.bool_],
    spacing_mm: Spacing = None,
    *,
    in_mm: bool,
    tolerance: float | None,
    missing: Missing,
) -> list[float]:
    if in_mm:
        known_spacing(spacing_mm, prediction.ndim)
    distances = surface_distances(prediction, reference, spacing_mm)
    numbers = [
        distances.hausdorff(missing=missing),
        distances.hausdorff(95, missing=missing),
        distances.assd(missing=missing),
    ]
    return numbers if tolerance is None else [*numbers, distances.nsd(tolerance, missing)]
