"""Inputs of a network by which 8-bit graphs find the ranges of their numbers."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from anatozoo.deploy.parity import Question
from anatozoo.errors import ConfigError
from anatozoo.tasks.base import Predictor

MOST = 64
"""Runs of the network that are kept at most."""
GENERATED = 16

Arrays = tuple[npt.NDArray[np.float32], ...]


def samples_of(model: Predictor, question: Question, folder: Path | None) -> list[Arrays]:
    """What the network sees while the model predicts images of a folder, or generated ones.

    Args:
        model: computed by torch.
        question: an input; without a folder it is shifted, and its grey values are changed.
        folder: with images, of a registration the two of each pair in turn by name; None generates inputs.

    Returns:
        Inputs of the network, one batch of one for each run.

    Raises:
        ConfigError: the folder holds no images, or half a pair.
        AnatozooError: one of them cannot be predicted.
    """
    count = len(question.inputs)
    if folder is None:
        given: list[Sequence[Any]] = [_varied(question.inputs, number) for number in range(GENERATED)]
    else:
        files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise ConfigError(f"{folder} holds no images; those in folders within it are not read.")
        if len(files) % count:
            raise ConfigError(f"{folder} holds {len(files)} files, of which no sets of {count} can be made.")
        given = [files[at : at + count] for at in range(0, len(files), count)]
    seen: list[Arrays] = []
    compute = model.computed

    def recorded(*inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [each.float().cpu().numpy() for each in inputs]
        seen.extend(islice(zip(*([*np.split(a, len(a))] for a in arrays), strict=True), MOST - len(seen)))
        return compute(*inputs)

    model.computed = recorded  # type: ignore[method-assign]
    try:
        for each in given:
            if len(seen) >= MOST:
                break
            model.predict(*each, **(question.settings if folder is None else {}))  # type: ignore[operator]
    finally:
        del model.computed
    return seen


def _varied(inputs: Sequence[np.ndarray], number: int) -> list[np.ndarray]:
    """The inputs shifted by up to a twentieth, and where they are grey values with another gamma."""
    draw = np.random.default_rng(number)
    found = []
    for pixels in inputs:
        top = float(pixels.max())
        if top > 16:  # label maps keep their values
            changed = top * (np.clip(pixels, 0, None) / top) ** np.exp(draw.uniform(-0.4, 0.4))
            pixels = changed.astype(pixels.dtype)
        steps = [int(draw.integers(-(side // 20), side // 20 + 1)) for side in pixels.shape]
        found.append(np.roll(pixels, steps, range(pixels.ndim)))
    return found
