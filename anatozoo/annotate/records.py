"""What is known of an image after a run: a record, a line of JSON in the result of its shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from anatozoo.io.rle import ChexmaskRow

SIDE = 1024
"""Side of the square frame in which CheXmask publishes its preprocessed masks."""


@dataclass(frozen=True)
class Frame:
    """An annotation in one frame.

    Attributes:
        points: landmarks of lungs and heart as CheXmask writes them, whole pixels; empty of other models.
        runs: organ -> run lengths of its mask.
    """

    points: str = ""
    runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One image of a run; nothing in it depends on when, where and by whom it was computed.

    Attributes:
        id: of the image.
        source: where it was read from.
        status: ``"ok"``, ``"failed"`` or ``"duplicate"``, of which another image has the content.
        reason: of a failure, or why a result lacks its quality; else empty.
        flags: remarks on the image and the result.
        size: (width, height) in pixels.
        spacing_mm: (x, y), None where unknown.
        landmarks: organ -> x and y in turn, in pixels of the image.
        original: the annotation in the image's own pixels.
        square: the annotation in CheXmask's frame of 1024 x 1024 pixels.
        numbers: areas in pixels, the cardiothoracic ratio and the estimates of quality.
        atlas_images: that judged it.
    """

    id: str
    source: str
    status: str = "ok"
    reason: str = ""
    flags: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    spacing_mm: tuple[float, float] | None = None
    landmarks: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    original: Frame = Frame()
    square: Frame = Frame()
    numbers: Mapping[str, float] = field(default_factory=dict)
    atlas_images: tuple[str, ...] = ()

    def line(self) -> bytes:
        """The record as a line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The record from the values of its line.

        Raises:
            TypeError: they are not a record.
        """
        found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        frames = {name: Frame(**found[name]) for name in ("original", "square")}
        return cls(**{**found, **frames})

    def chexmask(self, square: bool) -> ChexmaskRow:
        """The row of CheXmask's table in one of its frames."""
        frame, size = (self.square, (SIDE, SIDE)) if square else (self.original, self.size)
        return ChexmaskRow(size, frame.points, frame.runs, self.numbers)
