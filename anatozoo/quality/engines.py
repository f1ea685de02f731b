"""Registration engines for atlases, under the name that they have here; see `anatozoo.tasks.engines`."""

from anatozoo.tasks.engines import (
    ENGINES,
    LEARNED,
    Bspline,
    Composed,
    Demons,
    Elastix,
    Engine,
    EngineLike,
    Learned,
    composed,
    engine_of,
)

__all__ = [
    "ENGINES",
    "LEARNED",
    "Bspline",
    "Composed",
    "Demons",
    "Elastix",
    "Engine",
    "EngineLike",
    "Learned",
    "composed",
    "engine_of",
]
