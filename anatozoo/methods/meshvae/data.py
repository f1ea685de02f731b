"""Meshes of hearts as `anatozoo meshes` leaves them, and of other anatomy in files of other programs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anatozoo.data.base import CaseDataset
from anatozoo.data.case import Case
from anatozoo.data.layouts.base import Listing, subject_rule
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.splits import check_subjects, splits_or_deal
from anatozoo.meshes.files import ENDING, SURFACES, read_heart, read_pyramid
from anatozoo.meshes.sheets import SheetSize
from anatozoo.meshes.template import Template
from anatozoo.tasks.meshes import MeshTask, Units, vertices_in


class MeshDataset(CaseDataset):
    """Aligned vertices; items hold ``vertices`` (N, 3) float32.

    Args:
        cases: the cases, whose ids are paths below `root` without the ending.
        root: folder of the meshes.
        size: of each sheet.
        units: of the vertices.
    """

    def __init__(self, cases: Sequence[Case], root: Path, size: SheetSize, units: Units) -> None:
        super().__init__(cases)
        self.root, self.size, self.units = root, size, units

    def read(self, case: Case) -> dict[str, Tensor]:
        """Read a mesh.

        Raises:
            DataError: it is damaged, or of another size than the network's.
            GeometryError: its spacing is unknown, and millimetres are asked for.
        """
        heart = read_heart(self.root / (case.id + ENDING))
        if heart.size != self.size:
            raise DataError(
                f"{case.id} has sheets of {heart.size.rings} x {heart.size.angles}, not {self.size.rings} x "
                f"{self.size.angles}; set model.rings and model.angles, or build the meshes again."
            )
        return {"vertices": torch.from_numpy(vertices_in(heart, self.units, case.id)).float()}


class SurfaceDataset(CaseDataset):
    """Vertices on the template; items hold ``vertices`` (N, 3) float32.

    Args:
        cases: the cases.
        files: of the cases, by their ids.
        template: gives the mesh whose triangles they have; first asked for when a mesh is read, since a
            checkpoint's is known no sooner.
    """

    def __init__(
        self, cases: Sequence[Case], files: Mapping[str, Path], template: Callable[[], Template]
    ) -> None:
        super().__init__(cases)
        self.files, self.template = files, template

    def read(self, case: Case) -> dict[str, Tensor]:
        """Read a mesh.

        Raises:
            DataError: it is damaged, mirrored, or has other triangles than the template.
            GeometryError: it is far smaller or larger than the template.
        """
        path, template = self.files[case.id], self.template()
        placed = template.place(template.read(path), str(path))
        return {"vertices": torch.from_numpy(placed.vertices).float()}


class MeshDataModule(ZooDataModule):
    """Meshes of one folder; splits are listed in ``splits.json`` in or above it, or dealt by subject.

    Args:
        root: folder that `anatozoo meshes` wrote; with a template of PLY, STL, OBJ or VTK files that have its
            triangles.
        rings: as in the module.
        angles: as in the module.
        units: as in the module.
        template: as in the module.
        subject_pattern: regular expression whose first group is the subject in the name of a mesh; None takes
            the whole name. ``"auto"`` takes of hearts what stands before the first ``_``, else the whole
            name.
        mix: training meshes are blends of two, a x + (1 - a) y with a from -mix to 1 + mix; None takes them
            as they are. Few hearts are learnt by heart else. Not part of the paper.
        **settings: ``batch_size``, ``num_workers`` and ``repeat`` of `ZooDataModule`.
    """

    def __init__(
        self,
        root: str,
        rings: int = 16,
        angles: int = 32,
        units: Units = "mm",
        template: str | None = None,
        subject_pattern: str | None = "auto",
        mix: float | None = None,
        **settings: Any,
    ) -> None:
        if subject_pattern == "auto":
            subject_pattern = "([^_]+)_.*" if template is None else None
        super().__init__(root, subject_pattern=subject_pattern, **settings)
        if mix is not None and not 0 <= mix <= 1:
            raise ConfigError(f"data.mix={mix} must be a number from 0 to 1, or null.")
        self.mix = mix
        self.size, self.units, self.template = SheetSize(rings, angles), units, template
        self.files: dict[str, Path] = {}
        self._template: Template | None = None

    def dataset(self, cases: Sequence[Case], split: str) -> CaseDataset:
        """The meshes of these cases."""
        if self.template is not None:
            return SurfaceDataset(cases, self.files, partial(self._shared, self.template))
        return MeshDataset(cases, Path(self.root), self.size, self.units)

    def usable(self, case: Case) -> bool:
        """Every mesh."""
        return True

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Blend the meshes of training batches."""
        if not training or self.mix is None:
            return batch
        vertices = batch["vertices"]
        share = torch.rand(len(vertices), 1, 1, device=vertices.device) * (1 + 2 * self.mix) - self.mix
        other = vertices[torch.randperm(len(vertices), device=vertices.device)]
        return batch | {"vertices": share * vertices + (1 - share) * other}

    def training_vertices(self) -> Tensor:
        """(n, N, 3) vertices of all meshes of the training."""
        items = self.sets["train"]
        return torch.stack([items[index]["vertices"] for index in range(len(items))])

    def _find(self, layout: str) -> list[Case]:
        """The meshes in the folder, whatever the layout is called."""
        root = Path(self.root)
        if not root.is_dir():
            raise DataError(f"{root} is not a folder; data.root names the folder of the meshes.")
        names = self._names(root)
        subject_of = subject_rule(self.subject_pattern)
        subjects = {name: subject_of(name) for name in names}
        assigned = splits_or_deal(root, subjects)
        cases = [
            Case(name, subject, assigned.splits.get(name), "meshes", origin=assigned.origin)
            for name, subject in subjects.items()
        ]
        check_subjects((case.subject, case.split) for case in cases)
        self._announce(Listing(cases, layout="meshes"))
        return cases

    def _names(self, root: Path) -> list[str]:
        """Names of the meshes in the folder."""
        if self.template is None:
            names = sorted(path.name.removesuffix(ENDING) for path in root.glob(f"*{ENDING}"))
            if not names:
                raise DataError(f"{root} holds no NAME{ENDING}; build meshes by `anatozoo meshes`.")
            return names
        for path in sorted(root.iterdir()):
            if path.suffix.lower() not in SURFACES or path.name.startswith("."):
                continue
            if path.stem in self.files and self.files[path.stem] != path:
                raise DataError(
                    f"{root} holds both {self.files[path.stem].name} and {path.name}; keep one format."
                )
            self.files[path.stem] = path
        if not self.files:
            raise DataError(f"{root} holds no mesh; files end in {', '.join(SURFACES)}.")
        return list(self.files)

    def _shared(self, told: str) -> Template:
        """The template of the model that is trained or measured, else that of the file."""
        if self.trainer is not None:
            model: MeshTask = self.trainer.lightning_module  # type: ignore[assignment]
            return model.shared_template()
        if self._template is None:
            self._template = Template.of(read_pyramid(told), told)
        return self._template
