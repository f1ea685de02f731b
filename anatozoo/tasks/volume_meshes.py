"""From stacks of images to meshes of hearts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import GeometryError, ImageError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import StackFrame, fit_frame
from anatozoo.io.grid import Grid
from anatozoo.io.read import read_stack
from anatozoo.meshes.heart import FEWEST_SLICES, SHEETS, HeartMesh, heart_faces, heart_surfaces
from anatozoo.meshes.sheets import SheetSize
from anatozoo.meshes.surface import inside
from anatozoo.nn.stack_moves import in_plane, move_stack, points_back
from anatozoo.tasks.base import Predictor, in_batches
from anatozoo.tasks.cases import label_cases

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.io.grid import GridImage
    from anatozoo.metrics.cases import Case
    from anatozoo.results.mesh import MeshResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial

LOOKS = ((0.0, 0.0, 0.0), (12.0, 3.0, 2.0), (-12.0, -3.0, -2.0))
"""Turns (degrees) and shifts (pixels of the frame, x and y) of a stack; the mean of the answers counts."""
MARGIN = 16
"""Pixels around the frame, within slices, that turned stacks may show."""
LOOKS_DIFFER = 3.0
"""Root mean square distance of the answers from their mean, in pixels of the frame, that is flagged."""

Vertices = npt.NDArray[np.float64]


def framed_vertices(heart: HeartMesh, frame: Frame) -> Vertices:
    """(N, 3) vertices of a heart, x, y, z in [0, 1] of a frame of its grid."""
    places = heart.surfaces.vertices @ frame.matrix.T + frame.offset
    found: Vertices = (places + 0.5) / np.asarray(frame.shape[::-1])
    return found


def heart_in_frame(vertices: Vertices, frame: Frame, size: SheetSize, flags: tuple[str, ...]) -> HeartMesh:
    """The heart on the grid of the image, of vertices as `framed_vertices` gives them."""
    places = vertices * np.asarray(frame.shape[::-1]) - 0.5
    return placed_heart((places - frame.offset) @ np.linalg.inv(frame.matrix).T, frame.grid, size, flags)


def placed_heart(places: Vertices, grid: Grid, size: SheetSize, flags: tuple[str, ...]) -> HeartMesh:
    """A heart of vertices (N, 3) in pixels of a grid, whose slices follow one another along z."""
    rings = places[: size.vertices - 1].reshape(size.rings, size.angles, 3)[..., :2]
    towards = (rings[:, 0] - rings.mean(1)).sum(0)
    septum = float(np.arctan2(towards[1], towards[0]))
    return HeartMesh(heart_surfaces(places, grid, size), size, septum, flags)


class VolumeMeshTask(Predictor):
    """A model that finds the surfaces of a heart in a stack of slices across its long axis.

    Subclasses set `network`, which maps images (B, 1, D, H, W) to vertices (B, N, 3), x, y, z in [0, 1] of
    the frame, the first of several outputs.

    Args:
        frame: three-dimensional input of the network.
        rings: of each sheet, at least 8.
        angles: points of a ring, at least 8.

    Raises:
        ConfigError: settings that are not possible.
    """

    network: Any

    def __init__(self, frame: FrameSpec | Mapping[str, Any], rings: int, angles: int) -> None:
        super().__init__(frame)
        self.frame.require(3)
        self.rings, self.angles = rings, angles
        self.size = SheetSize(rings, angles)
        self.organs = list(SHEETS)

    def columns(self) -> list[str]:
        """Dice of the pixels inside the surfaces, over all organs and of each."""
        return ["dice", *(f"dice/{organ}" for organ in self.organs)]

    def forward(self, image: Tensor) -> Tensor:
        """Vertices (B, N, 3), x, y, z in [0, 1] of the frame, of images (B, 1, D, H, W) in [0, 1]."""
        found: Tensor = self.network(image)[0][0]
        return found

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Vertices (B, N, 3) of the batch's ``image``."""
        return self(batch["image"])

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Labels inside the surfaces with the references, within the frame."""
        places = output.double().cpu().numpy() * np.asarray(self.shape[::-1]) - 0.5
        found = torch.from_numpy(np.stack([self._labels(each) for each in places]))
        return label_cases(found, batch["labels"], self.organs, batch, image=batch["image"])

    def _labels(self, places: Vertices) -> npt.NDArray[np.uint8]:
        """(D, H, W) labels inside surfaces of vertices in pixels of the frame."""
        found = np.zeros(self.shape, np.uint8)
        for value, faces in reversed([*enumerate(heart_faces(self.size).values(), 1)]):
            found[inside(places, faces, self.shape)] = value
        return found

    def predict(
        self, x: Any, *, spacing_mm: float | Sequence[float] | None = None, precision: str | None = None
    ) -> "MeshResult":
        """Find the surfaces of a heart.

        The network looks at the middle of the slices three times, twice turned and shifted a little, and the
        mean of its answers counts. ``"looks_differ"`` is flagged where they lie far apart, as where there is
        no heart; ``"heart_at_border"`` where the heart reaches beyond what the network sees; and
        ``"slice_order_assumed"`` where nothing tells which end of the stack is the base: then it is taken for
        the first slice, and the right ventricle lies to the left in the image.
        `anatozoo.meshes.heart.HeartMesh.size_flags` has two more.

        Args:
            x: a stack of slices in short axis, see `anatozoo.tasks.volumes.VolumeTask.predict`.
            spacing_mm: millimetres per voxel, one number or (x, y, z), where the source has none.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.
                Graphs are computed in float32 in all of them.

        Returns:
            The surfaces on the source grid.

        Raises:
            ImageError: the volume cannot be read, is not of a kind that the model takes, or has fewer than
                three slices.
            GeometryError: the slices do not follow one another along the last axis.
            ConfigError: a precision that is not possible.
        """
        stack = read_stack(x, spacing_mm=spacing_mm, slices=self.frame.fit == "slices")
        with self.answering(precision):
            return self._found(stack)

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 1,
        *,
        precision: str | None = None,
        on_error: str = "raise",
    ) -> "Iterator[MeshResult]":
        """Find the surfaces of many hearts, one after another; yields results in order.

        Args:
            xs: whatever `predict` takes.
            batch_size: of no effect; at least 1.
            precision: see `predict`.
            on_error: ``"raise"``, or ``"record"``: a stack that fails gives an
                `anatozoo.tasks.base.FailedInput` in its place.

        Raises:
            ConfigError: `batch_size` is below 1, or on_error is neither of the two.
            ImageError: a volume cannot be read; the ones before it have been yielded.
        """
        return in_batches(
            xs, min(batch_size, 1), lambda x: self.predict(x, precision=precision), list, on_error
        )

    @torch.inference_mode()
    def _found(self, stack: "GridImage") -> "MeshResult":
        from anatozoo.results.mesh import MeshResult

        grid = stack.grid
        frame = fit_frame(grid, self.frame)
        if not frame.matrix[2, 2]:
            raise GeometryError(
                f"{stack.name}: slices across the heart must follow one another along the last axis of the "
                "file; save the volume in that order."
            )
        if grid.size[2] < FEWEST_SLICES:
            seen = "one slice" if grid.size[2] == 1 else f"{grid.size[2]} slices"
            raise ImageError(f"{stack.name} has {seen}; a heart needs {FEWEST_SLICES}.")
        answers = self._looks(frame, stack.pixels)
        mean = answers.mean(0)
        pixels = mean.new_tensor(self.shape[::-1])
        spread = ((answers - mean) * pixels).square().sum(-1).mean().sqrt()
        flags = [*stack.flags]
        if float(spread) > LOOKS_DIFFER:
            flags.append("looks_differ")
        if bool(((mean < 0) | (mean > 1)).any()):
            flags.append("heart_at_border")
        if isinstance(frame, StackFrame) and not frame.order_known:
            flags.append("slice_order_assumed")
        heart = heart_in_frame(mean.double().cpu().numpy(), frame, self.size, ())
        heart = replace(heart, flags=(*flags, *heart.size_flags()))
        return MeshResult(
            self.checkpoint_name,
            self.checkpoint_version,
            stack.source or stack.name,
            grid,
            heart,
            flags=heart.flags,
        )

    def _looks(self, frame: Frame, pixels: npt.NDArray[np.float32]) -> Tensor:
        """(looks, N, 3) answers in [0, 1] of the frame."""
        depth, *sides = self.shape
        wide = replace(frame, shape=(depth, *(side + 2 * MARGIN for side in sides)))
        image = self.tensor(wide.image(pixels))[None, None].expand(len(LOOKS), -1, -1, -1, -1)
        looks = image.new_tensor(LOOKS)
        matrix = in_plane(torch.deg2rad(looks[:, 0]), image.new_ones(len(LOOKS), 2))
        shift = torch.cat([looks[:, 1:], torch.zeros_like(looks[:, :1])], 1)
        [found] = self.computed(move_stack(image, matrix, shift, self.shape))
        return points_back(found.float(), matrix, shift, self.shape)

    def trials(self, cases: "Sequence[DataCase]", how: "Conditions") -> "list[Trial]":
        """Each stack, the pixels inside its surfaces judged on the stack's own grid."""
        from anatozoo.tasks.trials import Trial, identity_of

        return [Trial(identity_of(case), partial(self._trial, case, how)) for case in cases]

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[GridImage, Judge]":
        from anatozoo.tasks.trials import organs_beside, read_volume

        image = read_volume(case, how)
        truth, grid = case.read_labels(self.organs, image.grid)

        def judge(found: "MeshResult") -> "Case":
            return organs_beside(found.mask, truth, self.organs, grid.spacing_mm)

        return image, judge

    def golden_input(self) -> npt.NDArray[np.uint8]:
        """A drawn heart, for the golden test."""
        import SimpleITK as sitk

        from anatozoo.io.phantoms import heart_phantom

        pixels = sitk.GetArrayFromImage(heart_phantom().image)
        found: npt.NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
        return found
