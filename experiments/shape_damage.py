"""Known damage to true label maps, plausible and implausible, for `shape_distance.py`.

Label maps are (H, W) or (D, H, W) of a network's frame, organ number i from 1 having the value i. Sizes are
those of a frame of 128 pixels, and in proportion in others; a shift is one pixel in any.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Labels = npt.NDArray[np.uint8]
Damage = Callable[[Labels, Sequence[str]], Labels | None]
"""From a label map and its organs to the damaged one; None where the damage does not apply."""
RING, INNER = "myocardium", "left_ventricle"


def unit(labels: Labels) -> int:
    """4 pixels at 128 pixels a side, and in proportion: the side of a hole, the width of a gap."""
    return max(2, round(4 * labels.shape[-1] / 128))


def shifted(labels: Labels, organs: Sequence[str]) -> Labels:
    """Everything one pixel further, as another patient's organs might be: plausible."""
    found = np.roll(labels, 1, -1)
    found[..., 0] = 0
    return found


def dilated(labels: Labels, organs: Sequence[str]) -> Labels:
    """Organs grow by one pixel within slices: plausible."""
    around = np.ones((1,) * (labels.ndim - 2) + (3, 3), bool)
    return np.where(labels > 0, labels, ndimage.grey_dilation(labels, footprint=around))


def jittered(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """Slices one pixel from another, each in its own direction, as between breath-holds."""
    if labels.ndim == 2:
        return None
    draw, found = np.random.default_rng(0), labels.copy()
    for z, plane in enumerate(labels):
        found[z] = np.roll(plane, draw.integers(-1, 2, 2), (0, 1))
    return found


def without_slice(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """A slice in the middle is empty."""
    if labels.ndim == 2:
        return None
    found = labels.copy()
    found[_middle(labels)] = 0
    return found


def with_blob(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """A stray box of the last organ, as far from all others as it can be."""
    return _with_box(labels, labels == 0, len(organs), 2 * unit(labels), deep=3)


def with_hole(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """A hole in the middle of the thickest organ."""
    depths = [_depth(_plane(labels) == value).max() for value in range(1, len(organs) + 1)]
    thickest = 1 + int(np.argmax(depths))
    if max(depths) <= unit(labels) / 2:
        return None
    return _with_box(labels, labels == thickest, 0, unit(labels), deep=1)


def ring_opened(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """A gap in the ring of myocardium, in the middle slice, on the side away from the right ventricle."""
    return _opened(labels, organs, [_middle(labels)] if labels.ndim == 3 else [None])


def rings_opened(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """The same in all slices."""
    return None if labels.ndim == 2 else _opened(labels, organs, range(len(labels)))


def cut(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """A gap through the largest organ, which leaves two parts of it; of sets without a ring."""
    if RING in organs:
        return None
    sizes = [np.count_nonzero(labels == value) for value in range(1, len(organs) + 1)]
    organ = labels == 1 + int(np.argmax(sizes))
    row = round(float(ndimage.center_of_mass(organ)[-2]))
    found, half = labels.copy(), unit(labels) // 2
    part = found[..., row - half : row - half + unit(labels), :]
    part[organ[..., row - half : row - half + unit(labels), :]] = 0
    return found


def swapped(labels: Labels, organs: Sequence[str]) -> Labels | None:
    """The first organ for the last and the last for the first."""
    if len(organs) < 2:
        return None
    table = np.arange(len(organs) + 1, dtype=labels.dtype)
    table[[1, -1]] = table[[-1, 1]]
    return table[labels]


PLAUSIBLE: dict[str, Damage] = {"shift by 1 px": shifted, "dilate by 1 px": dilated}
IMPLAUSIBLE: dict[str, Damage] = {
    "ring opened": ring_opened,
    "ring opened, all slices": rings_opened,
    "organ cut in two": cut,
    "hole": with_hole,
    "stray blob": with_blob,
    "slice missing": without_slice,
    "slices jittered by 1 px": jittered,
    "organs swapped": swapped,
}
DEMANDED = ("ring opened", "organ cut in two", "hole", "stray blob")
"""Damage that costs more per voxel than a shift in a distance worth its name."""


def _middle(labels: Labels) -> int:
    """The middle slice of the anatomy."""
    return int(np.median(np.flatnonzero(labels.any((1, 2))))) if labels.any() else len(labels) // 2


def _plane(labels: Labels) -> Labels:
    return labels if labels.ndim == 2 else labels[_middle(labels)]


def _depth(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """How far each pixel (H, W) is from the mask's border, and from that of the image."""
    depth: npt.NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return depth


def _with_box(
    labels: Labels, where: npt.NDArray[np.bool_], value: int, side: int, deep: int
) -> Labels | None:
    """A box of a label at the deepest place of a mask in the middle slice; None where the mask is empty."""
    found = labels.copy()
    if not where.any():
        return None
    depth = _depth(where if labels.ndim == 2 else where[_middle(labels)])
    row, column = (int(at) for at in np.unravel_index(depth.argmax(), depth.shape))
    box = tuple(slice(max(at - side // 2, 0), at - side // 2 + side) for at in (row, column))
    if labels.ndim == 3:
        first = max(_middle(labels) - deep // 2, 0)
        box = (slice(first, first + deep), *box)
    part = found[box]
    part[where[box]] = value
    return found


def _opened(labels: Labels, organs: Sequence[str], slices: Sequence[int | None]) -> Labels | None:
    if RING not in organs or INNER not in organs:
        return None
    ring, inner = organs.index(RING) + 1, organs.index(INNER) + 1
    found, half = labels.copy(), unit(labels) // 2
    for z in slices:
        plane = found if z is None else found[z]
        if not ((plane == inner).any() and (plane == ring).any()):
            continue
        row, column = (round(float(at)) for at in ndimage.center_of_mass(plane == inner))
        others = (plane > 0) & (plane != ring) & (plane != inner)
        right = not others.any() or ndimage.center_of_mass(others)[1] < column
        rows = slice(max(row - half, 0), row - half + unit(labels))
        part = plane[rows, column:] if right else plane[rows, : column + 1]
        part[part == ring] = 0
    return None if np.array_equal(found, labels) else found
