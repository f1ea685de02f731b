"""What the manifest says about a checkpoint, as frozen records.

The fields of a record are the keys of its mapping in the YAML, and their types are what
`anatozoo.zoo.marked_yaml.Marked.read` asks of the values; a field with a default may be left out. What values
have to be together, a record says itself when it is made.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from anatozoo.errors import ConfigError
from anatozoo.zoo.kinds import Kind, find_kind
from anatozoo.zoo.registry import check_prefix, find_method
from anatozoo.zoo.rules import Form, Least, Misfit

NAME = r"[a-z0-9]+(-[a-z0-9][a-z0-9._]*)+"
COMMIT = r"[0-9a-f]{40}"
REPO_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
GOLDEN = "golden.safetensors"
FILES = ("model.safetensors", "config.json", GOLDEN)
"""What every checkpoint consists of, besides its card. Anything else, above all a pickle, is refused.

The golden file of an experiment's weights may be missing.
"""
EXPERIMENT = "experiment"
"""Status of weights that are evidence, not for use. This project's lie in a source checkout alone."""

Name = Annotated[str, Form(NAME, "<method>-<data>[-<variant>] in lower case")]
Version = Annotated[str, Form(r"\d+\.\d+\.\d+", "three numbers, as 1.0.0")]
Count = Annotated[int, Least(1)]

WITHHELD = "test, withheld from development"
"""Split of cases that nobody who trained or chose anything has had."""


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (64 lower-case hex digits) of one file."""

    sha256: Annotated[str, Form(r"[0-9a-f]{64}", "a SHA-256 of 64 lower-case hex digits")]
    size: Count


@dataclass(frozen=True)
class HubSpec:
    """Where the files lie on the Hugging Face Hub and what they are.

    Args:
        repo_id: ``"organisation/name"``, None where never published.
        revision: full commit, 40 hex digits, None where never published.
        files: record of each file by name.
    """

    repo_id: Annotated[str, Form(REPO_ID, "organisation/name")] | None
    revision: Annotated[str, Form(COMMIT, "a full commit of 40 hex digits (a branch or tag can move)")] | None
    files: Mapping[str, FileRecord]

    def __post_init__(self) -> None:
        if (self.repo_id is None) != (self.revision is None):
            raise Misfit("repo_id and revision are either both given or both null.", "revision")
        for name in self.files.keys() - set(FILES):
            raise Misfit(f"unknown file; a checkpoint consists of {', '.join(FILES)}.", "files", name)
        for name in (name for name in FILES if name not in self.files and name != GOLDEN):
            raise Misfit(f"{name} missing.", "files")

    @property
    def has_golden(self) -> bool:
        """Whether a golden test is among the files."""
        return GOLDEN in self.files


@dataclass(frozen=True)
class LicenseSpec:
    """Terms of use, of weights and of data apart."""

    weights: str
    training_data: str
    code_origin: str
    commercial_use: bool
    note: str | None


@dataclass(frozen=True)
class InputSpec:
    """What the model takes.

    Args:
        modality: e.g. ``"x-ray"``.
        anatomy: e.g. ``"chest"``.
        views: e.g. ``("PA", "AP")``.
        size: (width, height) of the network's frame in pixels, or (width, height, depth).
        fit: how an image gets there: ``"pad"`` keeps its aspect, ``"stretch"`` does not, ``"spacing"``
            resamples it to `spacing_mm`, ``"slices"`` keeps the slices of a stack and scales within them.
        intensity: how grey values are brought to the network's range, in words.
        polarity: ``"bone-white"``, ``"bone-black"`` or ``"any"``.
        spacing_mm: pixel spacing that the model needs, None where any will do.
    """

    modality: str
    anatomy: str
    views: tuple[str, ...]
    size: tuple[Count, ...]
    fit: Literal["pad", "stretch", "spacing", "slices"]
    intensity: str
    polarity: Literal["bone-white", "bone-black", "any"]
    spacing_mm: float | None

    def __post_init__(self) -> None:
        if len(self.size) not in (2, 3):
            raise Misfit("must be [width, height] in pixels, or [width, height, depth].", "size")
        if self.spacing_mm is not None and not self.spacing_mm > 0:
            raise Misfit("must be positive, or null where any spacing will do.", "spacing_mm")


@dataclass(frozen=True)
class OutputSpec:
    """What the model gives: the name of a `Kind`, classes, landmarks per class.

    Volumes of grey values may name no classes.
    """

    kind: str
    classes: tuple[str, ...]
    landmarks: Mapping[str, Count] | None

    def __post_init__(self) -> None:
        try:
            find_kind(self.kind)
        except ConfigError as error:
            raise Misfit(str(error), "kind") from error

    @property
    def record(self) -> Kind:
        """What goes for all answers of this kind."""
        return find_kind(self.kind)


@dataclass(frozen=True)
class Metric:
    """One number. ``value`` None means not measured; ``source`` says where it comes from.

    A source that starts with ``anatozoo`` or ``python`` is the command that reproduces the number. The
    ``version`` that was measured may be left out: the number is then of the entry's own.
    """

    dataset: str
    split: str
    n: int | None
    metric: str
    class_: str
    value: float | None
    source: str
    report: str | None
    version: str | None = None

    @property
    def withheld(self) -> bool:
        """Whether it was measured on cases that development never had."""
        return self.split == WITHHELD


@dataclass(frozen=True)
class Measured:
    """The numbers of one measurement, by metric and class; what they have in common is that of `Metric`."""

    dataset: str
    split: str
    n: Count | None
    source: str
    report: str | None
    values: Mapping[str, Mapping[str, float | None]]
    version: Version | None = None

    def __post_init__(self) -> None:
        for metric, by_class in self.values.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", metric):
                raise Misfit("must be a name such as dice or hd_mm, with its unit.", "values", metric)
            for name in (name for name in by_class if not name.strip()):
                raise Misfit("the name of a class must not be blank.", "values", metric, name)

    def metrics(self) -> Iterator[Metric]:
        """The numbers one by one."""
        common = dataclasses.asdict(self)
        for metric, by_class in common.pop("values").items():
            for name, value in by_class.items():
                yield Metric(**common, metric=metric, class_=name, value=value)


@dataclass(frozen=True)
class Selection:
    """What was chosen by looking at a split, so that numbers on it are optimistic.

    Args:
        split: the split's name in the metrics, as ``"val"``.
        chose: ``"weights"``: the weights that were best there were kept, and settings were compared there;
            ``"settings"``: only these, and the weights are the last of the training.
    """

    split: str
    chose: Literal["weights", "settings"]


@dataclass(frozen=True)
class TrainingData:
    """One data set that the weights have seen; ``n`` images of it."""

    name: str
    url: Annotated[str, Form(r"https?://\S+", "a web address")]
    license: str
    n: Count | None


@dataclass(frozen=True)
class Training:
    """How the weights were made."""

    config: str
    git_sha: Annotated[str, Form(COMMIT, "a full commit of 40 hex digits")] | None
    versions: Mapping[str, str]
    hardware: str
    seed: Annotated[int, Least(0)] | None


@dataclass(frozen=True)
class CheckpointSpec:
    """One entry of the manifest. Names are immutable: new weights get a new name ending in ``-v2``.

    Of `status`, ``bundled`` means in this package and never published, ``published`` on the Hub,
    ``deprecated`` that another checkpoint is to be used, ``experiment`` that the weights are evidence, listed
    only when asked for and perhaps without a golden test. Three keys may be left out: ``remarks``, Markdown
    for the card, for what fits under no other heading, ``selection``, None where nothing was chosen on a
    split, or nobody knows, and ``build``, how an experiment's files are made that may not be passed on.
    """

    name: Name
    method: str
    version: Version
    status: Literal["bundled", "published", "deprecated", "experiment"]
    summary: str
    hub: HubSpec
    bundled: bool
    license: LicenseSpec
    input: InputSpec
    output: OutputSpec
    measured: tuple[Measured, ...]
    training_data: Annotated[tuple[TrainingData, ...], Least(1)]
    training: Training
    intended_use: str
    out_of_scope: Annotated[tuple[str, ...], Least(1)]
    limitations: Annotated[tuple[str, ...], Least(1)]
    citation: str
    remarks: str | None = None
    selection: Selection | None = None
    build: str | None = None

    def __post_init__(self) -> None:
        try:
            method = find_method(self.method)
        except ConfigError as error:
            hint = "Other packages' methods are known once the package is installed."
            raise Misfit(f"{error} {hint}", "method") from error
        try:
            check_prefix(self.name, method)
        except ConfigError as error:
            raise Misfit(str(error), "method") from error
        if method.kind not in (None, self.output.record):
            raise Misfit(f"must be {method.kind.name}, which is what {method.name} gives.", "output", "kind")
        if self.output.record.names_organs and not self.output.classes:
            raise Misfit("must not be empty.", "output", "classes")
        landmarks, classes = self.output.landmarks, self.output.classes
        if landmarks is not None and tuple(landmarks) != classes:
            message = "must name the classes in their order, each with its number of landmarks."
            raise Misfit(message, "output", "landmarks")
        if self.status in ("bundled", EXPERIMENT) and not self.bundled:
            raise Misfit(f"must be true where status is {self.status}: there is no other source.", "bundled")
        if self.status != EXPERIMENT and self.build is not None:
            raise Misfit(f"only for status {EXPERIMENT}: other files are distributed.", "build")
        if self.status != EXPERIMENT and not self.hub.has_golden:
            raise Misfit(f"{GOLDEN} missing.", "hub", "files")
        if not self.bundled and self.hub.revision is None:
            raise Misfit("needs repo_id and revision, because the weights are not bundled.", "hub")
        if self.status == "published" and self.hub.revision is None:
            raise Misfit("needs repo_id and revision where status is published.", "hub")
        if not self.citation.startswith("@"):
            raise Misfit("must be BibTeX, starting with '@'.", "citation")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All numbers one by one, in the manifest's order."""
        return tuple(metric for measured in self.measured for metric in measured.metrics())

    @property
    def status_on_hub(self) -> Literal["published", "deprecated"]:
        """Its status once it is published."""
        return "deprecated" if self.status == "deprecated" else "published"

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes in bytes."""
        return sum(record.size for record in self.hub.files.values())

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON values with the manifest's keys, and its numbers one by one as ``metrics``."""
        rows = [{key.rstrip("_"): value for key, value in vars(m).items()} for m in self.metrics]
        values = dataclasses.asdict(self).items()
        return dict(("metrics", rows) if key == "measured" else (key, value) for key, value in values)


def is_name(text: str) -> bool:
    """Whether a text has the form of a checkpoint's name."""
    return re.fullmatch(NAME, text) is not None
