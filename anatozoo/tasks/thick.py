"""Volumes, the thick slices that a scanner would have made of them, and how near a restored one comes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from anatozoo.errors import DataError
from anatozoo.io.grid import GridImage
from anatozoo.io.intensity import intensity_range
from anatozoo.metrics.cases import Case
from anatozoo.metrics.images import psnr, ssim
from anatozoo.nn.slices import interpolate_slices
from anatozoo.nn.thick_slices import degrade_slices
from anatozoo.tasks.trials import numbers_case

FEWEST = 8
"""Voxels a side that SSIM needs."""
Volume = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Thickened:
    """A volume and thick slices of it.

    Attributes:
        image: the true volume.
        thick: the thick slices, with their place in space.
        factor: thin slices for each thick one.
        first: index of the volume's first slice among the thin ones that the thick slices stand for.
    """

    image: GridImage
    thick: GridImage
    factor: int
    first: int

    def own(self, fine: Volume) -> Volume:
        """Of thin slices in the place of the thick ones, those where the volume is."""
        return fine[self.first : self.first + len(self.image.pixels)]


def thickened(image: GridImage, factor: int, profile: str) -> Thickened:
    """Thick slices of a volume (D, H, W).

    Where the number of thin slices is not a multiple of the factor, the volume goes on beyond its ends as it
    is there.

    Raises:
        DataError: the spacing is unknown, or the volume is too small or constant.
        ConfigError: the profile is unknown.
    """
    spacing, name = image.grid.spacing_mm, image.name
    if spacing is None:
        raise DataError(f"{name}: the spacing is unknown, and with it how thick its slices are; give it.")
    if min(image.grid.shape) < FEWEST:
        raise DataError(f"{name} is {image.grid.size} voxels; {FEWEST} a side are needed.")
    if image.pixels.min() == image.pixels.max():
        raise DataError(
            f"every voxel of {name} has the same value; a constant volume has nothing to restore."
        )
    missing = -len(image.pixels) % factor
    first = missing // 2
    padded = np.pad(image.pixels, ((first, missing - first), (0, 0), (0, 0)), mode="edge")
    thick = degrade_slices(torch.from_numpy(padded)[None, None], factor, profile)[0, 0].numpy()  # type: ignore[arg-type]
    middle = image.grid.to_physical((0, 0, (factor - 1) / 2 - first))
    grid = replace(
        image.grid,
        size=thick.shape[::-1],
        spacing_mm=(*spacing[:2], spacing[2] * factor),
        origin=tuple(middle.tolist()),
    )
    return Thickened(image, GridImage(thick, grid, name), factor, first)


def similarity(found: Volume, truth: Volume) -> dict[str, float]:
    """``psnr`` and ``ssim`` of two volumes, percentiles 0.5 and 99.5 of the truth being 0 and 1."""
    low, high = intensity_range(truth)
    a, b = (torch.from_numpy((x - low) / (high - low))[None, None] for x in (found, truth))
    inside = torch.ones(1, *truth.shape, dtype=torch.bool)
    return {"psnr": float(psnr(a, b, inside)), "ssim": float(ssim(a, b, inside))}


def judged(volume: Thickened, fine: Volume) -> Case:
    """The case of thin slices in the place of the thick ones: PSNR, SSIM, their gain over interpolation."""
    thick = torch.from_numpy(volume.thick.pixels)[None, None]
    linear = interpolate_slices(thick, volume.factor)[0, 0].numpy()
    found, plain = (similarity(volume.own(each), volume.image.pixels) for each in (fine, linear))
    gains = {f"{name}_gain": value - plain[name] for name, value in found.items()}
    return numbers_case(found | gains)
