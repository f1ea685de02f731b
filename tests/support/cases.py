"""Cases of arrays in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from anatozoo.data.case import Case, Drawn
from anatozoo.io.grid import Grid, GridImage


def case_of(
    name: str, image: GridImage | None, labels: np.ndarray, organs: Sequence[str], **known: Any
) -> Case:
    """A case whose label map numbers these organs from 1; without an image `known` gives its ``grid``."""
    place: Grid = known.pop("grid") if image is None else image.grid
    masks = {organ: labels == value for value, organ in enumerate(organs, start=1)}
    return Case(
        name,
        known.pop("subject", name),
        organs=frozenset(organs),
        image=None if image is None else lambda: image,
        draw=lambda _, grid: Drawn(place, masks=masks),
        **known,
    )
