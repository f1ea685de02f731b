"""Root systems over the frames of one plant: accumulated masks, and roots that keep their names."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from anatozoo.errors import ConfigError, DataError
from anatozoo.roots.skeleton import trace
from anatozoo.roots.system import RootSystem

MEMORY = 0.8
"""Share of the past in what is accumulated."""
SAME_PX = 15.0
"""How far the base of a lateral may move between frames."""


def accumulated(
    probabilities: Iterable[npt.ArrayLike | DataError], *, memory: float = MEMORY, threshold: float = 0.5
) -> Iterator[npt.NDArray[np.bool_] | DataError]:
    """Masks of frames, each with what the frames before have shown.

    With probabilities p the mask is a > threshold, a = memory * a + p (Gaggion et al., GigaScience 10, 2021).
    The sum is not normalised: what was seen once in full stays for some frames.

    Args:
        probabilities: (H, W) of each frame in [0, 1], or masks; or why one could not be read.
        memory: in [0, 1); 0 takes each frame by itself.
        threshold: at least 0.

    Yields:
        A mask; or what is wrong with the frame: it could not be read, has another size than the first one, or
        values outside [0, 1]. The frames after it go on.

    Raises:
        ConfigError: the memory is none.
    """
    if not 0 <= memory < 1:
        raise ConfigError(f"memory={memory} must be at least 0 and below 1.")
    past: npt.NDArray[np.float64] | None = None
    for number, frame in enumerate(probabilities):
        if isinstance(frame, DataError):
            yield frame
            continue
        p = np.asarray(frame, float)
        if past is not None and p.shape != past.shape:
            yield DataError(f"frame {number} has the shape {p.shape}, the one before {past.shape}.")
            continue
        if p.size == 0 or not (p.min() >= 0 and p.max() <= 1):
            yield DataError(f"frame {number} has values outside [0, 1], which are no probabilities of root.")
            continue
        past = p if past is None else memory * past + p
        yield past > threshold


class Follower:
    """The root system of one plant, frame by frame; laterals keep their names.

    The main root ends near its tip of the frame before, so that a lateral that has overtaken it does not
    become the main root. A lateral is that of the frame before whose base and tip are nearest, the base
    within 15 px.

    Args:
        seed: x and y of the seed.
        name: of the plant.
    """

    def __init__(self, seed: Sequence[float], name: str = "") -> None:
        self.seed, self.name = seed, name
        self.last: RootSystem | None = None
        self._known = 0

    def add(self, mask: npt.ArrayLike | DataError) -> RootSystem | DataError:
        """The system of the next frame, or why none was found; the frames after it go on.

        Args:
            mask: (H, W), or why there is none.

        Raises:
            ConfigError: the seed is outside the frame.
        """
        if isinstance(mask, DataError):
            return mask
        tip = None if self.last is None else self.last.main.points[-1]
        try:
            found = trace(mask, self.seed, tip=tip, name=self.name)
        except DataError as error:
            return error
        roots = [found.main]
        for root, own in zip(found.laterals, _names(found, self.last), strict=True):
            if own is None:
                self._known += 1
            roots.append(replace(root, name=own or f"lateral {self._known}"))
        self.last = replace(found, roots=tuple(roots))
        return self.last


def follow(
    masks: Iterable[npt.ArrayLike | DataError], seed: Sequence[float], *, name: str = ""
) -> Iterator[RootSystem | DataError]:
    """What `Follower.add` gives for each of the frames of a plant, in the order of time."""
    return map(Follower(seed, name).add, masks)


def _names(found: RootSystem, last: RootSystem | None) -> list[str | None]:
    """The names that laterals have had in the frame before; None for new ones."""
    names: list[str | None] = [None] * len(found.laterals)
    if last is None or not last.laterals or not names:
        return names

    def ends(system: RootSystem) -> npt.NDArray[np.float64]:
        return np.array([[root.points[0], root.points[-1]] for root in system.laterals])

    away = np.linalg.norm(ends(found)[:, None] - ends(last)[None], axis=-1)  # (found, last, base or tip)
    cost = np.where(away[..., 0] <= SAME_PX, away.sum(-1), 1e6)
    for own, other in zip(*linear_sum_assignment(cost), strict=True):
        if cost[own, other] < 1e6:
            names[own] = last.laterals[other].name
    return names
