"""What the manifest says about a checkpoint, as frozen records."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anatozoo.zoo.kinds import Kind, find_kind

WITHHELD = "test, withheld from development"
"""Split of cases that nobody who trained or chose anything has had."""

CHOSEN = ("weights", "settings")
"""What a split can have chosen."""

STATUSES = ("bundled", "published", "deprecated")
"""``bundled``: in this package, never published. ``published``: on the Hub. ``deprecated``: use another."""


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (64 lower-case hex digits) of one file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class HubSpec:
    """Where the files lie on the Hugging Face Hub and what they are.

    Args:
        repo_id: ``"organisation/name"``, None where never published.
        revision: full commit, 40 hex digits, None where never published.
        files: record of each file by name.
    """

    repo_id: str | None
    revision: str | None
    files: Mapping[str, FileRecord]


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
    size: tuple[int, ...]
    fit: str
    intensity: str
    polarity: str
    spacing_mm: float | None


@dataclass(frozen=True)
class OutputSpec:
    """What the model gives: the name of a `Kind`, classes, landmarks per class.

    Volumes of grey values may name no classes.
    """

    kind: str
    classes: tuple[str, ...]
    landmarks: Mapping[str, int] | None

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
class Selection:
    """What was chosen by looking at a split, so that numbers on it are optimistic.

    Args:
        split: the split's name in the metrics, as ``"val"``.
        chose: ``"weights"``: the weights that were best there were kept, and settings were compared there;
            ``"settings"``: only these, and the weights are the last of the training.
    """

    split: str
    chose: str


@dataclass(frozen=True)
class TrainingData:
    """One data set that the weights have seen; ``n`` images of it."""

    name: str
    url: str
    license: str
    n: int | None


@dataclass(frozen=True)
class Training:
    """How the weights were made."""

    config: str
    git_sha: str | None
    versions: Mapping[str, str]
    hardware: str
    seed: int | None


@dataclass(frozen=True)
class CheckpointSpec:
    """One entry of the manifest. Names are immutable: new weights get a new name ending in ``-v2``.

    Two keys may be left out: ``remarks``, Markdown for the card, for what fits under no other heading, and
    ``selection``, None where nothing was chosen on a split, or nobody knows.
    """

    name: str
    method: str
    version: str
    status: str
    summary: str
    hub: HubSpec
    bundled: bool
    license: LicenseSpec
    input: InputSpec
    output: OutputSpec
    metrics: tuple[Metric, ...]
    training_data: tuple[TrainingData, ...]
    training: Training
    intended_use: str
    out_of_scope: tuple[str, ...]
    limitations: tuple[str, ...]
    citation: str
    remarks: str | None = None
    selection: Selection | None = None

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes in bytes."""
        return sum(record.size for record in self.hub.files.values())

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON values, with the manifest's keys."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name.rstrip("_"): _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
