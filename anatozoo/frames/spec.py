"""The settings of a network's frame: one record for models and data modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from anatozoo.errors import ConfigError

Fit = Literal["pad", "stretch", "spacing", "slices"]
FITS = ("pad", "stretch", "spacing", "slices")


@dataclass(frozen=True)
class FrameSpec:
    """The frame of a network: size, resolution and grey values of its input.

    Args:
        size: side S of a square frame, [H, W] or [D, H, W], in pixels, each at least 8.
        fit: ``"pad"`` resizes the image in proportion and pads it, ``"stretch"`` resizes it to the frame,
            ``"spacing"`` resamples it to `spacing_mm`, ``"slices"`` keeps the slices of a stack and resizes
            them to `long_side`.
        spacing_mm: (x, y[, z]) millimetres per pixel of the frame, for ``"spacing"``.
        long_side: pixels of the longer side of a whole slice, for ``"slices"``; the frame shows its centre.
        intensity: how grey values are scaled to [0, 1]: ``"percentiles"`` from 0.5 to 99.5 % of each image,
            ``"bits"`` by the format's largest value; see `anatozoo.io.intensity`.

    Raises:
        ConfigError: settings that contradict one another.
    """

    size: int | list[int] = 256
    fit: Literal["pad", "stretch", "spacing", "slices"] = "pad"
    spacing_mm: list[float] | None = None
    long_side: int | None = None
    intensity: Literal["percentiles", "bits"] = "percentiles"

    def __post_init__(self) -> None:
        sides = (self.size,) * 2 if isinstance(self.size, int) else tuple(self.size)
        if len(sides) not in (2, 3) or any(type(side) is not int or side < 8 for side in sides):
            raise ConfigError(
                f"the frame's size={self.size!r} must be a side, [H, W] or [D, H, W], each at least 8."
            )
        if self.fit not in FITS:
            raise ConfigError(f"the frame's fit={self.fit!r} is unknown; choose one of {', '.join(FITS)}.")
        if self.fit == "spacing" and len(self.spacing_mm or ()) != len(sides):
            raise ConfigError(f"the frame's fit='spacing' needs spacing_mm with {len(sides)} numbers.")
        if self.spacing_mm is not None and not all(value > 0 for value in self.spacing_mm):
            raise ConfigError(f"the frame's spacing_mm={self.spacing_mm} must be positive numbers.")
        if self.fit == "slices" and (len(sides) != 3 or (self.long_side or 0) < 8):
            raise ConfigError(
                f"the frame's fit='slices' needs size [D, H, W] and long_side={self.long_side} of at least 8."
            )
        if self.intensity not in ("percentiles", "bits"):
            raise ConfigError(
                f"the frame's intensity={self.intensity!r} is unknown; choose percentiles or bits."
            )

    @classmethod
    def of(cls, given: FrameSpec | Mapping[str, Any]) -> FrameSpec:
        """The record itself, or one made from a mapping as `to_dict` gives it.

        Raises:
            ConfigError: the mapping has other keys, or settings that contradict one another.
        """
        if isinstance(given, FrameSpec):
            return given
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"a frame has no setting {', '.join(unknown)}.")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (D, H, W)."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.shape)

    def require(self, dims: int | Sequence[int], fits: Sequence[str] = FITS) -> None:
        """Check that a method supports this frame.

        Args:
            dims: supported numbers of dimensions.
            fits: supported values of `fit`.

        Raises:
            ConfigError: the method does not support the frame.
        """
        allowed = (dims,) if isinstance(dims, int) else tuple(dims)
        if self.dims not in allowed:
            words = {2: "a side or [H, W]", 3: "[D, H, W]"}
            raise ConfigError(
                f"the frame's size={self.size} must be {' or '.join(words[each] for each in allowed)} here."
            )
        if self.fit not in fits:
            raise ConfigError(f"the frame's fit={self.fit!r} must be {' or '.join(fits)} here.")

    def __str__(self) -> str:
        """The frame in words, as in messages: ``64 x 64 pixels (pad)``."""
        how: str = self.fit
        if self.fit == "spacing":
            how = f"spacing {list(self.spacing_mm or ())} mm"
        elif self.fit == "slices":
            how = f"slices, long side {self.long_side}"
        return f"{' x '.join(map(str, self.shape))} pixels ({how})"
