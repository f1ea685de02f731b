"""What the files of results are called: the formats of every kind of result and their endings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anatozoo.errors import ConfigError
from anatozoo.results import base, field, quality, repair, restored, segmentation, volume

PROPAGATED = "_mask.nii.gz"
"""Ending of a label map that a registration brought to the fixed image, in every format of a pair."""


@dataclass(frozen=True)
class Formats:
    """The formats in which one kind of result can be saved.

    Attributes:
        what: the results, for messages.
        endings: format -> what each of its files adds to the stem.
        default: formats where none are chosen.
    """

    what: str
    endings: Mapping[str, tuple[str, ...]]
    default: tuple[str, ...]

    def check(self, chosen: Sequence[str] | None) -> tuple[str, ...]:
        """The formats without repetition, in a fixed order; None takes the default.

        Raises:
            ConfigError: a format is unknown, or there is none.
        """
        if chosen is None:
            return self.default
        wanted = [chosen] if isinstance(chosen, str) else list(chosen)
        unknown = [name for name in wanted if name not in self.endings]
        if unknown or not wanted:
            raise ConfigError(
                f"{self.what} have no format {', '.join(unknown) or 'that is empty'}; use "
                f"{', '.join(self.endings)}."
            )
        return tuple(name for name in self.endings if name in wanted)

    def names(self, stem: str, formats: Sequence[str]) -> list[str]:
        """File names of a result in these formats."""
        return [stem + ending for name in formats for ending in self.endings[name]]


SEGMENTATIONS = Formats("segmentations", segmentation.FORMATS, segmentation.DEFAULT_FORMATS)
REPAIRS = Formats("repaired masks", repair.FORMATS, repair.DEFAULT_FORMATS)
REPAIRED_VOLUMES = Formats(
    "repaired volumes",
    {name: endings for name, endings in repair.FORMATS.items() if name != "png"},
    repair.VOLUME_FORMATS,
)
REGISTRATIONS = Formats("registrations", field.FORMATS, field.DEFAULT_FORMATS)
VOLUMES = Formats("segmented volumes", volume.FORMATS, base.DEFAULT_FORMATS)
RESTORED = Formats("restored volumes", restored.FORMATS, base.DEFAULT_FORMATS)
QUALITIES = Formats("estimates of quality", quality.FORMATS, ("json",))
EVERY = (SEGMENTATIONS, VOLUMES, REPAIRS, REPAIRED_VOLUMES, REGISTRATIONS, RESTORED, QUALITIES)

ENDINGS = tuple(
    dict.fromkeys([*(e for kind in EVERY for endings in kind.endings.values() for e in endings), PROPAGATED])
)
"""Endings of all files that a run writes."""
