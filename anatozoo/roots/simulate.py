"""Roots grown in silico: what is known of them tells how well the rest of this package measures."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError
from anatozoo.roots.system import Root, RootSystem, length_of, until

_BITS = 4


def grown(
    system: RootSystem,
    hours: float,
    *,
    speed: float,
    rhythm: float = 0.0,
    delays: Sequence[float] | None = None,
) -> RootSystem | None:
    """A system as it was after so many hours; None before it has begun.

    Each root begins after its delay and grows up to its length, at t hours with the speed
    speed * (1 + rhythm * sin(2 pi t / 24)).

    Args:
        system: fully grown.
        hours: since the first root began.
        speed: in pixels an hour.
        rhythm: from 0, none, to 1.
        delays: of each root in hours; None lets all begin at once. A lateral waits until its parent has grown
            past its base.

    Raises:
        ConfigError: an argument is outside its range.
    """
    if speed <= 0 or not 0 <= rhythm <= 1:
        raise ConfigError(f"speed={speed} must be above 0, and rhythm={rhythm} between 0 and 1.")
    late = [0.0] * len(system.roots) if delays is None else list(delays)
    if len(late) != len(system.roots):
        raise ConfigError(f"{len(late)} delays do not fit {len(system.roots)} roots.")

    def way(t: float) -> float:
        return speed * (t + rhythm * 24 / (2 * np.pi) * (1 - np.cos(2 * np.pi * t / 24)))

    numbers: dict[int, int] = {}
    roots: list[Root] = []
    begins: list[float] = []
    for number, (root, delay) in enumerate(zip(system.roots, late, strict=True)):
        begin = delay
        if root.parent is not None:  # not before its parent has come by
            parent = system.roots[root.parent].points
            nearest = int(np.linalg.norm(parent - root.points[0], axis=1).argmin())
            needed = way(begins[root.parent]) + length_of(parent[: nearest + 1])
            begin = max(delay, _when(way, needed))
        begins.append(begin)
        length = way(hours) - way(begin) if hours > begin else 0.0
        if length <= 0:
            continue
        numbers[number] = len(roots)
        roots.append(
            Root(until(root.points, length), None if root.parent is None else numbers[root.parent], root.name)
        )
    return RootSystem(tuple(roots), name=system.name) if roots else None


def _when(way: Callable[[float], float], length: float) -> float:
    """The hours after which a way that never shrinks is so long."""
    low, high = 0.0, 1.0
    while way(high) < length:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if way(middle) < length else (low, middle)
    return high


def drawn(
    system: RootSystem | None,
    size: tuple[int, int],
    *,
    width: float = 3.0,
    noise: float = 0.0,
    seed: int = 0,
) -> npt.NDArray[np.float32]:
    """A probability of root as a network might give it.

    Args:
        system: in pixels; None draws nothing.
        size: height and width.
        width: of the lines in pixels.
        noise: standard deviation of a noise of each pixel.
        seed: of the noise.

    Returns:
        (H, W) in [0, 1].
    """
    canvas = np.zeros(size, np.uint8)
    for root in () if system is None else system.roots:
        line = np.round(root.points * 2**_BITS).astype(np.int32)
        cv2.polylines(canvas, [line], False, 255, max(1, round(width)), cv2.LINE_AA, _BITS)
    values = canvas.astype(np.float32) / 255
    if noise > 0:
        values += np.random.default_rng(seed).normal(0, noise, size).astype(np.float32)
    return np.clip(values, 0, 1)


def example(seed: int = 0, *, laterals: int = 6, size: tuple[int, int] = (480, 320)) -> RootSystem:
    """A made-up plant with a main root and laterals on both sides that do not cross.

    Args:
        seed: of the random numbers.
        laterals: how many.
        size: height and width of the picture that it fits into.
    """
    draw = np.random.default_rng(seed)
    height, width = size
    down = np.linspace(0.08, 0.92, 60) * height
    sway = width / 2 + 0.03 * width * np.sin(down / height * 2 * np.pi + draw.uniform(0, 2 * np.pi))
    main = Root(np.stack([sway, down], -1), None, "main")
    roots = [main]
    places = np.linspace(0.1, 0.72, laterals) + draw.uniform(-0.01, 0.01, laterals)
    for number, share in enumerate(places, start=1):
        base = main.points[round(share * 59)]
        side = 1 if number % 2 else -1
        t = np.linspace(0, 1, 30)
        reach = (0.4 - 0.25 * share) * width * draw.uniform(0.85, 1.0)
        points = base + np.stack([side * reach * t, 0.3 * reach * t + 0.35 * reach * t**2], -1)
        roots.append(Root(points, 0, f"lateral {number}"))
    return RootSystem(tuple(roots), name=f"plant {seed}")
