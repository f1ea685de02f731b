"""A case, one image with its annotation: all layouts list cases, and all data modules read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.images import Image
from anatozoo.io.landmarks import Points, draw_organ_mask
from anatozoo.io.read import read_grid_image
from anatozoo.io.splits import Origin
from anatozoo.organs import annotated, parts_of

METADATA = ("sex", "age", "view")
"""Facts about a radiograph that its row in an evaluation holds."""
Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Drawn:
    """The organs of one image, as contours, as masks, or both.

    Attributes:
        grid: grid of the image, to which landmarks refer; without an image, that of the masks.
        landmarks: organ -> (N, 2) pixels of `grid`; empty in 3-D.
        masks: organ -> bool. In 2-D a mask may differ in size from `grid`, but covers the same field of view.
        free: organs whose landmarks lie anywhere on the contour, as drawn by hand. For all others, landmark
            number i lies at the corresponding position in every image.
    """

    grid: Grid
    landmarks: Mapping[str, Points] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)
    free: frozenset[str] = frozenset()

    @property
    def organs(self) -> frozenset[str]:
        """Names of the drawn organs."""
        return frozenset({*self.landmarks, *self.masks})

    def mask(self, organ: str, size: tuple[int, ...]) -> Mask:
        """The mask of one organ at a size, from its mask or else from its contour.

        Raises:
            DataError: the organ is not drawn, or it is a volume of another size.
        """
        if organ in self.masks:
            mask = self.masks[organ]
            if mask.shape == size[::-1]:
                return mask
            if mask.ndim != 2 or len(size) != 2:
                raise DataError(f"the mask of {organ} has the shape {mask.shape}, not {size[::-1]}.")
            height, width = mask.shape
            return Geometry.fit((width, height), (size[0], size[1]), mode="stretch").mask_to_target(mask)
        if organ not in self.landmarks:
            drawn = ", ".join(sorted(self.organs)) or "none"
            raise DataError(f"there is no mask of {organ}, but {drawn}.")
        scale = np.asarray(size) / self.grid.size
        return draw_organ_mask((self.landmarks[organ] + 0.5) * scale - 0.5, (size[0], size[1]))

    def masks_grid(self, organs: Collection[str] | None = None) -> Grid:
        """The grid of the masks of some organs, by default of all; that of the image where none has a mask.

        Raises:
            DataError: masks of the organs differ in size.
        """
        chosen = self.masks if organs is None else set(organs) & set(self.masks)
        sizes = {self.masks[organ].shape[::-1] for organ in chosen}
        if len(sizes) > 1:
            found = ", ".join(sorted(" x ".join(map(str, size)) for size in sizes))
            raise DataError(f"the masks of one image differ in size: {found}; export them on one grid.")
        return self.grid_of(next(iter(sizes), self.grid.size))

    def grid_of(self, size: tuple[int, ...]) -> Grid:
        """The image's grid at another size, with the same field of view."""
        if size == self.grid.size:
            return self.grid
        steps = self.grid.proportions / (np.asarray(size) / self.grid.size)
        if self.grid.spacing_mm is not None:
            return Grid(size, tuple(steps.tolist()))
        return Grid(size, aspect=float(steps[1] / steps[0])) if len(size) == 2 else Grid(size)

    def label_map(self, organs: Sequence[str], size: tuple[int, ...] | None = None) -> tuple[Labels, Grid]:
        """One label map: organ number i, from 1, has the value i, and later organs cover earlier ones.

        Args:
            organs: names of the organs. ``"lungs"`` and ``"clavicles"`` stand for both sides.
            size: (width, height[, depth]); None takes the size of the masks, else of the image.

        Returns:
            (H, W) or (D, H, W) uint8, and its grid.

        Raises:
            DataError: an organ is not drawn, or masks differ in size and none is given.
        """
        parts = [(value, part) for value, organ in enumerate(organs, 1) for part in self.parts(organ)]
        grid = self.masks_grid([part for _, part in parts]) if size is None else self.grid_of(size)
        labels = np.zeros(grid.shape, np.uint8)
        for value, part in parts:
            labels[self.mask(part, grid.size)] = value
        return labels, grid

    def parts(self, organ: str) -> tuple[str, ...]:
        """The names under which an organ is drawn: its own, or those of its two sides."""
        return (organ,) if organ in self.organs else parts_of(organ)


@dataclass(frozen=True, eq=False)
class Case:
    """One image of a data set; nothing is read yet.

    Attributes:
        id: name, unique in its data set.
        subject: subject of the case; all cases of a subject are in one split.
        split: ``"train"``, ``"val"``, ``"test"``, or None if no list names the case.
        domain: data set or site of the image.
        organs: annotated organs, as far as the layout knows without reading; empty for an image alone.
        image: function that reads the image; None without one.
        draw: function that reads the annotation of at least the given organs, on the image's grid if it is
            given; None without an annotation.
        facts: further facts, plain JSON values, such as ``sex``, ``age``, ``view``, ``phase``.
        origin: where the split comes from.
    """

    id: str
    subject: str
    split: str | None = None
    domain: str = ""
    organs: frozenset[str] = frozenset()
    image: Callable[[], Image | GridImage] | None = None
    draw: Callable[[Sequence[str], Grid | None], Drawn] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def labelled(self) -> bool:
        """Whether anything is annotated."""
        return self.draw is not None and bool(self.organs)

    def has(self, organ: str) -> bool:
        """Whether an organ, or both of its sides, are annotated."""
        return self.labelled and annotated(organ, self.organs)

    def read_image(self, dims: int) -> GridImage:
        """Read the image; in radiographs bone is white.

        Raises:
            DataError: the case has no image.
            ImageError: it is damaged, or has another number of dimensions.
        """
        if self.image is None:
            raise DataError(f"case {self.id} has annotations but no image.")
        return read_grid_image(self.image(), dims)

    def read_flat(self) -> Image:
        """Read the image, 2-D, as segmenters of radiographs take it.

        Raises:
            DataError: there is none.
            ImageError: it is damaged or no single plane.
        """
        if self.image is None:
            raise DataError(f"case {self.id} has annotations but no image.")
        image = self.image()
        return image if isinstance(image, Image) else flat(read_grid_image(image, 2))

    def read_drawn(self, organs: Sequence[str], grid: Grid | None = None) -> Drawn:
        """Read the annotation.

        Args:
            organs: organs that are needed.
            grid: grid of the image, if it has been read.

        Raises:
            DataError: the case has no annotation, or its files are damaged or do not fit the image.
        """
        if self.draw is None:
            raise DataError(f"case {self.id} is not annotated; choose cases that are `labelled`.")
        return self.draw(organs, grid)

    def read_labels(self, organs: Sequence[str], grid: Grid | None = None) -> tuple[Labels, Grid]:
        """The label map of some organs, see `Drawn.label_map`, and its grid: `grid`, if given.

        Raises:
            DataError: an organ is not annotated, or the files are damaged.
        """
        drawn = self.read_drawn(organs, grid)
        try:
            labels, own = drawn.label_map(organs, None if grid is None else grid.size)
        except DataError as error:
            raise DataError(f"{self.id}: {error}") from error
        return labels, own if grid is None else grid

    def read(self, organs: Sequence[str], dims: int) -> tuple[GridImage, Labels | None]:
        """Image and label map on its grid; without organs, None for the label map.

        Raises:
            DataError, ImageError: see `read_image` and `read_labels`.
        """
        image = self.read_image(dims)
        return image, self.read_labels(organs, image.grid)[0] if organs else None


def flat(image: GridImage) -> Image:
    """A radiograph as the square frame takes it."""
    spacing = None if image.grid.spacing_mm is None else (image.grid.spacing_mm[0], image.grid.spacing_mm[1])
    return Image(
        image.pixels,
        spacing,
        image.name,
        image.source,
        flags=image.flags,
        black_white=image.black_white,
        aspect=image.grid.aspect,
    )
