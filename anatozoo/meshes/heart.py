"""Hearts as surfaces with corresponding vertices, from stacks of label maps in short axis.

Contours of each slice are sampled at corresponding places, and interpolated along the stack: rings of
endocardium, epicardium and right ventricle from base to apex. Vertices correspond between patients and phases
by construction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported where they are used first: predictions of images need none

from anatozoo.errors import DataError
from anatozoo.io.grid import Grid
from anatozoo.io.orientation import Orientation, axis_across, tells_apex
from anatozoo.meshes.outlines import at_angles, between_ends, largest_part, outline, signed_area
from anatozoo.meshes.pyramid import Pyramid
from anatozoo.meshes.sheets import SheetSize, lid, pyramid, rim, wall
from anatozoo.meshes.surface import Surfaces

ENDO, EPI, RIGHT = "left_ventricle", "myocardium", "right_ventricle"
SHEETS = (ENDO, EPI, RIGHT)
"""The sheets in their order; of the first and second, the outer walls of the cavity and of the muscle."""
FEWEST_PIXELS = 4
"""A structure with fewer pixels in a slice is not there."""
FEWEST_SLICES = 3
"""Of cavity and right ventricle."""
OPEN_SHARE = 0.1
"""The wall of the left ventricle is open where more than this share of its cavity's border lacks muscle."""
NO_WALL_SHARE = 0.5
"""Where more than this share of the border in all slices lacks muscle, the masks are other structures."""
CUT_SHARE = 0.3
"""The apex is cut off where the stack ends with a cavity of more than this share of its largest area."""
EXTENT_MM = (20.0, 400.0)
"""A heart that is longer or shorter than this has a spacing in another unit."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HeartMesh:
    """A heart of sheets.

    Attributes:
        surfaces: with ``left_ventricle`` (the cavity), ``myocardium`` and ``right_ventricle``.
        size: of each of the three sheets.
        septum: angle in the plane from x towards y, in pixels, from the left to the right ventricle.
        flags: what is doubtful: ``open_base`` and ``open_wall`` (the muscle is no ring in the first slice, or
            in one below it), ``cut_apex`` (the stack ends before the heart does), ``several_parts_ORGAN``,
            ``hole_ORGAN`` (filled), ``gap_ORGAN`` (slices between others that lack it), ``folded_ORGAN`` (a
            ray meets a contour more than once, or not at all), ``heart_at_border`` (it may be cut off),
            ``slice_order_uncertain`` (the heart is larger at one end, but the
            cavity at the other, as of an aneurysm, or the file's directions say otherwise).
    """

    surfaces: Surfaces
    size: SheetSize
    septum: float
    flags: tuple[str, ...] = ()

    def aligned(self) -> npt.NDArray[np.float64]:
        """(N, 3) vertices in the heart's own frame, in the length unit of the grid.

        The centre of the cavity's sheet is 0, x points to the right ventricle, z from base to apex, and rings
        turn from x to y, however the stack was stored; there is no scaling.
        """
        centre, turn = self._frame()
        found: npt.NDArray[np.float64] = (
            self.surfaces.vertices * self.surfaces.grid.proportions - centre
        ) @ turn
        return found

    def placed(self, vertices: npt.NDArray[np.float64]) -> "HeartMesh":
        """A heart with other vertices (N, 3), given in this heart's own frame as `aligned` gives them.

        Raises:
            GeometryError: a vertex is not finite.
        """
        centre, turn = self._frame()
        places = (vertices @ turn.T + centre) / self.surfaces.grid.proportions
        return replace(self, surfaces=replace(self.surfaces, vertices=places), flags=())

    def in_pixels(self) -> "HeartMesh":
        """The same heart on a grid without a spacing."""
        return replace(self, surfaces=replace(self.surfaces, grid=self.surfaces.grid.in_pixels()))

    def _frame(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Where the heart's own frame lies: its centre, and (3, 3) its axes as columns."""
        lengths = np.asarray(self.surfaces.grid.proportions)
        sheet = self.surfaces.vertices[: self.size.vertices] * lengths
        towards = np.array([np.cos(self.septum), np.sin(self.septum)]) * lengths[:2]
        c, s = towards / np.hypot(*towards)
        across, along = directions(sheet, self.size)
        return sheet.mean(axis=0), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * (1, across, along)

    def size_flags(self) -> tuple[str, ...]:
        """``spacing_of_one`` of steps that are all exactly 1 mm, as where a program has lost them.

        ``spacing_implausible`` of a heart of another size than hearts have, as where the unit is another one.
        """
        grid = self.surfaces.grid
        if grid.spacing_mm is None:
            return ()
        if set(grid.spacing_mm) == {1}:
            return ("spacing_of_one",)
        extent = float((np.ptp(self.surfaces.vertices, axis=0) * grid.spacing_mm).max())
        return () if EXTENT_MM[0] <= extent <= EXTENT_MM[1] else ("spacing_implausible",)


def directions(sheet: npt.NDArray[np.float64], size: SheetSize) -> tuple[int, int]:
    """How a sheet (n, 3) lies on its grid.

    Returns:
        1 if its rings turn from x to y, -1 if from y to x; 1 if its tip lies at larger z, else -1.
    """
    rings = sheet[:-1, :2].reshape(size.rings, size.angles, 2)
    area = sum(signed_area(ring) for ring in rings)
    return (1 if area >= 0 else -1), (1 if sheet[-1, 2] >= sheet[0, 2] else -1)


def heart_mesh(masks: Mapping[str, Mask], grid: Grid, size: SheetSize | None = None) -> HeartMesh:
    """The surfaces of a heart in short-axis slices.

    Args:
        masks: ``left_ventricle`` (cavity), ``myocardium``, ``right_ventricle``, each (D, H, W).
        grid: of the masks.
        size: of each sheet; None takes 16 rings of 32 points.

    Raises:
        DataError: the grid is no stack with its slices along the last axis, a structure is missing, is there
            in fewer than three slices, or does not fit the grid, or the muscle does not surround the cavity.
    """
    size = size or SheetSize()
    if grid.dims != 3:
        raise DataError(f"a heart needs a stack (D, H, W) of slices, not a grid of {grid.dims} axes.")
    if axis_across(grid) in (0, 1):
        raise DataError(
            "slices across the heart must follow one another along the last axis of the file; save the stack "
            "in that order."
        )
    for organ in SHEETS:
        if organ not in masks:
            raise DataError(f"a heart needs masks of {', '.join(SHEETS)}; {organ} is missing.")
        if np.shape(masks[organ]) != grid.shape:
            raise DataError(f"the mask of {organ} has the shape {np.shape(masks[organ])}, not {grid.shape}.")
    cavity, muscle, right = (np.asarray(masks[organ], bool) for organ in SHEETS)
    present = {
        ENDO: _slices(cavity),
        EPI: _slices(cavity | muscle),
        RIGHT: _slices(right),
    }
    for organ in (ENDO, RIGHT):
        if len(present[organ]) < FEWEST_SLICES:
            raise DataError(
                f"{organ} is seen in {len(present[organ])} of {grid.shape[0]} slices; a mesh needs "
                f"{FEWEST_SLICES}."
            )
    if not (muscle & ~cavity).any():
        raise DataError("the label map shows no myocardium.")
    turn = Orientation.of_heart(grid).turn
    base_first = _larger_first(cavity | muscle | right, present[ENDO])
    told = [_larger_first(cavity, present[ENDO]), *[bool(turn[2, 2] > 0)] * tells_apex(grid)]
    if not base_first:  # built with the base first, and turned back
        cavity, muscle, right = cavity[::-1], muscle[::-1], right[::-1]
        present = {organ: [grid.shape[0] - 1 - z for z in slices[::-1]] for organ, slices in present.items()}
    rows, columns = (_around((cavity | muscle | right).any(axis=axes)) for axes in ((0, 2), (0, 1)))
    cavity, muscle, right = (mask[:, rows, columns] for mask in (cavity, muscle, right))
    septum = _septum(cavity, right)
    # The muscle's sheet begins where the cavity's does, so that one rim joins them.
    present[EPI] = [z for z in present[EPI] if z >= present[ENDO][0]]
    flags = _flags(cavity, muscle, present, {ENDO: cavity, EPI: cavity | muscle, RIGHT: right})
    if {*told} != {base_first}:
        flags += ("slice_order_uncertain",)
    if min(rows.start, columns.start) == 0 or rows.stop > grid.shape[1] or columns.stop > grid.shape[2]:
        flags += ("heart_at_border",)
    sheets, wrong = [], {}
    for organ, mask in ((ENDO, cavity), (EPI, cavity | muscle), (RIGHT, right)):
        rings, wrong[organ] = _rings(organ, mask, present[organ], cavity, septum, size.angles)
        # The cavity's tip stays within the muscle where both end in one slice.
        within = organ == ENDO and present[ENDO][-1] == present[EPI][-1]
        sheets.append(_sheet(rings, np.asarray(present[organ], float), size, 0.25 if within else 0.5))
    vertices = np.vstack(sheets) + (columns.start, rows.start, 0)
    if not base_first:
        vertices[:, 2] = grid.shape[0] - 1 - vertices[:, 2]
    flags += tuple(f"folded_{organ}" for organ, count in wrong.items() if count)
    if np.linalg.det(turn[:2, :2]) < 0:
        vertices = vertices[turned_rings(size)]  # the image is mirrored, and the heart is not
    return HeartMesh(heart_surfaces(vertices, grid, size), size, septum, flags)


def heart_surfaces(vertices: npt.NDArray[np.float64], grid: Grid, size: SheetSize) -> Surfaces:
    """The surfaces of vertices (N, 3) in pixels of a grid, whose slices follow one another along z."""
    across, along = directions(vertices[: size.vertices], size)
    faces = heart_faces(size, mirrored=across != along)
    return Surfaces(vertices, faces, np.repeat(np.arange(len(SHEETS)), size.vertices), grid)


def _slices(mask: Mask) -> list[int]:
    return np.flatnonzero(mask.sum(axis=(1, 2)) >= FEWEST_PIXELS).tolist()


def _around(shown: npt.NDArray[np.bool_]) -> slice:
    """The range of what is shown with a pixel at each side, where there is one."""
    places = np.flatnonzero(shown)
    return slice(max(int(places[0]) - 1, 0), int(places[-1]) + 2)


def _larger_first(shown: Mask, slices: list[int]) -> bool:
    """Whether the first third of the slices shows more than the last."""
    areas = shown[slices].sum(axis=(1, 2))
    third = max(1, len(slices) // 3)
    return bool(areas[:third].mean() >= areas[-third:].mean())


def _septum(cavity: Mask, right: Mask) -> float:
    """Direction from the cavity to the right ventricle, the mean over slices by the latter's area.

    One direction for the whole heart: of single slices it turns by up to a right angle where little of the
    right ventricle is seen, which would twist the mesh.
    """
    total = np.zeros(2)
    for z in np.flatnonzero(cavity.any(axis=(1, 2)) & right.any(axis=(1, 2))):
        away = np.argwhere(right[z]).mean(axis=0) - np.argwhere(cavity[z]).mean(axis=0)
        total += right[z].sum() * away / max(float(np.hypot(*away)), 1e-9)
    if not total.any():
        raise DataError("left and right ventricle share no slice, so that the septum has no direction.")
    return float(np.arctan2(total[0], total[1]))


def _flags(
    cavity: Mask, muscle: Mask, present: Mapping[str, list[int]], masks: Mapping[str, Mask]
) -> tuple[str, ...]:
    open_shares = [_open_share(cavity[z], muscle[z]) for z in present[ENDO]]
    if np.mean(open_shares) > NO_WALL_SHARE:
        raise DataError(
            f"{1 - np.mean(open_shares):.0%} of the border of {ENDO} is {EPI}, which should surround it; "
            "check which structure has which value."
        )
    areas = cavity.sum(axis=(1, 2))
    first, last = present[ENDO][0], present[ENDO][-1]
    flags = [
        flag
        for flag, found in (
            ("open_base", open_shares[0] > OPEN_SHARE),
            ("open_wall", max(open_shares[1:]) > OPEN_SHARE),
            ("cut_apex", last == len(cavity) - 1 and areas[last] > CUT_SHARE * areas[first : last + 1].max()),
        )
        if found
    ]
    for organ, slices in present.items():
        if len(slices) != slices[-1] - slices[0] + 1:
            flags.append(f"gap_{organ}")
        if any(scipy.ndimage.label(masks[organ][z], np.ones((3, 3)))[1] > 1 for z in slices):
            flags.append(f"several_parts_{organ}")
        if any((scipy.ndimage.binary_fill_holes(masks[organ][z]) & ~masks[organ][z]).any() for z in slices):
            flags.append(f"hole_{organ}")
    return tuple(flags)


def _open_share(cavity: Mask, muscle: Mask) -> float:
    """Share of the pixels around a slice of the cavity that are no muscle."""
    border = scipy.ndimage.binary_dilation(cavity) & ~cavity
    return float((border & ~muscle).sum() / max(border.sum(), 1))


def _rings(
    organ: str, mask: Mask, slices: list[int], cavity: Mask, septum: float, count: int
) -> tuple[npt.NDArray[np.float64], int]:
    """(slices, count, 2) points of each slice, and how many rays did not meet a contour once."""
    rings, wrong = [], 0
    for z in slices:
        contour = outline(mask[z])
        if organ == RIGHT:
            rings.append(between_ends(contour, septum + np.pi / 2, count))
            continue
        inner = cavity[z] if cavity[z].sum() >= FEWEST_PIXELS else mask[z]
        centre = np.argwhere(largest_part(inner)).mean(axis=0)[::-1]
        ring, met = at_angles(contour, centre, septum, count)
        rings.append(ring)
        wrong += met
    return np.asarray(rings), wrong


def _sheet(
    rings: npt.NDArray[np.float64], slices: npt.NDArray[np.float64], size: SheetSize, beyond: float
) -> npt.NDArray[np.float64]:
    """Vertices of a sheet through the rings of slices.

    It begins half a slice before the first one, with its ring, and its tip lies as far beyond the last one as
    said, half a slice if it is to enclose what the slices stand for.
    """
    places = np.r_[slices[0] - 0.5, slices]
    stack = np.concatenate([rings[:1], rings])
    levels = np.linspace(places[0], places[-1], size.rings)
    smooth = scipy.interpolate.PchipInterpolator(places, stack, axis=0)(
        levels
    )  # monotone: no ring lies beyond its neighbours
    walls = np.concatenate([smooth, np.broadcast_to(levels[:, None, None], (*smooth.shape[:2], 1))], axis=2)
    tip = np.r_[rings[-1].mean(axis=0), slices[-1] + beyond]
    return np.vstack([walls.reshape(-1, 3), tip])


def heart_faces(size: SheetSize, *, mirrored: bool = False) -> dict[str, npt.NDArray[np.int64]]:
    """Organ -> (F, 3) triangles of its closed surface, over three sheets.

    Args:
        size: of each sheet.
        mirrored: where either rings turn from y to x, or the stack begins at the apex.
    """
    sheet, count = wall(size), size.vertices
    closed = np.vstack([sheet, lid(size)])
    faces = {
        ENDO: closed,
        EPI: np.vstack([sheet[:, ::-1], sheet + count, rim(0, count, size.angles)]),
        RIGHT: closed + 2 * count,
    }
    return {organ: each[:, ::-1] if mirrored else each for organ, each in faces.items()}


def heart_pyramid(size: SheetSize, steps: int | None = None) -> Pyramid:
    """Hearts of this size and coarser ones.

    Args:
        size: of each sheet.
        steps: how many; None takes as many as there are.

    Raises:
        ConfigError: the sheets cannot be halved so often.
    """
    if steps is None:
        steps, least = 0, size
        while (coarser := least.coarser()) is not None:
            least, steps = coarser, steps + 1
    found = pyramid(size, len(SHEETS), steps)
    sizes = [size, *(step.size for step in found)]
    return Pyramid(tuple(np.concatenate(list(heart_faces(each).values())) for each in sizes), tuple(found))


def turned_rings(size: SheetSize) -> npt.NDArray[np.int64]:
    """(N,) which vertex takes the place of each one where a heart is mirrored within its slices.

    Rings begin round the left ventricle at the septum, along the right one at the end that lies a quarter of
    a turn further.
    """
    ring, angle = np.mgrid[: size.rings, : size.angles]
    sheets = []
    for number, organ in enumerate(SHEETS):
        first = size.angles // 2 if organ == RIGHT else 0
        places = ring * size.angles + (first - angle) % size.angles
        sheets.append(number * size.vertices + np.r_[places.ravel(), size.vertices - 1])
    found: npt.NDArray[np.int64] = np.concatenate(sheets)
    return found
