"""Metrics on torchmetrics that measure image by image with any function; see `anatozoo.metrics.classes`.

Each number of each image is kept under the image's place in the data set, so that means do not depend on how
many processes share the images, and images that a distributed sampler repeats count once.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.metrics.batches import Batch, Index, check_lengths, class_masks, spacings
from anatozoo.metrics.per_image import PerImageMean
from anatozoo.metrics.surface import Unit, as_array

_UNNAMED = -1


class PerImageMetric(PerImageMean):
    """Numbers of each image under names, their means over distinct images, and how many images these cover.

    Args:
        names: of the numbers, with their units.
        classes: each name is measured for each of them; none for numbers of whole images.

    Raises:
        ConfigError: a class is named twice, or a name is empty.
    """

    is_differentiable = False

    def __init__(self, names: Sequence[str], classes: Sequence[str] = ()) -> None:
        if isinstance(classes, str) or len(set(classes)) != len(classes) or not all(classes):
            raise ConfigError(f"classes={classes!r} must be a list of different names.")
        self.keys = [f"{name}/{c}" for name in names for c in classes] if classes else list(names)
        super().__init__(len(self.keys) + len(classes))
        self.classes = tuple(classes)
        # A MetricCollection updates only one of several metrics whose states are equal after the first batch,
        # as those of sensitivity and precision are when it is perfect. No two metrics share this name.
        self.add_state(f"apart_{uuid4().hex}", default=[])

    def add(self, rows: Iterable[Sequence[float]], index: Index = None) -> None:
        """Take in images.

        Args:
            rows: of each image its numbers in the order of `keys`, then for each class whether it was missed.
            index: (B,) place of each image in the data set.

        Raises:
            DataError: `index` does not name each image by a whole number of at least 0.
        """
        values = torch.tensor(list(rows), dtype=torch.float32, device=self.device).reshape(-1, self.columns)
        place = torch.full((len(values),), _UNNAMED) if index is None else torch.as_tensor(index).reshape(-1)
        whole = not (place.is_floating_point() or place.is_complex() or place.dtype == torch.bool)
        if len(place) != len(values) or (index is not None and not (whole and bool((place >= 0).all()))):
            raise DataError(
                f"index must be {len(values)} whole numbers of at least 0, one per image, not {len(place)} "
                f"of {place.dtype}, first {place[:4].tolist()}."
            )
        super().update(place.to(self.device), values)

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Measure a batch and `add` its numbers; each metric says what it takes, by names that all share."""

    def rows(self) -> tuple[Tensor, Tensor]:
        """Places (n,), sorted, and numbers (n, columns) of distinct images; those without a place come last.

        Of repeats the first counts.
        """
        if isinstance(self.index, list) and not self.index:
            return torch.empty(0, dtype=torch.long), torch.empty(0, self.columns)
        # After gathering, a list has become one tensor.
        places, values = (
            (torch.cat(x) if isinstance(x, list) else x).cpu() for x in (self.index, self.values)
        )
        first = torch.from_numpy(np.unique(places.numpy(), return_index=True)[1])
        named = first[places[first] != _UNNAMED]
        order = torch.cat([named, torch.nonzero(places == _UNNAMED)[:, 0]])
        return places[order], values[order]

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Of each key the mean, ``KEY/n`` and, where there are classes, ``KEY/missed``: float32 scalars."""
        values = self.rows()[1].double()
        means, counts, sums = values.nanmean(0), (~values.isnan()).sum(0), values.sum(0)
        result: dict[str, Tensor] = {}
        for i, key in enumerate(self.keys):
            result |= {key: means[i], f"{key}/n": counts[i]}
            if self.classes:
                result[f"{key}/missed"] = sums[len(self.keys) + i % len(self.classes)]
        return {key: value.float().to(self.device) for key, value in result.items()}


class MaskMetric(PerImageMetric):
    """Any function of two masks, for each class.

    Args:
        function: of prediction and reference, (H, W) or (D, H, W) bool each; a number, or one for each name.
            With ``unit="mm"`` it takes ``spacing_mm`` too. Functions of modules can be pickled.
        names: of its numbers.
        classes: in the order of their labels.
        dims: 2 for images, 3 for volumes.
        unit: ``"mm"`` where the function needs a spacing.
        options: further arguments of the function.

    Raises:
        ConfigError: no class, a class twice, or `dims` or `unit` is unknown.
    """

    def __init__(
        self,
        function: Callable[..., float | Sequence[float]],
        names: Sequence[str],
        classes: Sequence[str],
        *,
        dims: int = 2,
        unit: Unit = "px",
        **options: Any,
    ) -> None:
        _check_settings(classes, dims, unit)
        super().__init__(names, classes)
        self.function, self.dims, self.unit, self.options = function, dims, unit, options

    def update(  # type: ignore[override]
        self, prediction: Batch, reference: Batch, index: Index = None, spacing_mm: Any = None
    ) -> None:
        """Measure a batch; for shapes and kinds of masks see the module.

        Raises:
            GeometryError: shapes do not fit, a label is unknown, a number is NaN, or a spacing is missing.
            DataError: `index` is wrong.
        """
        ours, truth = (class_masks(side, self.classes, self.dims) for side in (prediction, reference))
        check_lengths(prediction=ours, reference=truth)
        rows = []
        for found, true, spacing in zip(ours, truth, spacings(spacing_mm, len(ours)), strict=True):
            options = self.options | ({"spacing_mm": spacing} if self.unit == "mm" else {})
            numbers = [
                np.atleast_1d(self.function(p, t, **options)) for p, t in zip(found, true, strict=True)
            ]
            missed = [float(t.any() and not p.any()) for p, t in zip(found, true, strict=True)]
            rows.append([*np.stack(numbers, 1).ravel().tolist(), *missed])
        self.add(rows, index)


class ShapeMetric(PerImageMetric):
    """Any function of the predicted mask alone, for each class.

    An organ that was not found has no shape: its image counts in no mean. It counts as missed, but where a
    reference says that there is none.
    """

    def __init__(
        self, function: Callable[..., float], name: str, classes: Sequence[str], *, dims: int = 2
    ) -> None:
        _check_settings(classes, dims, "px")
        super().__init__([name], classes)
        self.function, self.dims = function, dims

    def update(  # type: ignore[override]
        self, prediction: Batch, reference: Batch | None = None, index: Index = None
    ) -> None:
        """Measure a batch; of the reference nothing but which classes are there is looked at."""
        ours = class_masks(prediction, self.classes, self.dims)
        truth = ours if reference is None else class_masks(reference, self.classes, self.dims)
        check_lengths(prediction=ours, reference=truth)
        rows = []
        for found, true in zip(ours, truth, strict=True):
            numbers = [float(self.function(p)) if p.any() else np.nan for p in found]
            expected = [reference is None or t.any() for t in true]
            missed = [float(e and not p.any()) for p, e in zip(found, expected, strict=True)]
            rows.append([*numbers, *missed])
        self.add(rows, index)


class LandmarkMetric(PerImageMetric):
    """Any function of two sets of landmarks, over all of them and for each class.

    Args:
        function: of prediction and reference, (N, n) each. With ``unit="mm"`` it takes ``spacing_mm`` too.
        name: of its number.
        classes: class -> its number of landmarks, in order; None measures all together alone.
        unit: ``"mm"`` where the function needs a spacing.
        options: further arguments of the function.

    Raises:
        ConfigError: a class has no landmarks, or `unit` is unknown.
    """

    def __init__(
        self,
        function: Callable[..., float],
        name: str,
        classes: Mapping[str, int] | None = None,
        *,
        unit: Unit = "px",
        **options: Any,
    ) -> None:
        _check_unit(unit)
        self.counts = dict(classes or {})
        if any(count < 1 for count in self.counts.values()):
            raise ConfigError(f"each class must have at least one landmark, not {self.counts}.")
        super().__init__([name, *(f"{name}/{c}" for c in self.counts)])
        self.function, self.unit, self.options = function, unit, options

    def update(  # type: ignore[override]
        self, prediction: Batch, reference: Batch, index: Index = None, spacing_mm: Any = None
    ) -> None:
        """Measure a batch.

        Args:
            prediction: (B, N, n) pixels (x, y[, z]).
            reference: of the same shape. A class all of whose coordinates are NaN is not annotated: the image
                counts in no mean of it, and the number over all landmarks is over the others.
            index: (B,) place of each image in the data set.
            spacing_mm: one number or (x, y[, z]), or a tensor (B, n); with ``unit="mm"``.

        Raises:
            GeometryError: shapes do not fit, another coordinate is not finite, or a spacing is missing.
            DataError: `index` is wrong.
        """
        check_lengths(prediction=prediction, reference=reference)
        rows = []
        for p, t, spacing in zip(prediction, reference, spacings(spacing_mm, len(prediction)), strict=True):
            options = self.options | ({"spacing_mm": spacing} if self.unit == "mm" else {})
            rows.append(self._numbers(as_array(p), as_array(t), options))
        self.add(rows, index)

    def _numbers(
        self, found: npt.NDArray[Any], true: npt.NDArray[Any], options: Mapping[str, Any]
    ) -> list[float]:
        if found.shape != true.shape or true.ndim != 2:
            raise GeometryError(f"landmarks of shapes {found.shape} and {true.shape}: give (B, N, n) twice.")
        total = sum(self.counts.values()) or len(true)
        if total != len(true):
            raise GeometryError(f"{len(true)} landmarks do not divide into {self.counts}.")
        ends = np.cumsum(list(self.counts.values()) or [total])
        parts = [
            slice(end - count, end) for end, count in zip(ends, self.counts.values() or [total], strict=True)
        ]
        known = [not np.isnan(true[part]).all() for part in parts]
        if not any(known):
            return [np.nan] * len(self.keys)
        numbers = [
            self.function(found[part], true[part], **options) if there else np.nan
            for part, there in zip(parts, known, strict=True)
        ]
        kept = np.concatenate([np.arange(total)[part] for part, k in zip(parts, known, strict=True) if k])
        return [self.function(found[kept], true[kept], **options), *(numbers if self.counts else [])]


class FieldMetric(PerImageMetric):
    """Any function of displacement fields and what belongs to them, one number per pair of images.

    Args:
        function: of arguments (1, ...) each, of one pair; a tensor (1,). With ``unit="mm"`` it takes
            ``spacing_mm`` too.
        name: of its number.
        unit: ``"mm"`` where the function needs a spacing.
        options: further arguments of the function.

    Raises:
        ConfigError: `unit` is unknown.
    """

    def __init__(
        self, function: Callable[..., Tensor], name: str, *, unit: Unit = "px", **options: Any
    ) -> None:
        _check_unit(unit)
        super().__init__([name])
        self.function, self.unit, self.options = function, unit, options

    def measure(self, index: Index, spacing_mm: Any = None, **batches: Batch) -> None:
        """Measure a batch, each argument of the function given as (B, ...) or as a list of B."""
        check_lengths(**batches)
        count = len(next(iter(batches.values())))
        rows = []
        for i, spacing in enumerate(spacings(spacing_mm, count)):
            options = self.options | ({"spacing_mm": spacing} if self.unit == "mm" else {})
            rows.append([float(self.function(**{k: v[i][None] for k, v in batches.items()}, **options))])
        self.add(rows, index)

    def update(  # type: ignore[override]
        self, field: Batch, index: Index = None
    ) -> None:
        """Measure fields (B, n, ...) in pixels.

        Raises:
            GeometryError: the shape is no field's, or a number is not finite.
            DataError: `index` is wrong.
        """
        self.measure(index, field=field)


class ProbabilityMetric(PerImageMetric):
    """Any function of probabilities and labels, one number per image over all its pixels.

    Args:
        function: of probabilities (C, ...) or (...) and labels (...), with ``ignore``.
        name: of its number.
        ignore_label: pixels of this label are left out.
        options: further arguments of the function.
    """

    higher_is_better = False

    def __init__(
        self, function: Callable[..., float], name: str, *, ignore_label: int | None = None, **options: Any
    ) -> None:
        super().__init__([name])
        self.function, self.ignore_label, self.options = function, ignore_label, options

    def update(  # type: ignore[override]
        self, prediction: Batch, reference: Batch, index: Index = None
    ) -> None:
        """Measure a batch.

        Args:
            prediction: (B, C, ...) probabilities, not logits, background included; or (B, ...) of class 1.
            reference: (B, ...) labels.
            index: (B,) place of each image in the data set.

        Raises:
            GeometryError: shapes do not fit.
            DataError: a probability is NaN or outside 0..1, a label is unknown, or `index` is wrong.
        """
        check_lengths(prediction=prediction, reference=reference)
        rows = []
        for p, labels in zip(prediction, map(as_array, reference), strict=True):
            ignore = None if self.ignore_label is None else labels == self.ignore_label
            rows.append([self.function(p, labels, ignore=ignore, **self.options)])
        self.add(rows, index)


def _check_unit(unit: str) -> None:
    if unit not in ("px", "mm"):
        raise ConfigError(f"unit={unit!r} must be 'px' or 'mm'.")


def _check_settings(classes: Sequence[str], dims: int, unit: str) -> None:
    _check_unit(unit)
    if not classes or dims not in (2, 3):
        raise ConfigError(f"classes={classes!r} must hold a name and dims={dims} be 2 or 3.")
