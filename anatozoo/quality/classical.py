"""Classical registration, under the name that it has here; see `anatozoo.tasks.classical`."""

from anatozoo.tasks.classical import (
    BSPLINE,
    DEMONS,
    NAMES,
    Affine,
    BSpline,
    Demons,
    bspline,
    centred_result,
    demons,
)

__all__ = [
    "BSPLINE",
    "DEMONS",
    "NAMES",
    "Affine",
    "BSpline",
    "Demons",
    "bspline",
    "centred_result",
    "demons",
]
