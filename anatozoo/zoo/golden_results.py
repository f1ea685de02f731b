"""What golden files store of a result, how it is compared, and in which words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

TOLERANCE_PX = 0.5
"""Room for float16 storage and other processors' rounding, far below what anyone sees in a contour."""
TOLERANCE_SHARE = 0.001
"""The same for masks, where a pixel on the border may change sides, and for the grey values of volumes."""
TOLERANCE_SCORE = 0.01
"""The same for probabilities."""


@dataclass(frozen=True)
class Golden:
    """One form of result in a golden file.

    Args:
        key: name of its tensor; with ``/`` at its end, the start of several names, one for each organ.
        attribute: where results hold it.
        unit: of differences, ``"px"``, ``"share"`` of pixels, ``"range"``, a share of the grey values', or
            ``"probability"``.
        tolerance: what a result may differ by, in this unit.
        outcome: a sentence about the difference ``d`` and the tolerance ``t`` or ``p``, in percent.
        complaint: another, where it is larger; ``what`` is what differs.
    """

    key: str
    attribute: str
    unit: str
    tolerance: float
    outcome: str
    complaint: str

    @property
    def tolerance_key(self) -> str:
        """Where the metadata of the file hold the tolerance."""
        return "tolerance_px" if self.unit == "px" else "tolerance"

    def holds(self, key: str) -> bool:
        """Whether a tensor of this name is of this form."""
        return key.startswith(self.key) if self.key.endswith("/") else key == self.key

    def of(self, result: Any) -> "dict[str, np.ndarray]":
        """The arrays of a result by their names in the file; empty where it has none of this form.

        Raises:
            ConfigError: they cannot be stored.
        """
        found = getattr(result, self.attribute, None)
        return {} if found is None else self.arrays(found)

    def arrays(self, found: Any) -> "dict[str, np.ndarray]":
        """What stands in the result, as it is stored."""
        import numpy as np

        return {self.key: np.asarray(found, np.float32)}

    def check(self, arrays: "Arrays", inputs: "Arrays") -> None:
        """Refuse arrays with which nothing can be compared.

        Raises:
            ConfigError: their shape or their values.
        """

    def difference(self, stored: "np.ndarray", found: "np.ndarray", inputs: "Arrays") -> float:
        """How far a result is from the stored one, NaN where that cannot be said; shapes are equal."""
        return _longest(found - stored.astype(float), -1)

    def complain(self, key: str, difference: float, tolerance: float) -> str:
        """The sentence about a tensor that differs by more than its tolerance."""
        return self.complaint.format(what=key.removeprefix(self.key), d=difference, t=tolerance)


class _Landmarks(Golden):
    def arrays(self, found: Any) -> "dict[str, np.ndarray]":
        import numpy as np

        return {self.key + organ: np.asarray(points, np.float64) for organ, points in found.items()}


class _LabelMap(Golden):
    def arrays(self, found: Any) -> "dict[str, np.ndarray]":
        import numpy as np

        labels = np.asarray(found)
        if labels.dtype not in (np.uint8, np.bool_):
            raise ConfigError(f"result.mask must be a uint8 label map, not {labels.dtype}.")
        return {self.key: labels.astype(np.uint8)}

    def check(self, arrays: "Arrays", inputs: "Arrays") -> None:
        shape, image = arrays[self.key].shape, _last(inputs).shape
        if shape != image:
            raise ConfigError(f"the mask {shape} is not on the grid of the image {image}.")

    def difference(self, stored: "np.ndarray", found: "np.ndarray", inputs: "Arrays") -> float:
        return float((stored != found).mean())


class _Displacement(Golden):
    def check(self, arrays: "Arrays", inputs: "Arrays") -> None:
        shape, image = arrays[self.key].shape, _last(inputs).shape
        if self._component_axis(shape, image) is None:
            raise ConfigError(
                f"displacement_px {shape} is not the fixed image's shape {image} with an axis of "
                f"{len(image)} before or after it."
            )

    def difference(self, stored: "np.ndarray", found: "np.ndarray", inputs: "Arrays") -> float:
        axis = self._component_axis(stored.shape, _last(inputs).shape)
        return _longest(found - stored.astype(float), -1 if axis is None else axis)

    @staticmethod
    def _component_axis(field: tuple[int, ...], image: tuple[int, ...]) -> int | None:
        """Which axis of a field holds x, y[, z]: the last or the first; None where neither fits."""
        if field == (*image, len(image)):
            return -1
        return 0 if field == (len(image), *image) else None


class _Scores(Golden):
    def arrays(self, found: Any) -> "dict[str, np.ndarray]":
        import numpy as np

        return {self.key: np.asarray(list(found.values()), np.float64)}

    def check(self, arrays: "Arrays", inputs: "Arrays") -> None:
        scores = arrays[self.key]
        if scores.ndim != 1 or not ((scores >= 0) & (scores <= 1)).all():
            raise ConfigError(f"the scores {scores.shape} are not probabilities, one for each finding.")

    def difference(self, stored: "np.ndarray", found: "np.ndarray", inputs: "Arrays") -> float:
        import numpy as np

        return float(np.abs(found - stored).max())


class _GreyValues(Golden):
    axes: ClassVar[str] = "(D, H, W)"
    element: ClassVar[str] = "voxel"

    def check(self, arrays: "Arrays", inputs: "Arrays") -> None:
        import numpy as np

        values = arrays[self.key]
        if values.ndim != len(self.axes.split()) or not np.isfinite(values).all():
            raise ConfigError(f"the {self.key} {values.shape} is not {self.axes}, or holds NaN or infinity.")
        # What differs is compared with the range; and a constant answer says nothing about the weights.
        if not np.ptp(values) > 0:
            raise ConfigError(
                f"every {self.element} of the {self.key} has the same value, which tests nothing."
            )

    def difference(self, stored: "np.ndarray", found: "np.ndarray", inputs: "Arrays") -> float:
        import numpy as np

        return float(np.abs(found.astype(np.float64) - stored).max() / np.ptp(stored))


class _GreyImage(_GreyValues):
    axes: ClassVar[str] = "(H, W)"
    element: ClassVar[str] = "pixel"


def _last(inputs: "Arrays") -> "np.ndarray":
    """The image on whose grid results lie: the only one, or the fixed one."""
    return list(inputs.values())[-1]


def _longest(vectors: "np.ndarray", axis: int) -> float:
    import numpy as np

    distances = np.linalg.norm(vectors, axis=axis)
    return float(distances.max(initial=0.0)) if not np.isnan(distances).any() else math.nan


_PLACES = "{d:.4f} px away at most, {t:g} px allowed"
_MOVED = "is {d:.3f} px from where it was, more than {t:g} px"

LANDMARKS = _Landmarks(
    "landmarks/", "landmarks", "px", TOLERANCE_PX, _PLACES, f"a landmark of {{what}} {_MOVED}"
)
LABEL_MAP = _LabelMap(
    "mask",
    "mask",
    "share",
    TOLERANCE_SHARE,
    "{d:.4%} of the pixels differ, {p:g}% allowed",
    "{d:.3%} of the mask's pixels differ, more than {t:.3%}",
)
DISPLACEMENT = _Displacement(
    "displacement_px", "displacement_px", "px", TOLERANCE_PX, _PLACES, f"a displacement {_MOVED}"
)
GREY_VALUES = _GreyValues(
    "volume",
    "volume",
    "range",
    TOLERANCE_SHARE,
    "voxels differ by {d:.4%} of the range, {p:g}% allowed",
    "a voxel differs by {d:.3%} of the range, more than {t:.3%}",
)
GREY_IMAGE = _GreyImage(
    "translated",
    "translated",
    "range",
    TOLERANCE_SHARE,
    "pixels differ by {d:.4%} of the range, {p:g}% allowed",
    "a pixel differs by {d:.3%} of the range, more than {t:.3%}",
)
PROBABILITIES = _Scores(
    "scores",
    "scores",
    "probability",
    TOLERANCE_SCORE,
    "a probability differs by {d:.4f}, {t:g} allowed",
    "a probability differs by {d:.3f}, more than {t:g}",
)
