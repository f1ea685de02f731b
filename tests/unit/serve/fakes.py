"""Models without networks that repair masks and register pairs, and files for them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from anatozoo.errors import ImageError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.masks import MaskInput, read_mask
from anatozoo.io.read import read_grid_image, read_stack
from anatozoo.io.writers import write_itk
from anatozoo.results.field import RegistrationResult
from anatozoo.results.repair import RepairResult
from anatozoo.results.volume import VolumeResult
from tests.support.phantoms import NODES


class FakeRepairer:
    """Turns the label map upside down; counts batches, fails for the names in `bad`."""

    kind = "repair"
    checkpoint_name, checkpoint_version = "fakedae-phantom", "2.0.0"

    def __init__(
        self, organs: Iterable[str] = NODES, shape: tuple[int, ...] = (64, 64), bad: Iterable[str] = ()
    ) -> None:
        self.organs, self.shape, self.bad = list(organs), shape, set(bad)
        self.seen: list[str] = []
        self.batches: list[int] = []

    def predict(self, x: Any, *, classes: Any = None, spacing_mm: Any = None) -> RepairResult:
        return self._result(self._read(x, classes, spacing_mm))

    def predict_batch(
        self, xs: Iterable[Any], batch_size: int = 8, *, classes: Any = None, spacing_mm: Any = None
    ) -> Iterator[RepairResult]:
        masks = [self._read(x, classes, spacing_mm) for x in xs]
        self.batches.append(len(masks))
        yield from map(self._result, masks)

    def _read(self, x: Any, classes: Any, spacing_mm: Any) -> MaskInput:
        return read_mask(x, self.organs, len(self.shape), classes=classes, spacing_mm=spacing_mm)

    def _result(self, mask: MaskInput) -> RepairResult:
        self.seen.append(Path(mask.name).name)
        if Path(mask.name).name in self.bad:
            raise RuntimeError("the repair cannot do this one")
        return RepairResult(
            self.checkpoint_name,
            self.checkpoint_version,
            mask.name,
            mask.grid,
            tuple(self.organs),
            mask.labels,
            mask.labels[..., ::-1, :].copy(),
            flags=("turned",),
        )


class FakeRegistrar:
    """Looks up every fixed pixel two pixels to the right in the moving image, at once in 2-D and 3-D."""

    kind = "field"
    checkpoint_name, checkpoint_version = "fakereg-phantom", "3.0.0"
    shift = 2

    def __init__(self, shape: tuple[int, ...] = (64, 64)) -> None:
        self.shape = shape
        self.seen: list[tuple[str, str]] = []
        self.ignored: list[bool] = []

    def predict(self, moving: Any, fixed: Any, *, ignore_spacing: bool = False) -> RegistrationResult:
        a, b = (read_grid_image(x, len(self.shape)) for x in (moving, fixed))
        self.seen.append((a.name, b.name))
        self.ignored.append(ignore_spacing)
        if a.name == "impossible":
            raise ImageError("the two have opposite polarity.")
        grids = [image.grid.in_pixels() if ignore_spacing else image.grid for image in (a, b)]
        scale = np.asarray(a.grid.size) / np.asarray(b.grid.size)
        middles = [(np.asarray(image.grid.size) - 1) / 2 for image in (a, b)]
        axes = np.meshgrid(*(np.arange(s, dtype=float) for s in b.grid.shape), indexing="ij")
        here = np.stack(axes[::-1], -1)
        field = (here - middles[1]) * scale + middles[0] - here
        field[..., 0] += self.shift
        return RegistrationResult(
            self.checkpoint_name,
            self.checkpoint_version,
            a.source or a.name,
            b.source or b.name,
            grids[0],
            grids[1],
            field.astype(np.float32),
            np.diag(scale),
            a.pixels,
            b.pixels,
            flags=("shifted",),
        )


def labels(shape: tuple[int, ...] = (40, 48), column: int = 10, organs: int = 2) -> np.ndarray:
    """A label map of blocks, one above the other, ten columns wide from `column` on."""
    found = np.zeros(shape, np.uint8)
    for value in range(1, organs + 1):
        top = 4 + (value - 1) * 30 // organs
        found[..., top : top + 30 // organs, column : column + 10] = value
    return found


def write_mask(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(values.astype(np.uint8)).save(path)
    return path


def write_volume(path: Path, values: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 2.0)) -> Path:
    return write_itk(path, itk_image(values, Grid(values.shape[::-1], spacing)), units_known=True)


def write_scan(path: Path, shape: tuple[int, ...] = (40, 48), seed: int = 0) -> Path:
    """Noise in which nothing is to be seen, 2-D as PNG or 3-D as NIfTI."""
    values = np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
    return write_mask(path, values) if len(shape) == 2 else write_volume(path, values)


class FakeHeart:
    """Calls what is above 200 the left ventricle, and what is above 100 the myocardium."""

    kind = "volume"
    checkpoint_name, checkpoint_version = "fakeheart-phantom", "1.0.0"
    shape = (4, 32, 32)
    organs = ("left_ventricle", "myocardium")

    def predict(self, x: Any, *, spacing_mm: Any = None) -> VolumeResult:
        stack = read_stack(x, spacing_mm=spacing_mm)
        labels = np.where(stack.pixels > 200, 1, np.where(stack.pixels > 100, 2, 0)).astype(np.uint8)
        name = stack.source or stack.name
        who = (self.checkpoint_name, self.checkpoint_version, name)
        return VolumeResult(*who, stack.grid, self.organs, labels, dicom=stack.dicom)

    predict_batch = None
