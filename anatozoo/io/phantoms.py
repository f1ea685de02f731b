"""Drawn chests and hearts whose truth is known: for examples, first tries and tests, never for measuring."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.landmarks import draw_organ_mask

NODES = {"lung_right": 44, "lung_left": 50, "heart": 26, "clavicle_right": 23, "clavicle_left": 23}
"""Landmarks of each organ of a chest."""

# Centre, half axes and tilt in degrees, as fractions of width and height. The patient's right is image left.
_SHAPES = {
    "lung_right": ((0.31, 0.47), (0.135, 0.30), 6.0),
    "lung_left": ((0.71, 0.47), (0.125, 0.29), -6.0),
    "heart": ((0.56, 0.63), (0.15, 0.13), 25.0),
    "clavicle_right": ((0.33, 0.20), (0.15, 0.020), 12.0),
    "clavicle_left": ((0.67, 0.20), (0.15, 0.020), -12.0),
}
_BODY, _LUNG, _HEART, _BONE = 150.0, 60.0, 185.0, 205.0

Points = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
HEART_ORGANS = ("right_ventricle", "myocardium", "left_ventricle")
"""Labels 1, 2 and 3 of a heart, as in ACDC."""
_HEART_SPACING_MM = (1.5, 1.5, 8.0)
_HEART_DIRECTIONS = (
    *(0.680374309, 0.609023929, 0.407652614),
    *(0.620341282, -0.182418331, -0.762823864),
    *(-0.390214677, 0.771889504, -0.501915431),
)
"""An oblique view, in LPS; the columns are rows, columns and slices, which go from base to apex."""


class ChestPhantom(NamedTuple):
    """A drawn chest radiograph.

    Attributes:
        image: (H, W) uint8, bone white.
        landmarks: organ -> (N, 2) float64, x and y in pixels.
    """

    image: Picture
    landmarks: dict[str, Points]

    def label_map(self, organs: Sequence[str]) -> Picture:
        """(H, W) uint8 with 1 for the first of the organs, and so on; later ones cover earlier ones."""
        height, width = self.image.shape
        labels = np.zeros((height, width), np.uint8)
        for value, organ in enumerate(organs, start=1):
            labels[draw_organ_mask(self.landmarks[organ], (width, height))] = value
        return labels


def chest_phantom(
    width: int = 240, height: int = 256, *, noise: float = 3.0, seed: int = 0, move: bool = False
) -> ChestPhantom:
    """Draw a frontal chest radiograph with lungs, heart, clavicles, ribs and noise.

    The shapes scale with the picture, so any size and aspect works.

    Args:
        width: of the picture.
        height: of the picture.
        noise: standard deviation of the noise, in grey levels of 256.
        seed: of the noise, and of the place.
        move: shift and scale the chest in a way that follows from the seed, so that images differ.
    """
    landmarks = {organ: _contour(organ, width, height) for organ in NODES}
    image = np.full((height, width), 8.0, dtype=np.float32)
    _fill(image, _ellipse((0.5, 0.62), (0.46, 0.56), 0.0, 200, width, height), _BODY)
    for organ, value in [("lung_right", _LUNG), ("lung_left", _LUNG), ("heart", _HEART)]:
        _fill(image, landmarks[organ], value)
    _draw_ribs(image)
    for organ in ("clavicle_right", "clavicle_left"):
        _fill(image, landmarks[organ], _BONE)
    smooth = cv2.GaussianBlur(image, (0, 0), sigmaX=max(0.5, 0.003 * max(width, height)))
    noisy = smooth + np.random.default_rng(seed).normal(0.0, noise, image.shape).astype(np.float32)
    found = ChestPhantom(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), landmarks)
    return _moved(found, seed) if move else found


class HeartPhantom(NamedTuple):
    """A drawn short-axis stack of cardiac MR.

    Attributes:
        image: SimpleITK image, with spacing and directions; the first slice is the base.
        labels: (D, H, W) uint8, see `HEART_ORGANS`.
    """

    image: sitk.Image
    labels: Picture


def heart_phantom(
    *, radius_mm: float = 20.0, wall_mm: float = 8.0, noise: float = 4.0, seed: int = 0
) -> HeartPhantom:
    """Draw a heart in a chest: a left ventricle in its myocardium, and a right ventricle beside it.

    Two calls with a large and a small radius, and a thin and a thick wall, are the two phases of a heart.

    Args:
        radius_mm: of the left ventricle at the base; it narrows to the apex as half an ellipsoid.
        wall_mm: thickness of its wall.
        noise: standard deviation of the noise; blood is about 190.
        seed: of noise and texture.
    """
    draw = np.random.default_rng(seed)
    depth, side = 10, 144
    slices, labels = [], np.zeros((depth, side, side), np.uint8)
    for index in range(depth):
        plane, labels[index] = _heart_slice(index, depth, side, radius_mm, wall_mm, draw)
        slices.append(np.clip(plane + draw.normal(0, noise, plane.shape), 0, None))
    grid = Grid((side, side, depth), _HEART_SPACING_MM, (0.0, 0.0, 0.0), _HEART_DIRECTIONS)
    return HeartPhantom(itk_image(np.stack(slices).astype(np.float32), grid), labels)


def _heart_slice(
    index: int, depth: int, side: int, radius: float, wall: float, draw: np.random.Generator
) -> tuple[Plane, Picture]:
    """Grey levels and labels of a slice, all lengths in mm from the middle of the picture."""
    y, x = (np.mgrid[:side, :side].astype(np.float32) - side / 2 + 0.5) * _HEART_SPACING_MM[0]

    def oval(cx: float, cy: float, rx: float, ry: float) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = ((x - cx) / max(rx, 1e-3)) ** 2 + ((y - cy) / max(ry, 1e-3)) ** 2 < 1
        return inside

    def texture(width: float) -> Plane:
        field = gaussian_filter(draw.normal(size=x.shape), width)
        return np.asarray(field / field.std(), np.float32)

    below, length = index * _HEART_SPACING_MM[2], (depth - 1.5) * _HEART_SPACING_MM[2]
    taper = max(0.0, 1 - (below / length) ** 2) ** 0.5
    inner, outer = radius * taper, (radius + wall) * max(0.0, 1 - (below / (length + wall)) ** 2) ** 0.5
    beside = (radius + 9) * taper**1.3  # the right ventricle contracts with the left one
    away = np.hypot(x - 10, y) / (1 + 0.03 * np.cos(2 * np.arctan2(y, x - 10) + 1))
    right, fat = ((10 - 0.75 * outer, 0.25 * outer, 0.85 * beside + d, 1.05 * beside + d) for d in (0.0, 7.0))
    grey = np.full(x.shape, 8.0, np.float32)
    grey[oval(0, 6, 104, 88)] = 200  # skin and fat, muscle, lungs, liver, stomach, aorta
    grey[oval(0, 6, 95, 79)] = 75
    grey[oval(4, -4, 86, 66)] = 20
    grey[oval(-30, 62, 80, 36) & oval(0, 6, 104, 88)] = 85
    grey[oval(44, 52, 30, 14)] = 170
    grey[oval(34, 40, 9, 9)] = 190
    grey[oval(*fat)] = 110
    grey[oval(right[0], right[1], right[2] + 3, right[3] + 3)] = 70
    labels = np.zeros(x.shape, np.uint8)
    for value, (part, level) in enumerate(
        ((oval(*right) & (away >= outer), 180), (away < outer, 70), (away < inner, 195)), start=1
    ):
        labels[part], grey[part] = value, level
    if 0 < index < depth - 3:  # papillary muscles
        for px, py in ((-0.45, 0.4), (0.3, 0.55)):
            grey[oval(10 + px * inner, py * inner, 0.14 * inner, 0.14 * inner)] = 95
    grey = gaussian_filter(grey, 0.7)
    return grey * (1 + 0.06 * texture(10)) + 3 * texture(2) * (grey > 30), labels


def _moved(chest: ChestPhantom, seed: int) -> ChestPhantom:
    draw = np.random.default_rng(seed)
    height, width = chest.image.shape
    scale, size = draw.uniform(0.85, 1.0), np.array([width, height])
    offset = (1 - scale) * (size - 1) / 2 + draw.uniform(-0.04, 0.04, 2) * size
    move = np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]])
    image = cv2.warpAffine(chest.image, move, (width, height)).astype(np.uint8)
    return ChestPhantom(image, {o: points * scale + offset for o, points in chest.landmarks.items()})


def _contour(organ: str, width: int, height: int) -> Points:
    centre, axes, tilt = _SHAPES[organ]
    return _ellipse(centre, axes, tilt, NODES[organ], width, height)


def _ellipse(
    centre: tuple[float, float], axes: tuple[float, float], tilt: float, nodes: int, width: int, height: int
) -> Points:
    """Points around an ellipse, from its top, clockwise as seen on the screen; (N, 2) pixels."""
    angle = np.arange(nodes) * (2 * np.pi / nodes)
    x, y = axes[0] * np.sin(angle), -axes[1] * np.cos(angle)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    unit = np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], axis=-1)
    points: Points = unit * (width, height) - 0.5
    return points


def _fill(image: Plane, contour: Points, value: float) -> None:
    cv2.fillPoly(image, [np.rint(contour).astype(np.int32)], value)


def _draw_ribs(image: Plane) -> None:
    """Brighten nine pairs of arcs, as ribs do over lung and soft tissue alike."""
    height, width = image.shape
    ribs = np.zeros_like(image)
    thickness = max(1, round(0.012 * height))
    for row in np.linspace(0.22, 0.78, 9):
        for column, turn in [(0.3, -15), (0.7, 15)]:
            centre = (round(column * width), round(row * height))
            axes = (max(1, round(0.19 * width)), max(1, round(0.05 * height)))
            cv2.ellipse(ribs, centre, axes, turn, 180, 360, 1.0, thickness)
    np.add(image, 22.0 * ribs, out=image, where=image > 30.0)
