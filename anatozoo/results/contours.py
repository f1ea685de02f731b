"""The result of a model that predicts contours."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.results.base import Formats, read_only, write_label_map
from anatozoo.results.dicom_files import with_probability
from anatozoo.results.labels import Labels, checked_labels
from anatozoo.results.segmentation import Outlines, SegmentationResult

if TYPE_CHECKING:
    from anatozoo.metrics.measurements import Measurement

Bands = dict[str, npt.NDArray[np.float64]]
MOST_SAMPLES = 1000
"""Samples of a latent code at most: a standard deviation of so many is known to 2 %."""

AGREED = 0.8
"""Dice of an organ drawn from its contour and in the label map, below which a result is flagged."""


def _write_volume(result: ContourResult, path: Path) -> Path:
    from anatozoo.io.writers import write_volume

    assert result.label_map is not None
    return write_volume(path, result.label_map, result.spacing_mm)


def _write_png(result: ContourResult, path: Path) -> Path:
    assert result.label_map is not None
    return write_label_map(path, result.label_map, result.organs)


_PLAIN = SegmentationResult.formats
_BESIDE = {
    "png": {"_label_map.png": _write_png},
    "nifti": {"_label_map.nii.gz": _write_volume},
    "mha": {"_label_map.mha": _write_volume},
}


def checked_samples(samples: Any) -> int:
    """A number of samples of a latent code.

    Raises:
        ConfigError: it is not a whole number from 2 to 1000.
    """
    try:
        count = 0 if isinstance(samples, bool) else operator.index(samples)
    except TypeError:
        count = 0
    if not 2 <= count <= MOST_SAMPLES:
        raise ConfigError(
            f"samples={samples!r} must be a whole number from 2 to {MOST_SAMPLES}; 50 are usual, and one has "
            "no spread."
        )
    return count


@dataclass(frozen=True, eq=False, repr=False)
class ContourResult(SegmentationResult):
    """Organs on one image by their contours, in pixels of the image as it was given.

    `mask`, `masks`, areas, ratio and picture are those of the contours. Networks with a mask decoder, and
    fused atlases, also give `label_map`, which `save` writes beside the mask of the contours as
    ``_label_map.png``, ``.nii.gz`` or ``.mha``. The JSON has its areas and its `agreement` with the contours.

    Attributes:
        dual_formats: the formats of results with a label map.
        landmarks: organ -> ``(N, 2)`` float64, ``(x, y)`` in source pixels, pixel centres being whole
            numbers; read-only. Points may lie outside the image. If samples of the latent code were drawn,
            the mean over the samples.
        sigma: organ -> ``(N, 2)`` float64, standard deviations of x and y over the samples (with n - 1), in
            source pixels; None if none were drawn. They say how much the network's own latent distribution
            moves a landmark, and are not calibrated to its error.
        samples: number of samples, None if none were drawn.
        label_map: ``(H, W)`` uint8 on the source grid, values of `labels`, read-only: what a mask decoder or
            fused atlases say of pixels, which does not come from the contours; None of other models.

    Raises:
        GeometryError: landmarks are not ``(N, 2)`` and finite, size, spacing, pixels and label map
            contradict, no organ is named, or sigma does not go with the landmarks.
        ConfigError: the number of samples is not possible.
    """

    dual_formats: ClassVar[Formats] = replace(
        _PLAIN, writers={name: {**files, **_BESIDE.get(name, {})} for name, files in _PLAIN.writers.items()}
    )

    landmarks: dict[str, npt.NDArray[np.float64]] = field()
    sigma: dict[str, npt.NDArray[np.float64]] | None = field(default=None, kw_only=True)
    samples: int | None = field(default=None, kw_only=True)
    label_map: Labels | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        from anatozoo.io.landmarks import check_points

        super().__post_init__()
        self._put(landmarks={organ: check_points(points, organ) for organ, points in self.landmarks.items()})
        if (self.sigma is None) != (self.samples is None):
            raise GeometryError("sigma and the number of samples belong together; give both or none.")
        if self.sigma is not None:
            checked = {organ: check_points(values, organ) for organ, values in self.sigma.items()}
            shapes, own = ({o: v.shape for o, v in d.items()} for d in (checked, self.landmarks))
            if shapes != own or any((values < 0).any() for values in checked.values()):
                raise GeometryError("sigma must hold two numbers of at least 0 for each landmark.")
            own_order = {organ: checked[organ] for organ in self.landmarks}
            self._put(sigma=own_order, samples=checked_samples(self.samples))
        if self.label_map is not None:
            labels = checked_labels(self.label_map, self.size[::-1], self.organs)
            self._put(label_map=labels, formats=self.dual_formats)
        if self.shares is not None:
            self._put(formats=with_probability(self.formats))

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""
        return tuple(self.landmarks)

    @property
    def sigma_mm(self) -> dict[str, npt.NDArray[np.float64]] | None:
        """`sigma` in millimetres; None without samples or spacing."""
        if self.spacing_mm is None or self.sigma is None:
            return None
        return {organ: values * self.spacing_mm for organ, values in self.sigma.items()}

    @property
    def organ_sigma_px(self) -> dict[str, float] | None:
        """Mean of `sigma` over each organ's landmarks, x and y, in source pixels; None without samples."""
        if self.sigma is None:
            return None
        return {organ: float(values.mean()) for organ, values in self.sigma.items()}

    @property
    def sigma_px(self) -> float | None:
        """Mean of `sigma` over all landmarks, x and y: one number for the image; None without samples."""
        return None if self.sigma is None else float(np.concatenate(list(self.sigma.values())).mean())

    @property
    def measurements(self) -> list[Measurement]:
        """What `SegmentationResult.measurements` says; with samples also each organ's mean `sigma`."""
        from anatozoo.metrics.measurements import Measurement

        sigma, unit = (self.sigma, "px") if self.sigma_mm is None else (self.sigma_mm, "mm")
        means = {organ: float(values.mean()) for organ, values in (sigma or {}).items()}
        found = [Measurement("sigma", organ, value, unit) for organ, value in means.items()]
        return super().measurements + found

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """Label map ``(H, W)`` uint8 on the source grid, values of `labels`; later organs cover earlier."""
        from anatozoo.io.landmarks import draw_label_map

        return read_only(draw_label_map(self.landmarks, self.size))

    @cached_property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Mask of each organ, ``(H, W)`` bool, without overlap removed: the heart does not cut a lung."""
        from anatozoo.io.landmarks import draw_organ_mask

        drawn = {organ: draw_organ_mask(points, self.size) for organ, points in self.landmarks.items()}
        return {organ: read_only(mask) for organ, mask in drawn.items()}

    @cached_property
    def agreement(self) -> dict[str, float] | None:
        """Dice of each organ in `mask` and in `label_map`, NaN if it is in neither; None without a label map.

        In both, a pixel belongs to one organ only.
        """
        from anatozoo.metrics.functional import dice

        if self.label_map is None:
            return None
        return {o: dice(self.mask == value, self.label_map == value) for o, value in self.labels.items()}

    @property
    def disagreements(self) -> tuple[str, ...]:
        """A flag ``masks_disagree_ORGAN`` for each organ whose `agreement` is below 0.8."""
        return tuple(f"masks_disagree_{o}" for o, dice in (self.agreement or {}).items() if dice < AGREED)

    def outlines(self) -> Outlines:
        """The landmarks of each organ, one closed line."""
        return {organ: [points] for organ, points in self.landmarks.items()}

    def bands(self) -> Bands:
        """Two standard deviations to either side of each contour, see `contour_band`; else empty."""
        return {organ: contour_band(self.landmarks[organ], 2 * s) for organ, s in (self.sigma or {}).items()}

    def to_dict(self) -> dict[str, Any]:
        """What `SegmentationResult.to_dict` says, with samples their number and `sigma`, see there.

        With a label map also ``masks_from``, which says of each mask file where its pixels come from, and
        ``label_map`` with the organs' areas in the label map and the `agreement`.
        """
        from anatozoo.io.landmarks import SIGMA_DECIMALS, rounded

        found = super().to_dict()
        if self.label_map is not None and self.agreement is not None:
            areas = np.bincount(self.label_map.ravel(), minlength=1 + len(self.organs))[1:].tolist()
            agreed = {o: None if math.isnan(dice) else round(dice, 5) for o, dice in self.agreement.items()}
            found |= {
                "masks_from": {"_mask": "landmarks", "_label_map": "label_map"},
                "label_map": {"areas_px": dict(zip(self.organs, areas, strict=True)), "agreement": agreed},
            }
        if self.sigma is None or self.organ_sigma_px is None or self.sigma_px is None:
            return found

        def short(sigma: dict[str, npt.NDArray[np.float64]]) -> dict[str, list[list[float]]]:
            return {organ: rounded(values, SIGMA_DECIMALS) for organ, values in sigma.items()}

        organs = self.organ_sigma_px.items()
        return found | {
            "samples": self.samples,
            "sigma_px": round(self.sigma_px, SIGMA_DECIMALS),
            "organ_sigma_px": {organ: round(value, SIGMA_DECIMALS) for organ, value in organs},
            "sigma": short(self.sigma),
            "sigma_mm": None if self.sigma_mm is None else short(self.sigma_mm),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ContourResult:
        """The result from `to_dict`, without pixels and label map; derived values are computed again.

        Raises:
            DataError: a key is missing, or the result was a label map, which is not part of the JSON.
            GeometryError: the values are not possible, see the class.
        """
        try:
            if not value["landmarks"]:
                raise DataError(
                    f"{value['image']}: this result has no landmarks; its label map is in the _mask file."
                )
            return cls(
                checkpoint=value["checkpoint"],
                version=value["version"],
                image=value["image"],
                size=value["size"],
                spacing_mm=value["spacing_mm"],
                landmarks=dict(value["landmarks"]),
                flags=tuple(value["flags"]),
                sigma=value.get("sigma"),
                samples=value.get("samples"),
            )
        except KeyError as error:
            raise DataError(
                f"the key {error} is missing; give the JSON file of a segmentation result."
            ) from error


def contour_band(points: npt.NDArray[np.float64], reach: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A band around a closed contour, as one quadrilateral for each edge.

    Half its width at a landmark is the reach along the contour's normal there; how far a landmark slides
    along the contour does not widen it. The reaches along x and y are taken as independent.

    Args:
        points: (N, 2) landmarks.
        reach: (N, 2) reach of each along x and y, at least 0.

    Returns:
        (N, 4, 2) corners, in one sense of rotation.
    """
    tangent = np.roll(points, -1, 0) - np.roll(points, 1, 0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    offset = normal * np.linalg.norm(normal * reach, axis=1, keepdims=True)
    outer, inner = points + offset, points - offset
    quads = np.stack([outer, np.roll(outer, -1, 0), np.roll(inner, -1, 0), inner], 1)
    x, y = quads[..., 0], quads[..., 1]
    area = (x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1)
    quads[area < 0] = quads[area < 0, ::-1]
    return quads
