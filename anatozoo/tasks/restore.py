"""From a volume with thick slices to a `RestoredVolume`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.io.intensity import intensity_range
from anatozoo.io.orientation import Orientation
from anatozoo.io.read import read_stack
from anatozoo.nn.slices import interpolate_slices
from anatozoo.nn.windows import in_windows
from anatozoo.tasks.base import Predictor, in_batches

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.io.grid import GridImage
    from anatozoo.results.restored import RestoredVolume
    from anatozoo.tasks.trials import Conditions, Judge, Trial

WINDOW = (48, 160, 160)
"""Largest part of a coarse volume (D, H, W) that is restored at once, to limit the memory."""
OVERLAP = 0.25
"""Overlap of neighbouring windows, as a share of their size."""
UNUSUAL = 1.25
"""Results are flagged if the spacing differs by more than this factor from that of the training."""


class RestoreTask(Predictor):
    """A model that restores fine slices from thick ones.

    Subclasses set `network`, whose ``correction`` is added to the interpolated slices.

    Args:
        frame: the fine frame of the training, three-dimensional and with a resolution in millimetres;
            predictions have any size.
        factor: fine slices for each thick one.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset({"images"})
    conditions: ClassVar = frozenset({"profile"})
    needs = frozenset({"image"})

    network: Any

    def __init__(self, frame: FrameSpec | Mapping[str, Any], factor: int) -> None:
        super().__init__(frame)
        check_slices(self.frame, factor)
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        """Fine volumes (B, 1, D · factor, H, W) of coarse ones (B, 1, D, H, W), intensities about [0, 1]."""
        return self.network(image)

    def predict(
        self,
        x: Any,
        *,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> "RestoredVolume":
        """Restore one volume with thick slices, of any size; large volumes in windows.

        If directions are known, the network sees the slices in the order of
        `anatozoo.io.orientation.Orientation.of_slices`, as in training if they lie across the patient's long
        axis. The result has the order of the input.

        Args:
            x: path to NIfTI, MetaImage or NRRD, folder of a DICOM series, DICOM file, bytes or binary file
                object of such a file, pydicom data set or list of those of one series, array or tensor
                (D, H, W) with the thick slices first, or SimpleITK image; see
                `anatozoo.io.read.read_stack`.
            spacing_mm: millimetres per voxel, one number or (x, y, z), if the source has none.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.

        Returns:
            The volume with `factor` times as many slices, at the position of the thick ones. Flagged
            ``"unusual_spacing"`` if the voxel size differs from that of the training.

        Raises:
            ImageError: the volume cannot be read, is a single slice, a 4-D cine or constant, or its first
                axis is not across the slices.
            GeometryError: `spacing_mm` is not positive.
            ConfigError: the precision is not possible.
        """
        stack = read_stack(x, spacing_mm=spacing_mm)
        if stack.grid.size[Orientation.of_slices(stack.grid).axes[2]] < 2:
            raise ImageError(f"{stack.source or stack.name!r} is one slice; what lies between needs two.")
        with self.answering(precision):
            return self._restore(stack)

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 1,
        *,
        precision: str | None = None,
        on_error: str = "raise",
    ) -> Iterator["RestoredVolume"]:
        """Restore many volumes, one after another; yields results in order.

        Args:
            xs: whatever `predict` takes.
            batch_size: of no effect on volumes, which fill a device one by one; at least 1.
            precision: see `predict`.
            on_error: ``"raise"``, or ``"record"``: a volume that fails gives an
                `anatozoo.tasks.base.FailedInput` in its place, which is false, and the others their results.

        Raises:
            ConfigError: `batch_size` is below 1, or on_error is neither of the two.
            ImageError: a volume cannot be read; the ones before it have been yielded.
        """
        return in_batches(
            xs, min(batch_size, 1), lambda x: self.predict(x, precision=precision), list, on_error
        )

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """The thick slices that a scanner would have made of each volume, judged by the volume itself."""
        from anatozoo.tasks.trials import Trial, identity_of

        return [Trial(identity_of(case), partial(self._trial, case, how)) for case in cases]

    def ask(self, question: Any) -> npt.NDArray[np.float32]:
        """The restored volume (D, H, W) of thick slices."""
        volume: npt.NDArray[np.float32] = self.predict(question).volume
        return volume

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[GridImage, Judge]":
        from anatozoo.tasks.thick import judged, thickened
        from anatozoo.tasks.trials import read_volume

        volume = thickened(read_volume(case, how), self.factor, how.profile)
        return volume.thick, partial(judged, volume)

    def golden_input(self) -> npt.NDArray[np.uint8]:
        """Thick slices that are free to share, for the golden test: a bright ball in noise."""
        shape = (self.shape[0] // self.factor, *self.shape[1:])
        axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
        away = sum(axis**2 for axis in axes)
        noise = np.random.default_rng(0).integers(0, 60, shape)
        return (noise + 150 * (away < 0.3)).astype(np.uint8)

    def _restore(self, stack: "GridImage") -> "RestoredVolume":
        from anatozoo.results.restored import RestoredVolume

        low, high = intensity_range(stack.pixels)
        turn = Orientation.of_slices(stack.grid)
        fine = turn.undo(self._in_windows(turn.apply((stack.pixels - low) / (high - low))))
        return RestoredVolume(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=stack.source or stack.name,
            grid=fine_grid(stack.grid, self.factor, turn.axes[2]),
            dicom=stack.dicom,
            volume=fine * np.float32(high - low) + np.float32(low),
            given=stack.pixels,
            flags=(*stack.flags, *self._flags(stack.grid)),
        )

    @torch.inference_mode()
    def _in_windows(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        image = self.tensor(pixels)[None, None]
        window = tuple(min(own, most) for own, most in zip(pixels.shape, WINDOW, strict=True))
        if window == pixels.shape:
            fine = self(image)
        else:
            # Interpolation needs no windows; only the network's correction is computed in windows.
            added = in_windows(image, window, self.network.correction, OVERLAP)
            fine = interpolate_slices(image, self.factor) + added
        result: npt.NDArray[np.float32] = fine[0, 0].float().cpu().numpy()
        return result

    def _flags(self, grid: Grid) -> list[str]:
        if grid.spacing_mm is None:
            return []
        x, y, z = self.frame.spacing_mm or (1, 1, 1)
        turned = Orientation.of_slices(grid).grid(grid)
        ratios = np.asarray(turned.spacing_mm) / (x, y, z * self.factor)
        return ["unusual_spacing"] if (np.maximum(ratios, 1 / ratios) > UNUSUAL).any() else []


def fine_grid(coarse: Grid, factor: int, across: int = 2) -> Grid:
    """The grid with `factor` slices in place of each thick one.

    Args:
        coarse: the grid of the thick slices.
        factor: fine slices for each of them.
        across: the axis across the slices, 0 to 2 for x to z.
    """
    size = tuple(count * (factor if axis == across else 1) for axis, count in enumerate(coarse.size))
    if coarse.spacing_mm is None:
        # Without a known distance, the position of slices is unknown too.
        return Grid(size, direction=coarse.direction)
    spacing = tuple(step / (factor if axis == across else 1) for axis, step in enumerate(coarse.spacing_mm))
    # The centre of the first fine slice lies before that of the first thick one.
    first = coarse.to_physical([(1 / factor - 1) / 2 if axis == across else 0 for axis in range(3)])
    return replace(coarse, size=size, spacing_mm=spacing, origin=tuple(first.tolist()))


def check_slices(frame: FrameSpec, factor: int) -> None:
    """Refuse frames whose number of fine slices is not that of whole thick slices.

    Raises:
        ConfigError: a setting is not possible.
    """
    frame.require(3, ("spacing",))
    slices = frame.shape[0]
    if factor < 2 or slices % factor or slices < 2 * factor:
        raise ConfigError(
            f"the frame's size={frame.size} must be [D, H, W] with D a multiple of factor={factor}, which is "
            "at least 2, and two thick slices or more."
        )
