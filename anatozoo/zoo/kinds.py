"""The kinds of answers that models give: one record for each, which everything else reads.

A method of `anatozoo.zoo.registry` and an entry of the manifest name a kind. Golden files, cards, publishing,
`anatozoo predict` and the contract tests follow from its record. Classes are named by
``"package.module:Class"``, so that nothing heavy is imported here.
"""

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from anatozoo.errors import ConfigError
from anatozoo.zoo.classes import import_class
from anatozoo.zoo.golden_results import (
    DISPLACEMENT,
    GREY_IMAGE,
    GREY_VALUES,
    LABEL_MAP,
    LANDMARKS,
    PROBABILITIES,
    Golden,
)

GROUP = "anatozoo.kinds"
"""Entry points ``kind = "package.module:KIND"`` of other packages, each a `Kind`."""


@dataclass(frozen=True)
class Kind:
    """One kind of answer.

    Args:
        name: its name in the registry and in manifests.
        takes: arguments of ``predict``: ``("image",)``, ``("volume",)``, ``("mask",)``, ``("shape",)`` or
            ``("moving", "fixed")``.
        gives: what comes out, in a word, as cards say it.
        task: base class of the modules.
        result: class of the results.
        job: class of `anatozoo.serve` that runs files of this kind, None where no command does.
        golden: what golden files store of a result.
        example: the line of a card's example after ``result = model.predict(...)``, a format with the fields
            ``axes``, ``axis_names``, ``grid``, ``organ``, ``count`` and ``labels``.
        hub_tag: the word that the Hugging Face Hub has for it, None where it has none.
        names_organs: whether every answer names organs.
        command: what runs files of this kind in place of `anatozoo predict`, where something does.
    """

    name: str
    takes: tuple[str, ...]
    gives: str
    task: str
    result: str
    job: str | None
    golden: Golden
    example: str
    hub_tag: str | None
    names_organs: bool = True
    command: str | None = None

    @property
    def segments(self) -> bool:
        """Whether its answers are segmentations of 2-D images, and neither scores nor other images."""
        return self.takes == ("image",) and self.gives in ("landmarks", "mask")

    def task_class(self) -> Any:
        """Import and return the base class of its modules."""
        return import_class(self.task)

    def result_class(self) -> Any:
        """Import and return the class of its results."""
        return import_class(self.result)

    def job_class(self) -> Any:
        """Import and return the class that runs files.

        Raises:
            ConfigError: no command runs files of this kind.
        """
        if self.job is None:
            if self.command is not None:
                raise ConfigError(f"checkpoints that give {self.name} are run by `{self.command}`.")
            raise ConfigError(
                f"no command runs checkpoints that give {self.name} over files; load them by anatozoo.load."
            )
        return import_class(self.job)


_MASK = "result.mask  # {grid} uint8 on the source grid: 0 background, {labels}"

CONTOURS = Kind(
    name="contours",
    takes=("image",),
    gives="landmarks",
    task="anatozoo.tasks.contours:ContourTask",
    result="anatozoo.results.contours:ContourResult",
    job="anatozoo.serve.images:SegmentImages",
    golden=LANDMARKS,
    example='result.landmarks["{organ}"]  # ({count}, {axes}): {axis_names} in pixels of the source image',
    hub_tag="image-segmentation",
)
LABELS = Kind(
    name="labels",
    takes=("image",),
    gives="mask",
    task="anatozoo.tasks.labels:LabelTask",
    result="anatozoo.results.labels:LabelResult",
    job="anatozoo.serve.images:SegmentImages",
    golden=LABEL_MAP,
    example=_MASK,
    hub_tag="image-segmentation",
)
VOLUME = Kind(
    name="volume",
    takes=("volume",),
    gives="mask",
    task="anatozoo.tasks.volumes:VolumeTask",
    result="anatozoo.results.volume:VolumeResult",
    job="anatozoo.serve.volumes:SegmentVolumes",
    golden=LABEL_MAP,
    example=_MASK,
    hub_tag="image-segmentation",
)
FIELD = Kind(
    name="field",
    takes=("moving", "fixed"),
    gives="displacement",
    task="anatozoo.tasks.field:FieldTask",
    result="anatozoo.results.field:RegistrationResult",
    job="anatozoo.serve.registrations:RegisterPairs",
    golden=DISPLACEMENT,
    example="result.displacement_px  # from each pixel of the fixed image to its place in the moving one",
    hub_tag="image-to-image",
)
REPAIR = Kind(
    name="repair",
    takes=("mask",),
    gives="mask",
    task="anatozoo.tasks.repair:RepairTask",
    result="anatozoo.results.repair:RepairResult",
    job="anatozoo.serve.masks:RepairMasks",
    golden=LABEL_MAP,
    example=_MASK,
    hub_tag="image-to-image",
)
MASK_CONTOURS = Kind(
    name="mask-contours",
    takes=("mask",),
    gives="landmarks",
    task="anatozoo.tasks.mask_contours:MaskContourTask",
    result="anatozoo.results.mask_contours:MaskContourResult",
    job="anatozoo.serve.landmarks:FindLandmarks",
    golden=LANDMARKS,
    example='result.landmarks["{organ}"]  # ({count}, {axes}): {axis_names} in pixels of the mask',
    hub_tag="image-segmentation",
)
CODES = Kind(
    name="codes",
    takes=("mask",),
    gives="mask",
    task="anatozoo.tasks.codes:CodeTask",
    result="anatozoo.results.segmentation:SegmentationResult",
    job=None,
    golden=LABEL_MAP,
    example=_MASK,
    hub_tag="image-to-image",
)
SHAPES = Kind(
    name="shapes",
    takes=("shape",),
    gives="landmarks",
    task="anatozoo.tasks.shapes:ShapeTask",
    result="anatozoo.results.contours:ContourResult",
    job=None,
    golden=LANDMARKS,
    example='result.landmarks["{organ}"]  # ({count}, {axes}): {axis_names} in pixels of the given landmarks',
    hub_tag=None,
)
RESTORED = Kind(
    name="restored",
    takes=("volume",),
    gives="volume",
    task="anatozoo.tasks.restore:RestoreTask",
    result="anatozoo.results.restored:RestoredVolume",
    job="anatozoo.serve.volumes:RestoreVolumes",
    golden=GREY_VALUES,
    example="result.volume  # (D, H, W) float32 in the units of the source, on result.grid",
    hub_tag="image-to-image",
    names_organs=False,
)
TRANSLATED = Kind(
    name="translated",
    takes=("image",),
    gives="image",
    task="anatozoo.tasks.translate:TranslateTask",
    result="anatozoo.results.translated:TranslatedImage",
    job="anatozoo.serve.images:TranslateImages",
    golden=GREY_IMAGE,
    example="result.translated  # (H, W) float32 in [0, 1], on the grid of the source image",
    hub_tag="image-to-image",
    names_organs=False,
)
MESH = Kind(
    name="mesh",
    takes=("mask",),
    gives="mesh",
    task="anatozoo.tasks.meshes:MeshTask",
    result="anatozoo.results.mesh:MeshResult",
    job=None,
    golden=LABEL_MAP,
    example='result.meshes["{organ}"].volume_ml()  # also .vertices, .faces, .to_mask(), .save("a.stl")',
    hub_tag=None,
    command="anatozoo phenotypes MESHES --out FILE",
)
VOLUME_MESH = Kind(
    name="volume-mesh",
    takes=("volume",),
    gives="mesh",
    task="anatozoo.tasks.volume_meshes:VolumeMeshTask",
    result="anatozoo.results.mesh:MeshResult",
    job="anatozoo.serve.volumes:FindMeshes",
    golden=LABEL_MAP,
    example='result.meshes["{organ}"].volume_ml()  # also .vertices, .faces, .to_mask(), .save("a.stl")',
    hub_tag="image-segmentation",
)
SCORES = Kind(
    name="scores",
    takes=("image",),
    gives="probabilities",
    task="anatozoo.tasks.scores:ScoreTask",
    result="anatozoo.results.scores:ScoreResult",
    job="anatozoo.serve.scores:ScoreImages",
    golden=PROBABILITIES,
    example='result.scores["{organ}"]  # how probable the finding is, 0 to 1',
    hub_tag="image-classification",
)
_ALL = (
    *(CONTOURS, LABELS, VOLUME, FIELD, REPAIR, MASK_CONTOURS, CODES, SHAPES, RESTORED, MESH),
    *(VOLUME_MESH, TRANSLATED, SCORES),
)
KINDS = {kind.name: kind for kind in _ALL}
"""The kinds of this package, by name."""


@cache
def kinds() -> dict[str, Kind]:
    """All kinds by name: this package's, then those that installed packages register.

    Raises:
        ConfigError: an installed package takes a name that is in use, or registers no `Kind` of this name.
    """
    from importlib.metadata import entry_points

    found = dict(KINDS)
    for point in entry_points(group=GROUP):
        kind = import_class(point.value)
        owner = point.dist.name if point.dist else "an installed package"
        if not isinstance(kind, Kind) or kind.name != point.name:
            raise ConfigError(f"{owner} registers {point.value}, which is not a Kind called {point.name!r}.")
        if point.name in found:
            raise ConfigError(f"{owner} registers the kind {point.name!r}, a name in use; choose another.")
        found[point.name] = kind
    return found


def find_kind(name: str) -> Kind:
    """The kind of this name.

    Raises:
        ConfigError: there is none; the message lists those that there are.
    """
    # The own table first: looking for other packages reads every installed distribution's metadata.
    if name in KINDS:
        return KINDS[name]
    known = kinds()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1) or [", ".join(known)]
        raise ConfigError(f"no kind is called {name!r}; use {close[0]}.")
    return known[name]


def goldens() -> Iterator[Golden]:
    """What golden files can hold, each once, in the order in which results are asked for it."""
    yield from dict.fromkeys(kind.golden for kind in kinds().values())


def kind_of_golden(names: Collection[str], axes: int) -> Kind | None:
    """The first kind whose answers a golden file can hold, rather one for images of these dimensions.

    Args:
        names: of the file's tensors.
        axes: 2 or 3, the dimensions of its image.
    """
    fitting = [kind for kind in kinds().values() if any(map(kind.golden.holds, names))]
    volumes = [kind for kind in fitting if kind.takes in (VOLUME.takes, FIELD.takes)]
    return next(iter([*volumes, *fitting] if axes == 3 else fitting), None)
