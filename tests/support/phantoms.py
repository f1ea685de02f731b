"""Generated pictures that look enough like radiographs to test with, and whose truth is known exactly."""

from typing import NamedTuple

import cv2
import numpy as np

NODES = {"lung_right": 44, "lung_left": 50, "heart": 26, "clavicle_right": 23, "clavicle_left": 23}

# Centre, half axes and tilt in degrees, as fractions of width and height. The patient's right is image left.
_SHAPES = {
    "lung_right": ((0.31, 0.47), (0.135, 0.30), 6.0),
    "lung_left": ((0.71, 0.47), (0.125, 0.29), -6.0),
    "heart": ((0.56, 0.63), (0.15, 0.13), 25.0),
    "clavicle_right": ((0.33, 0.20), (0.15, 0.020), 12.0),
    "clavicle_left": ((0.67, 0.20), (0.15, 0.020), -12.0),
}
_BODY, _LUNG, _HEART, _BONE = 150.0, 60.0, 185.0, 205.0


class ChestPhantom(NamedTuple):
    """A phantom: `image` (H, W) uint8, bone white, and `landmarks` per organ, (N, 2) float64 pixels."""

    image: np.ndarray
    landmarks: dict[str, np.ndarray]


def make_chest_phantom(
    width: int = 240, height: int = 256, *, noise: float = 3.0, seed: int = 0
) -> ChestPhantom:
    """Draw a frontal chest radiograph with lungs, heart, clavicles, ribs and noise.

    The shapes scale with the picture, so any size and aspect works; points are (x, y) of pixel centres.
    """
    landmarks = {organ: _contour(organ, width, height) for organ in NODES}
    image = np.full((height, width), 8.0, dtype=np.float32)
    _fill(image, _ellipse((0.5, 0.62), (0.46, 0.56), 0.0, 200, width, height), _BODY)
    for organ, value in [("lung_right", _LUNG), ("lung_left", _LUNG), ("heart", _HEART)]:
        _fill(image, landmarks[organ], value)
    _draw_ribs(image)
    for organ in ("clavicle_right", "clavicle_left"):
        _fill(image, landmarks[organ], _BONE)
    image = cv2.GaussianBlur(image, (0, 0), sigmaX=max(0.5, 0.003 * max(width, height)))
    image += np.random.default_rng(seed).normal(0.0, noise, image.shape).astype(np.float32)
    return ChestPhantom(np.clip(np.rint(image), 0, 255).astype(np.uint8), landmarks)


def _contour(organ: str, width: int, height: int) -> np.ndarray:
    centre, axes, tilt = _SHAPES[organ]
    return _ellipse(centre, axes, tilt, NODES[organ], width, height)


def _ellipse(
    centre: tuple[float, float], axes: tuple[float, float], tilt: float, nodes: int, width: int, height: int
) -> np.ndarray:
    """Points around an ellipse, from its top, clockwise as seen on the screen; (N, 2) float64 pixels."""
    angle = np.arange(nodes) * (2 * np.pi / nodes)
    x, y = axes[0] * np.sin(angle), -axes[1] * np.cos(angle)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    unit = np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], axis=-1)
    return unit * (width, height) - 0.5


def _fill(image: np.ndarray, contour: np.ndarray, value: float) -> None:
    cv2.fillPoly(image, [np.rint(contour).astype(np.int32)], value)


def _draw_ribs(image: np.ndarray) -> None:
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
