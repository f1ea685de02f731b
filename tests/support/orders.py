"""The orders in which a volume may be stored, and directions of volumes that are oblique."""

from itertools import permutations, product

import numpy as np
import numpy.typing as npt

from anatozoo.io.orientation import Orientation


def all_orders() -> list[Orientation]:
    """The 48 orders of the axes of a volume."""
    turns = list(product((False, True), repeat=3))
    return [Orientation(axes, flips) for axes in permutations(range(3)) for flips in turns]


def rotation(x: float, y: float, z: float) -> npt.NDArray[np.float64]:
    """Rotation (3, 3) by angles in degrees about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians([x, y, z])):
        one, two = (each for each in range(3) if each != axis)
        step = np.eye(3)
        step[one, one] = step[two, two] = np.cos(angle)
        step[one, two], step[two, one] = -np.sin(angle), np.sin(angle)
        result = step @ result
    return result


OBLIQUE = tuple(rotation(10, -20, 15).ravel().tolist())
"""Directions near the patient's axes."""


def _short_axis() -> tuple[float, ...]:
    z = np.array([0.65, -0.6, -0.45])
    z /= np.linalg.norm(z)
    left = np.array([1.0, 0.0, 0.0]) - z[0] * z
    left /= np.linalg.norm(left)
    x = 0.97 * left + np.sqrt(1 - 0.97**2) * np.cross(left, z)
    return tuple(np.stack([x, np.cross(x, z), z], 1).ravel().tolist())


SHORT_AXIS = _short_axis()
"""Those of slices across a heart as on a screen: x to the left, y to the back and feet, z to the apex."""
