"""A picture of root systems over the mask that they were traced in."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from anatozoo.roots.system import RootSystem

MAIN, LATERALS = (230, 60, 40), ((40, 140, 230), (30, 170, 110), (170, 90, 200), (220, 160, 30))
"""Colours, red, green and blue."""
_GREY, _BITS, _SHORTEST_SIDE = 90, 4, 600


def picture_of(mask: npt.ArrayLike, systems: Sequence[RootSystem]) -> bytes:
    """A PNG: the mask in grey, main roots red, laterals in colours by turns, tips as dots.

    Args:
        mask: (H, W), nonzero where there is root.
        systems: in its pixels.
    """
    shown = np.asarray(mask) != 0
    scale = max(1, round(_SHORTEST_SIDE / max(1, min(shown.shape))))
    canvas = np.zeros((*shown.shape, 3), np.uint8)
    canvas[shown] = _GREY
    canvas = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    for system in systems:
        for number in reversed(range(len(system.roots))):
            color = MAIN if number == 0 else LATERALS[(number - 1) % len(LATERALS)]
            line = np.round(((system.roots[number].points + 0.5) * scale - 0.5) * 2**_BITS).astype(np.int32)
            cv2.polylines(canvas, [line], False, color, max(2, scale), cv2.LINE_AA, _BITS)
            x, y = (int(value) for value in line[-1])
            cv2.circle(canvas, (x, y), (2 + scale) * 2**_BITS, color, -1, cv2.LINE_AA, _BITS)
    done, encoded = cv2.imencode(".png", canvas[..., ::-1])
    assert done
    return encoded.tobytes()
