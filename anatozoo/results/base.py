"""The base class of results: saving, display in notebooks, JSON."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.figures import DPI
from anatozoo.io.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anatozoo.io.dicom_source import DicomSource
    from anatozoo.metrics.measurements import Measurement
    from anatozoo.results.shares import Shares

Scalar = TypeVar("Scalar", bound=np.generic)
Names = tuple[str, ...]
Writer = Callable[[Any, Path], Path]
"""Writes a result to a path, atomically, and returns the path."""


@dataclass(frozen=True)
class Formats:
    """The formats in which one kind of result can be saved.

    Attributes:
        what: name of the results, for messages.
        writers: format -> ending of each of its files -> function that writes the file.
        default: default formats.
        packages: format -> modules that write it, if they are not always installed.
        extra: the extra of anatozoo that installs them.
    """

    what: str
    writers: Mapping[str, Mapping[str, Writer]]
    default: Names
    packages: Mapping[str, Names] = field(default_factory=dict)
    extra: str = ""

    @property
    def endings(self) -> dict[str, tuple[str, ...]]:
        """Format -> ending of each of its files."""
        return {name: tuple(files) for name, files in self.writers.items()}

    def check(self, chosen: Sequence[str] | None) -> tuple[str, ...]:
        """The formats without repetition, in a fixed order; None takes the default.

        Raises:
            ConfigError: a format is unknown, the list is empty, or a package is missing.
        """
        if chosen is None:
            return self.default
        wanted = [chosen] if isinstance(chosen, str) else list(chosen)
        unknown = [name for name in wanted if name not in self.writers]
        if unknown or not wanted:
            raise ConfigError(
                f"{self.what} have no format {', '.join(unknown) or 'that is empty'}; use "
                f"{', '.join(self.writers)}."
            )
        for name in wanted:
            if missing := [each for each in self.packages.get(name, ()) if find_spec(each) is None]:
                raise ConfigError(
                    f'{name} needs {" and ".join(missing)}: python3 -m pip install "anatozoo[{self.extra}]".'
                )
        return tuple(name for name in self.writers if name in wanted)

    def names(self, stem: str, formats: Sequence[str]) -> list[str]:
        """File names of a result in these formats."""
        return [stem + ending for name in formats for ending in self.writers[name]]


@dataclass(frozen=True, eq=False)
class Result(ABC):
    """Base class of results.

    Subclasses are frozen dataclasses that set the class attributes and implement `plot`.

    Attributes:
        formats: formats for `save`.
        head: names of the first attributes in its JSON, in order.
        dpi: resolution of its picture.
        flags: remarks of reader and model, each once; empty is good.
        dicom: the DICOM instances that the image was read from, which DICOM files of the result refer to;
            None of anything else. The JSON has their UIDs if its `show_uids` says so.
        measured: what else was measured, as estimated quality or the function of a heart, for DICOM reports.
        translated_by: names and versions of checkpoints that gave the image another look before; of the JSON
            where there are any.
        shares: of samples and ensembles, gives how probable each organ is at each pixel, see
            `anatozoo.results.shares`; else None.
    """

    formats: ClassVar[Formats]
    head: ClassVar[Names]
    dpi: ClassVar[int] = DPI

    flags: tuple[str, ...] = field(default=(), kw_only=True)
    dicom: DicomSource | None = field(default=None, repr=False, kw_only=True)
    measured: tuple[Measurement, ...] = field(default=(), repr=False, kw_only=True)
    shares: Shares | None = field(default=None, repr=False, kw_only=True)
    translated_by: tuple[str, ...] = field(default=(), repr=False, kw_only=True)

    def __post_init__(self) -> None:
        self._put(flags=tuple(dict.fromkeys(self.flags)))

    def _put(self, **values: Any) -> None:
        """Set attributes of this frozen result during construction."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def stem(self) -> str:
        """Default start of its file names: the name of the image without suffix."""
        from anatozoo.io.files import without_suffix

        return without_suffix(Path(getattr(self, "image", "")).name)

    @property
    def default_formats(self) -> tuple[str, ...]:
        """Default formats of `save`."""
        return self.formats.default

    @property
    def measurements(self) -> list[Measurement]:
        """What is measured of it, with units; empty for kinds of results of which nothing is."""
        return []

    @abstractmethod
    def plot(self) -> Figure:
        """Draw the result as a figure outside pyplot, which needs no closing; notebooks display it."""

    def to_dict(self) -> dict[str, Any]:
        """Everything except the pixels as JSON values; null where millimetres are unknown."""
        named = {name: _json_value(getattr(self, name)) for name in self.head}
        told = self.dicom is not None and self.dicom.show_uids
        by = {"translated_by": list(self.translated_by)} if self.translated_by else {}
        return {"schema_version": 1} | named | by | ({"dicom": self.dicom.to_dict()} if told else {})  # type: ignore[union-attr]

    def save(
        self,
        directory: str | os.PathLike[str],
        formats: Sequence[str] | None = None,
        stem: str | None = None,
    ) -> list[Path]:
        """Write files, each of them atomically.

        Args:
            directory: folder, created if it does not exist.
            formats: formats of the class's `formats`; None takes `default_formats`.
            stem: start of the file names; None takes the attribute `stem`.

        Returns:
            The paths.

        Raises:
            ConfigError: a format is unknown, or `stem` names a folder or nothing.
            GeometryError: a format cannot hold this result: ``"mha"`` needs a spacing, ``"png"`` two axes.
            OutputError: a file cannot be written.
        """
        from anatozoo.io.writers import checked_stem

        chosen = self.formats.check(self.default_formats if formats is None else formats)
        start = checked_stem(self.stem if stem is None else stem)
        return [
            write(self, Path(directory) / (start + ending))
            for name in chosen
            for ending, write in self.formats.writers[name].items()
        ]

    @property
    def about(self) -> str:
        """One line on what it lies on, such as size and spacing."""
        from anatozoo.results.words import size_words

        size = getattr(self, "size", None)
        return "" if size is None else size_words(size, getattr(self, "spacing_mm", None))

    def __repr__(self) -> str:
        from anatozoo.results.words import lines_of

        return "\n  ".join(lines_of(self))

    def _repr_html_(self) -> str:
        """Picture and measurements for notebooks."""
        from anatozoo.results.words import html_of

        return html_of(self)

    def _repr_png_(self) -> bytes:
        """Picture for files, and for what shows no HTML."""
        from anatozoo.io.figures import figure_bytes

        return figure_bytes(self.plot(), self.dpi)


@dataclass(frozen=True, eq=False, repr=False)
class GridResult(Result):
    """A result whose pixels or voxels lie on a grid.

    Attributes:
        checkpoint: name of the checkpoint.
        version: version of the checkpoint.
        image: path or name of the input, or ``"array"``.
        grid: grid of the pixels or voxels of the result.
    """

    head: ClassVar[Names] = ("checkpoint", "version", "image", "size", "spacing_mm", "grid", "flags")

    checkpoint: str
    version: str
    image: str
    grid: Grid

    @property
    def size(self) -> tuple[int, ...]:
        """(width, height[, depth]) in pixels."""
        return self.grid.size

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """(x, y[, z]) millimetres per pixel, None where unknown."""
        return self.grid.spacing_mm

    @abstractmethod
    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the pixels, with spacing, origin and directions."""

    def _titled(self, figure: Figure) -> Figure:
        """The figure with the name of the image, the checkpoint and the flags above it."""
        from anatozoo.io.figures import QUIET, WARNING, flag_words
        from anatozoo.text import in_figure

        words = flag_words(self.flags)
        name = self.image.replace("\\", "/").rsplit("/", 1)[-1]
        title = f"{in_figure(name)}   {self.checkpoint} {self.version}" + (f"\n{words}" if words else "")
        figure.suptitle(title, fontsize=9, color=WARNING if words else QUIET)
        return figure


def write_json(result: Result, path: Path) -> Path:
    """Write the result of `to_dict`."""
    from anatozoo.io import writers

    return writers.write_json(path, result.to_dict())


def write_picture(result: Result, path: Path) -> Path:
    """Write the picture for notebooks."""
    from anatozoo.io import writers

    return writers.write_bytes(path, result._repr_png_())


def write_grid(result: GridResult, path: Path) -> Path:
    """Write the pixels with spacing, origin and directions, as NIfTI or MetaImage."""
    from anatozoo.io import writers

    return writers.write_itk(path, result.as_sitk(), units_known=result.spacing_mm is not None)


def write_labels(result: Any, path: Path) -> Path:
    """Write `mask` as a palette PNG, in the colours of `organs`."""
    if result.mask.ndim != 2:
        raise GeometryError("PNG cannot hold a volume; save its mask as 'nifti' or 'mha'.")
    return write_label_map(path, result.mask, result.organs)


def write_label_map(path: Path, labels: npt.NDArray[np.uint8], organs: Sequence[str]) -> Path:
    """Write a label map (H, W) of `organs` as a palette PNG, in their colours."""
    from anatozoo.io import writers
    from anatozoo.results.draw.style import label_palette

    return writers.write_label_png(path, labels, label_palette(organs))


def read_only(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The array, made read-only; pass a view of arrays that others still change."""
    array.flags.writeable = False
    return array


def _json_value(value: Any) -> Any:
    if isinstance(value, Grid):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value
