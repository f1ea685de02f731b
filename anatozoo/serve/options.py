"""How the files of a run are read, and which of these options it takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace

from anatozoo.errors import ConfigError

RADIOGRAPHS = ("spacing_mm", "invert", "allow_any_modality")
"""What runs over radiographs take."""
_REFUSALS = {
    "spacing_mm": "is for files with pixels",
    "invert": "is for radiographs",
    "allow_any_modality": "is for radiographs",
    "ignore_spacing": "is for pairs of images",
    "classes": "names the labels of masks",
}


class OptionError(ConfigError):
    """An option that does not go with the run; `option` is its name, `reason` the rest of the message."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"{option} {reason}")
        self.option, self.reason = option, reason


@dataclass(frozen=True)
class ReadOptions:
    """How files are read; None and False ask for nothing.

    Args:
        spacing_mm: (x, y[, z]) millimetres per pixel, or one number for all, whatever the files say.
        invert: of radiographs, see `anatozoo.io.images.read_image`.
        allow_any_modality: of radiographs, likewise.
        ignore_spacing: of pairs, whether everything about space is forgotten.
        classes: of masks, the organs of their labels 1, 2, ...
    """

    spacing_mm: tuple[float, ...] | None = None
    invert: bool | None = None
    allow_any_modality: bool = False
    ignore_spacing: bool = False
    classes: tuple[str, ...] | None = None

    def check(self, accepted: Collection[str], name: str, inputs: str) -> None:
        """Refuse what a run does not take.

        Args:
            accepted: the options that it takes.
            name: the checkpoint's, for the message.
            inputs: what it takes, in the plural.

        Raises:
            OptionError: another option is asked for.
        """
        for option in fields(self):
            if option.name not in accepted and getattr(self, option.name) != option.default:
                raise OptionError(option.name, f"{_REFUSALS[option.name]}; {name} takes {inputs}.")

    def for_axes(self, axes: int) -> ReadOptions:
        """The options for inputs of so many dimensions: one spacing is that of all axes.

        Raises:
            OptionError: there are more or fewer spacings.
        """
        spacing = self.spacing_mm
        if spacing is None or len(spacing) == axes:
            return self
        if len(spacing) != 1:
            raise OptionError("spacing_mm", f"takes one number or {axes} here, not {len(spacing)}.")
        return replace(self, spacing_mm=spacing * axes)

    def facts(self, accepted: Collection[str]) -> tuple[object, ...]:
        """The values of some options, for fingerprints."""
        return tuple(getattr(self, name) for name in accepted)


DEFAULT_OPTIONS = ReadOptions()


def spacing_of(text: str) -> tuple[float, ...]:
    """The spacing that a text says: one number, or two or three with commas between them.

    Raises:
        OptionError: it says something else.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not 1 <= len(values) <= 3 or not all(0 < value < 1e6 for value in values):
        raise OptionError(
            "spacing_mm",
            "must be one positive number below a million, or two or three with commas between them; the "
            "decimal sign is a point.",
        )
    return values
