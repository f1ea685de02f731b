"""Images in the frame of a network, kept while their pixels cannot change."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import GridImage

LIMIT_BYTES = 2**26
"""What is kept in a process takes at most this much memory; then it begins anew."""


@dataclass(frozen=True, eq=False)
class Framed:
    """An image in a frame.

    Attributes:
        frame: the map from the image to the frame.
        pixels: (H, W) or (D, H, W) float32 in [0, 1], read-only.
    """

    frame: Frame
    pixels: npt.NDArray[np.float32]

    @classmethod
    def of(cls, image: GridImage, spec: FrameSpec) -> "Framed":
        """Resample an image into a frame.

        Raises:
            GeometryError, ConfigError: the frame does not take the image, see `Frame.fit`.
            ImageError: the image is constant or not finite.
        """
        frame = Frame.fit(image.grid, spec)
        pixels = frame.image(image.pixels, spec.intensity, image.black_white)
        pixels.flags.writeable = False
        return cls(frame, pixels)

    @cached_property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Pixels of the frame that show the image rather than what lies around it."""
        shown: npt.NDArray[np.bool_] = self.frame.labels(np.ones(self.frame.grid.shape, np.uint8)) > 0
        return shown


class _Kept:
    """What images gave, for as long as they live and there is room; several threads may ask at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: WeakKeyDictionary[GridImage, dict[str, Framed]] = WeakKeyDictionary()
        self._bytes = 0

    def of(self, image: GridImage, key: str, make: Callable[[], Framed]) -> Framed:
        with self._lock:
            found = self._found.get(image, {}).get(key)
        if found is not None:
            return found
        made = make()
        with self._lock:
            # Images that are gone still count: the sum is an upper bound, and costs nothing.
            self._bytes += made.pixels.nbytes * 5 // 4
            if self._bytes > LIMIT_BYTES:
                self._found.clear()
                self._bytes = made.pixels.nbytes * 5 // 4
            self._found.setdefault(image, {})[key] = made
        return made


_KEPT = _Kept()


def framed(image: GridImage, spec: FrameSpec) -> Framed:
    """An image in a frame; of images that cannot change, such as those of an atlas, it is kept.

    Only pixels that are read-only and no view of others cannot change.

    Args:
        image: the image.
        spec: settings of the frame.

    Raises:
        GeometryError, ConfigError, ImageError: see `Framed.of`.
    """
    if image.pixels.flags.writeable or image.pixels.base is not None:
        return Framed.of(image, spec)
    return _KEPT.of(image, repr(spec), lambda: Framed.of(image, spec))
