"""The result of translating an image: the same image in the look of another domain."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import itk_image
from anatozoo.results.base import Formats, GridResult, Names, read_only, write_grid, write_json, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = npt.NDArray[np.float32]


def _write_grey(result: TranslatedImage, path: Path) -> Path:
    import cv2

    from anatozoo.io import writers

    grey = np.round(255 * result.translated).astype(np.uint8)
    return writers.write_bytes(path, cv2.imencode(".png", grey)[1].tobytes())


@dataclass(frozen=True, eq=False, repr=False)
class TranslatedImage(GridResult):
    """An image in the look of another domain, on its own grid.

    `save` knows ``"png"`` (``_translated.png``, 8 bits), ``"nifti"`` or ``"mha"`` (``_translated.nii.gz``,
    ``_translated.mha``, float32), ``"picture"`` (``_translation.png``, the plot) and ``"json"``.

    Attributes:
        domains: names of the domain that it comes from and of that whose look it has.
        translated: (H, W) float32 in [0, 1], 0 black and 1 white, read-only.
        given: the image before, scaled to [0, 1] as the network sees it.
        flags: what to look at, such as ``"large_change"``; empty is good.

    Raises:
        GeometryError: the pixels do not lie on the grid.
    """

    formats: ClassVar[Formats] = Formats(
        "translated images",
        {
            "png": {"_translated.png": _write_grey},
            "nifti": {"_translated.nii.gz": write_grid},
            "mha": {"_translated.mha": write_grid},
            "picture": {"_translation.png": write_picture},
            "json": {".json": write_json},
        },
        default=("png", "picture", "json"),
    )
    head: ClassVar[Names] = (*GridResult.head[:-1], "domains", "mean_change", "flags")
    dpi: ClassVar[int] = 100

    domains: tuple[str, str]
    translated: Pixels = field(repr=False)
    given: Pixels = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("translated", "given"):
            values = np.asarray(getattr(self, name)).view()
            if values.dtype != np.float32 or values.shape != self.grid.shape:
                raise GeometryError(
                    f"{name} of {values.dtype} {values.shape} must be float32 {self.grid.shape}, as the grid."
                )
            self._put(**{name: read_only(values)})

    @property
    def mean_change(self) -> float:
        """Mean absolute change of a pixel, as a share of the range of grey values."""
        return round(float(np.abs(self.translated - self.given).mean()), 6)

    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the translated image, with its spacing."""
        return itk_image(self.translated, self.grid)

    def plot(self) -> Figure:
        """Draw the image before and after, and the difference.

        The figure is none of pyplot's, so nothing is left open; notebooks display it.
        """
        from anatozoo.results.draw.translated import plot_translated

        return self._titled(plot_translated(self.given, self.translated, self.domains, self.grid.aspect))
