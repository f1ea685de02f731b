"""Read the annotation of one image in the layout ``folder``, from any kind of file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.data.case import Drawn
from anatozoo.data.layouts.codes import check_values
from anatozoo.errors import DataError
from anatozoo.io.annotation_files import PICTURES, VOLUMES, Stored, read_label_map, suffix_among
from anatozoo.io.annotations import Entry
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import WHITE, LabelCodes
from anatozoo.io.labelme import is_labelme, labelme_marks
from anatozoo.io.landmarks import Points, draw_organ_mask
from anatozoo.io.marks import Marks, joined
from anatozoo.io.markups import SUFFIX, read_markups
from anatozoo.io.read import read_labels
from anatozoo.io.untrusted import read_json
from anatozoo.organs import CHEST_ORGANS, PAIRS, annotated

UNNAMED = "unnamed"
"""The organ of label maps whose values have no names."""


@dataclass(frozen=True, eq=False)
class Source:
    """The annotation of one image, not read yet.

    Attributes:
        name: name in messages.
        codes: meaning of the values of label maps.
        dims: 2 or 3.
        entry: files or a row of a table, as `anatozoo.io.annotations` finds them.
        markups: organ -> file of 3D Slicer; the key None means that the points' labels name the organs.
        marks: the part of a file for many images that belongs to this one.
        strangers: names of folders that are no known organs and hold a file for this image. They may be
            organs of another model or misspelt ones; nothing in them is read.
    """

    name: str
    codes: LabelCodes
    dims: int
    entry: Entry = field(default_factory=Entry)
    markups: Mapping[str | None, Path] = field(default_factory=dict)
    marks: Marks | None = None
    strangers: frozenset[str] = frozenset()

    def organs(self) -> frozenset[str]:
        """Organs that may be annotated, as far as the file names tell, and strangers."""
        files = {*self.entry.files, *self.markups}
        if self.marks is not None:
            return frozenset(self.marks.names)
        if self.entry.row is not None:
            return frozenset(self.entry.row.runs)
        if None not in files:
            return self.strangers | {organ for organ in files if organ}
        return frozenset(self.codes.organs or (UNNAMED,))

    def draw(self, organs: Sequence[str], grid: Grid | None) -> Drawn:
        """The annotation, on the image's grid if it is given.

        Raises:
            DataError: files are damaged, do not fit the image, or lack an organ.
        """
        if self.marks is not None:
            return self._of_marks(self.marks, organs, grid, "the annotations")
        if self.markups:
            if grid is None:
                raise DataError(f"{self.name}: markups of 3D Slicer need their image; put it into images/.")
            found = [
                read_markups(path, grid, organ, self.codes.organs) for organ, path in self.markups.items()
            ]
            return self._of_marks(_merged(found), organs, grid, "the markups")
        path = self.entry.files.get(None)
        if path is not None and path.suffix.lower() == ".json":
            value = read_json(path)
            if is_labelme(value):
                marks = labelme_marks(value, path, self.codes.organs)
                return self._of_marks(marks, organs, grid, str(path))
        if path is not None and suffix_among(path.name, (*VOLUMES, *PICTURES, ".jpg", ".jpeg")):
            return self._of_label_map(path, grid)
        return self._of_stored(self.entry.read(), grid)

    def _of_label_map(self, path: Path, grid: Grid | None) -> Drawn:
        is_volume = suffix_among(path.name, VOLUMES)
        coded = any(low != high for pairs in self.codes.ranges.values() for low, high in pairs)
        labels, own = read_labels(path, self.dims) if is_volume else read_label_map(path, coded=coded)
        place = self._place(own, grid)
        return Drawn(place, masks=self._masks(labels, str(path)))

    def _place(self, own: Grid, grid: Grid | None) -> Grid:
        """The grid of the image, or else the mask's own.

        Raises:
            DataError: the two differ, or have another number of dimensions than requested.
        """
        if own.dims != self.dims:
            raise DataError(f"{self.name} is {own.dims}-D, but {self.dims}-D masks are needed.")
        if grid is not None and (difference := grid.differs_from(own)):
            raise DataError(f"{self.name} lies on another grid than its image: {difference}.")
        return own if grid is None else grid

    def _masks(self, labels: Any, what: str) -> dict[str, Any]:
        organs = self.codes.organs
        if not organs:
            return {f"value {value}": labels == value for value in np.unique(labels).tolist() if value}
        if len(organs) == 1 and set(np.unique(labels).tolist()) <= {0, WHITE}:
            # A mask of 0 and 255 shows the only organ.
            return {organs[0]: labels == WHITE}
        check_values(labels, self.codes, what)
        return self.codes.masks(labels)

    def _of_stored(self, stored: Stored, grid: Grid | None) -> Drawn:
        place = grid if stored.grid is None else self._place(stored.grid, grid)
        if place is None:
            raise DataError(
                f"{self.name}: nothing says how large the image of these landmarks is; give the image, "
                "masks, or the landmark data set by layout 'landmarks'."
            )
        masks = dict(stored.masks)
        if stored.labels is not None:
            masks |= self._masks(stored.as_stored().labels, self.name)
        if stored.row is not None:
            masks |= stored.row.masks((place.size[0], place.size[1]))
        return Drawn(place, stored.landmarks, masks)

    def _of_marks(self, marks: Marks, organs: Sequence[str], grid: Grid | None, what: str) -> Drawn:
        """Marks on a grid: one outline is a contour, several of one organ together are a mask."""
        place = grid if grid is not None else (None if marks.size is None else Grid(marks.size))
        if place is None or place.dims != 2 or self.dims != 2:
            raise DataError(f"{self.name}: {what} mark 2-D images of a known size; give masks of volumes.")
        if marks.size is not None and marks.size != place.size:
            raise DataError(
                f"{self.name}: {what} were drawn on an image of {_words(marks.size)} pixels, but it has "
                f"{_words(place.size)}; draw them on this one."
            )
        self._check_names(marks.names, organs, what)
        landmarks: dict[str, Points] = dict(marks.points)
        masks = dict(marks.masks)
        free = set()
        for organ, outlines in marks.outlines.items():
            if len(outlines) == 1 and organ not in masks:
                if organ not in landmarks:
                    landmarks[organ] = outlines[0]
                    free.add(organ)
                continue
            drawn = [draw_organ_mask(points, (place.size[0], place.size[1])) for points in outlines]
            masks[organ] = joined([*drawn, *([masks[organ]] if organ in masks else [])])
        return Drawn(place, landmarks, masks, frozenset(free))

    def _check_names(self, names: Collection[str], organs: Sequence[str], what: str) -> None:
        """Refuse an unknown name where an organ is missing: it is probably misspelt."""
        known = {*organs, *known_organs(self.codes)}
        lacking = [organ for organ in organs if not annotated(organ, names)]
        unknown = [name for name in names if name not in known]
        if lacking and unknown:
            raise DataError(
                f"{self.name}: {what} lack {', '.join(lacking)}, but name {', '.join(unknown)}, which is "
                "none of the organs; correct the labels."
            )


def _words(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _merged(parts: Sequence[Marks]) -> Marks:
    outlines: dict[str, list[Points]] = {}
    points: dict[str, Points] = {}
    for part in parts:
        for organ, drawn in part.outlines.items():
            outlines.setdefault(organ, []).extend(drawn)
        points |= part.points
    return Marks(None, outlines, points)


def known_organs(codes: LabelCodes) -> frozenset[str]:
    """Names that are organs for sure: those of the label maps, and those of the chest."""
    return frozenset({*codes.organs, *CHEST_ORGANS, *PAIRS})


def is_markups(path: Path) -> bool:
    """Whether a file is a markup of 3D Slicer, by its name."""
    return path.name.lower().endswith(SUFFIX)
