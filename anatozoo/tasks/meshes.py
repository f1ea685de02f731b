"""From meshes of hearts, or of other anatomy, to meshes: codes, reconstructions, and their evaluation."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.memory import input_name
from anatozoo.io.read import read_labels
from anatozoo.io.untrusted import read_bytes
from anatozoo.meshes.files import ENDING, SURFACES, pyramid_bytes, pyramid_of, read_heart
from anatozoo.meshes.heart import SHEETS, HeartMesh, heart_mesh, heart_pyramid
from anatozoo.meshes.pyramid import Pyramid
from anatozoo.meshes.sheets import SheetSize
from anatozoo.meshes.template import ORGAN, Template
from anatozoo.tasks.base import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anatozoo.data.case import Case as DataCase
    from anatozoo.metrics.cases import Case
    from anatozoo.results.mesh import MeshResult
    from anatozoo.results.surface import SurfaceResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial

Units = Literal["mm", "px"]
MOST_VERTICES = 2**22
"""Of a template, before memory is taken for a checkpoint that says so."""
UNLIKE = 1.0
"""Root mean square distance of a mesh from its reconstruction, in units of the training's spread, that is
flagged: as much as the training's hearts differ from their mean."""


def vertices_in(heart: HeartMesh, units: Units, name: str) -> npt.NDArray[np.float64]:
    """(N, 3) aligned vertices in millimetres or in pixels.

    Args:
        heart: the mesh.
        units: ``"px"`` forgets the spacing.
        name: of the mesh, for messages.

    Raises:
        GeometryError: millimetres are asked for, and the spacing is unknown.
    """
    if units == "px":
        return heart.in_pixels().aligned()
    if heart.surfaces.grid.spacing_mm is None:
        raise GeometryError(
            f"{name}: the spacing is unknown, and the model works in millimetres; build the mesh with "
            "--spacing-mm."
        )
    return heart.aligned()


@dataclass(frozen=True, eq=False)
class Phenotypes:
    """What a model says of a mesh in few numbers.

    Attributes:
        code: (latents,) the mean of the code.
        rms: root mean square distance of the vertices from their reconstruction, in the model's units.
        flags: of the mesh, and ``poor_reconstruction`` of a heart that is unlike those of the training.
    """

    code: npt.NDArray[np.float32]
    rms: float
    flags: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Posed:
    """A mesh as a model sees it.

    Attributes:
        name: of the mesh.
        vertices: (N, 3) aligned, in the model's units.
        flags: of the mesh.
        result: makes the result of other vertices (N, 3), in the place of the mesh, and of flags.
    """

    name: str
    vertices: npt.NDArray[np.float64]
    flags: tuple[str, ...]
    result: "Callable[[npt.NDArray[np.float64], tuple[str, ...]], MeshResult | SurfaceResult]"


class MeshTask(Predictor):
    """An autoencoder of meshes of hearts, or of meshes in correspondence with a template.

    Subclasses set `network`, made of `meshes`, which has ``counts``, ``scaled`` and ``decode``, and maps
    vertices (B, N, 3) to a reconstruction (B, N, 3), the mean and the log-variance (B, latents) of the code.
    With a template its ``stored`` has the `anatozoo.meshes.pyramid.Pyramid`.

    Args:
        rings: of each sheet of hearts, at least 8.
        angles: points of a ring, at least 8.
        units: of the vertices: ``"px"`` for hearts that have lost their spacing.
        template: None for hearts; for other anatomy a ``pyramid.safetensors`` of `anatozoo meshes`
            with a template, which becomes one of the weights. A checkpoint says here how large that is.

    Raises:
        ConfigError: settings that are not possible.
    """

    needs = frozenset({"organs"})
    unit: ClassVar[str] = "heart"

    network: Any
    latents: int

    def __init__(self, rings: int, angles: int, units: Units, template: str | None) -> None:
        super().__init__(FrameSpec([rings, angles]))
        if units not in ("mm", "px"):
            raise ConfigError(f"units={units!r} must be mm or px.")
        self.rings, self.angles, self.units = rings, angles, units
        self.size = SheetSize(rings, angles)
        self.organs = list(SHEETS) if template is None else [ORGAN]
        if template is not None and units != "mm":
            raise ConfigError("meshes of a template are in millimetres; leave units=px out.")
        self.template = template
        self._kept: Template | None = None

    def meshes(self, steps: int) -> tuple[Pyramid, bytes | None]:
        """The meshes of which a new network is made, and the file that becomes one of its weights.

        Of a template in a checkpoint, both are empty until the weights are loaded. Afterwards `template` says
        how large they are.

        Args:
            steps: of the pyramid.

        Raises:
            ConfigError: there are fewer.
            DataError: the template's file is damaged, or of hearts.
        """
        if self.template is None:
            return heart_pyramid(self.size, steps), None
        levels, content = _read_template(self.template, steps)
        self.template = f"{', '.join(map(str, levels.counts))} vertices in {len(content)} bytes"
        return levels, content

    @property
    def shape(self) -> tuple[int, ...]:
        """Sheets, rings and angles of a heart, whose sources are stacks; vertices and 3 of other meshes."""
        if self.template is None:
            return (len(SHEETS), self.rings, self.angles)
        return (self.network.counts[0], 3)

    @property
    def endings(self) -> tuple[str, ...]:
        """What the names of files of meshes end in."""
        return (ENDING,) if self.template is None else SURFACES

    def columns(self) -> list[str]:
        """Root mean square distance of given and reconstructed vertices: of all, of hearts of each sheet."""
        sheets = self.organs if self.template is None else []
        return [f"rms_{self.units}", *(f"rms_{self.units}/{organ}" for organ in sheets)]

    def forward(self, vertices: Tensor) -> Tensor:
        """Reconstruction (B, N, 3) of vertices (B, N, 3)."""
        found: Tensor = self.network(vertices)[0]
        return found

    def phenotypes(self, x: Any) -> Phenotypes:
        """The code of a mesh, and how well it holds the mesh; see `predict` for the argument and errors."""
        return self._answer(self.posed(x), None)[0]

    def decode(self, codes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Aligned vertices (B, N, 3), in the model's units, of codes (B, latents).

        Raises:
            DataError: codes of another length.
        """
        given = self.tensor(np.atleast_2d(np.asarray(codes, np.float32)))
        if given.ndim != 2 or given.shape[1] != self.latents:
            raise DataError(f"codes of the shape {tuple(given.shape)} are not (B, {self.latents}).")
        with torch.inference_mode():
            found: npt.NDArray[np.float64] = self.network.decode(given).double().cpu().numpy()
        return found

    def plot_traversals(self, codes: npt.ArrayLike, width: float = 2.0) -> "Figure":
        """Draw what each latent changes: hearts with its value low, in the middle and high, others as usual.

        Args:
            codes: (n, latents), at least two, of the hearts that say what is usual.
            width: how many of their standard deviations low and high lie from their mean.

        Raises:
            DataError: codes of another length, fewer than two, or a value that is not finite.
            ConfigError: the model is one of other anatomy.
        """
        from anatozoo.results.draw.traversals import plot_traversals

        if self.template is not None:
            raise ConfigError("traversals are drawn of hearts alone; decode codes, and save their surfaces.")

        given = np.asarray(codes, float)
        if given.ndim != 2 or len(given) < 2 or not np.isfinite(given).all():
            raise DataError("a traversal needs the finite codes (n, latents) of at least two hearts.")
        middle, spread = given.mean(0), given.std(0)
        steps = np.array([-width, 0.0, width])
        places = middle + steps[None, :, None] * np.diag(spread)[:, None, :]
        shapes = self.decode(places.reshape(-1, given.shape[1])).reshape(given.shape[1], 3, -1, 3)
        names = [
            f"z{number}: {mean:.2g} ± {width * own:.2g}"
            for number, (mean, own) in enumerate(zip(middle, spread, strict=True), start=1)
        ]
        return plot_traversals([tuple(three) for three in shapes], names, self.size, self.units)

    def predict(self, x: Any, *, precision: str | None = None) -> "MeshResult | SurfaceResult":
        """Encode a mesh and decode it.

        Args:
            x: a file of `anatozoo meshes`, a `HeartMesh`, a result with one, or a stack of labels (D, H, W)
                as a file or array, with 1, 2, 3 for left ventricle, myocardium and right ventricle, of which
                a mesh is built. With a template a file of a mesh that has its triangles, in millimetres, such
                vertices (N, 3), or a result with them.
            precision: see `anatozoo.tasks.precision`; graphs are computed in float32 in all of them.

        Returns:
            The reconstruction, in the place of the given mesh. A flag ``poor_reconstruction`` says that the
            heart is unlike those of the training.

        Raises:
            DataError: the mesh is of another size or other triangles than the model's, mirrored, or the stack
                shows no whole heart.
            GeometryError: the model works in millimetres, and the spacing is unknown; or a mesh is far
                smaller or larger than the template.
            ImageError: the stack cannot be read.
            ConfigError: the precision is not possible.
        """
        posed = self.posed(x)
        code, vertices = self._answer(posed, precision)
        return posed.result(vertices, code.flags)

    def _heart_result(
        self, heart: HeartMesh, name: str, vertices: npt.NDArray[np.float64], flags: tuple[str, ...]
    ) -> "MeshResult":
        from anatozoo.results.mesh import MeshResult

        grid = heart.surfaces.grid
        place = (heart if self.units == "mm" else heart.in_pixels()).placed(vertices)
        rebuilt = replace(place, surfaces=replace(place.surfaces, grid=grid))
        return MeshResult(self.checkpoint_name, self.checkpoint_version, name, grid, rebuilt, flags=flags)

    def _answer(self, posed: Posed, precision: str | None) -> tuple[Phenotypes, npt.NDArray[np.float64]]:
        """Code and reconstructed vertices (N, 3), aligned."""
        given = self.tensor(posed.vertices)[None]
        with torch.inference_mode(), self.answering(precision):
            found, mu, _ = self.network(given)
            off = (self.network.scaled(found) - self.network.scaled(given)).square().mean().sqrt()
            rms = (found - given).square().sum(-1).mean().sqrt()
        flags = (*posed.flags, *(["poor_reconstruction"] if float(off) > UNLIKE else []))
        return Phenotypes(mu[0].float().cpu().numpy(), float(rms), flags), found[0].double().cpu().numpy()

    def golden_input(self) -> npt.NDArray[Any]:
        """A stack of labels of a drawn heart, or the template in whole millimetres, for the golden test."""
        if self.template is not None:
            return np.round(self.shared_template().vertices).astype(np.int16)
        from anatozoo.io.phantoms import heart_phantom

        # The phantom has ACDC's values: 1 right ventricle, 3 left ventricle.
        labels = np.array([0, 3, 2, 1], np.uint8)[np.asarray(heart_phantom().labels)]
        rows, columns = (np.flatnonzero(labels.any(axis=axes)) for axes in ((0, 2), (0, 1)))
        return labels[:, rows[0] - 2 : rows[-1] + 3, columns[0] - 2 : columns[-1] + 3].copy()

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Reconstructions (B, N, 3) of the batch's ``vertices``."""
        return self(batch["vertices"])

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """The root mean square distances of each mesh, and the distance of each vertex as a picture."""
        from anatozoo.io.annotation import Annotation
        from anatozoo.metrics.cases import Case

        away = (output - batch["vertices"]).square().sum(-1).sqrt()
        if self.template is not None:
            rows = zip(
                away[:, None].float().cpu().numpy(), self._distances(output, batch["vertices"]), strict=True
            )
            line = Annotation((away.shape[1], 1))
            return [Case(line, line, picture, numbers) for picture, numbers in rows]
        away = away.view(len(output), len(SHEETS), -1)
        # Ring below ring, the three sheets one below the other.
        rings = away[..., :-1].flatten(1, 2).reshape(len(away), -1, self.angles)
        nothing = Annotation((self.angles, rings.shape[1]))
        return [
            Case(nothing, nothing, picture, numbers)
            for picture, numbers in zip(
                rings.float().cpu().numpy(), self._distances(output, batch["vertices"]), strict=True
            )
        ]

    def trials(self, cases: "Sequence[DataCase]", how: "Conditions") -> "list[Trial]":
        """The mesh of each stack of labels, judged by how well it comes back from its code.

        Distances are those of the vertices, Dice and distances of surfaces those of the pixels inside the
        reconstruction and of the labels.
        """
        from anatozoo.tasks.trials import Trial, identity_of

        if self.template is not None:
            return super().trials(cases, how)
        return [Trial(identity_of(case), partial(self._trial, case, how)) for case in cases]

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[HeartMesh, Judge]":
        from anatozoo.tasks.trials import labels_beside, read_truth

        truth, grid = read_truth(case, self.organs, how)
        heart = heart_mesh(LabelCodes.of(self.organs).masks(truth, self.organs), grid, self.size)

        def judge(found: "MeshResult") -> "Case":
            lengths = grid.proportions if self.units == "mm" else 1.0
            back, given = (
                torch.from_numpy(each.surfaces.vertices * lengths)[None] for each in (found.heart, heart)
            )
            [numbers] = self._distances(back, given)
            return labels_beside(found.mask, truth, self.organs, grid.spacing_mm, numbers)

        return heart, judge

    def _distances(self, found: Tensor, given: Tensor) -> list[dict[str, float]]:
        """Root mean square distances of vertices (B, N, 3), see `columns`."""
        sheets = (found - given).square().sum(-1).view(len(given), len(self.organs), -1).mean(-1)
        away = torch.cat([sheets.mean(1, keepdim=True), sheets], 1).sqrt().tolist()
        return [dict(zip(self.columns(), each, strict=False)) for each in away]

    def posed(self, x: Any) -> Posed:
        """A mesh in the frame in which the model sees it; see `predict` for the argument and errors."""
        if self.template is not None:
            return self._posed_surface(x)
        heart, name = self._read(x)
        if heart.size != self.size:
            raise DataError(
                f"{name} has sheets of {heart.size.rings} x {heart.size.angles}, and {self.checkpoint_name} "
                f"takes {self.rings} x {self.angles}; build the mesh with --rings {self.rings} --angles "
                f"{self.angles}."
            )
        vertices = vertices_in(heart, self.units, name)
        return Posed(name, vertices, heart.flags, partial(self._heart_result, heart, name))

    def _posed_surface(self, x: Any) -> Posed:
        from anatozoo.results.surface import SurfaceResult

        template = self.shared_template()
        if isinstance(x, str | os.PathLike):
            name, given = str(x), template.read(x)
        elif isinstance(x, SurfaceResult):
            name, given = x.image, x.vertices
        else:
            name, given = "array", np.asarray(x, np.float64)
        placed = template.place(given, name)

        def result(vertices: npt.NDArray[np.float64], flags: tuple[str, ...]) -> SurfaceResult:
            about = self.checkpoint_name, self.checkpoint_version, name
            return SurfaceResult(*about, placed.back(vertices), template.faces, flags=flags)

        return Posed(name, placed.vertices, (), result)

    def shared_template(self) -> Template:
        """The mesh whose triangles others share, which lies among the weights.

        Raises:
            DataError: no weights have been loaded yet.
        """
        levels: Pyramid = self.network.stored.pyramid
        if self._kept is None or self._kept.faces is not levels.faces[0]:
            self._kept = Template.of(levels, self.checkpoint_name)
        return self._kept

    def _read(self, x: Any) -> tuple[HeartMesh, str]:
        """A mesh and its name."""
        if isinstance(x, HeartMesh):
            return x, "mesh"
        if isinstance(getattr(x, "heart", None), HeartMesh):
            return x.heart, str(x.image)
        if isinstance(x, str | os.PathLike) and Path(x).name.endswith(ENDING):
            return read_heart(x), str(x)
        labels, grid = read_labels(x, 3)
        masks = LabelCodes.of(self.organs).masks(labels, self.organs)
        return heart_mesh(masks, grid, self.size), input_name(x)


_DESCRIBED = re.compile(r"([0-9, ]{1,200}) vertices in ([0-9]{1,9}) bytes")


def _read_template(told: str, steps: int) -> tuple[Pyramid, bytes]:
    """The pyramid of a template and its file, or of a checkpoint's settings their sizes alone.

    Raises:
        ConfigError: it has too few steps.
        DataError: the file is damaged, or one of hearts.
    """
    if match := _DESCRIBED.fullmatch(told):
        counts = [int(each) for each in match[1].split(",")]
        if len(counts) != steps + 1 or max(counts) > MOST_VERTICES:
            raise ConfigError(f"template={told!r} does not fit {steps} widths.")
        return Pyramid.empty(counts), bytes(int(match[2]))
    levels = pyramid_of(read_bytes(Path(told), error=DataError), told)
    Template.of(levels, told)
    levels = levels.cut(steps)
    return levels, pyramid_bytes(levels)
