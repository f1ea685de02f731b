"""anatozoo: a zoo of anatomically plausible models for medical images.

>>> import anatozoo
>>> model = anatozoo.load("hybridgnet-chexmask")  # doctest: +SKIP
>>> result = model.predict("patient.dcm")  # doctest: +SKIP

Importing the package is cheap: torch and the image readers are imported when a name that needs them is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anatozoo.version import __version__

if TYPE_CHECKING:
    from anatozoo.io.images import read_image
    from anatozoo.results.contours import ContourResult
    from anatozoo.results.field import RegistrationResult
    from anatozoo.results.labels import LabelResult
    from anatozoo.results.segmentation import SegmentationResult
    from anatozoo.zoo.catalogue import info, list_models
    from anatozoo.zoo.hub import load

__all__ = [
    "ContourResult",
    "LabelResult",
    "RegistrationResult",
    "SegmentationResult",
    "__version__",
    "info",
    "list_models",
    "load",
    "read_image",
]

_HOME = {
    "ContourResult": "anatozoo.results.contours",
    "LabelResult": "anatozoo.results.labels",
    "RegistrationResult": "anatozoo.results.field",
    "SegmentationResult": "anatozoo.results.segmentation",
    "info": "anatozoo.zoo.catalogue",
    "list_models": "anatozoo.zoo.catalogue",
    "load": "anatozoo.zoo.hub",
    "read_image": "anatozoo.io.images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anatozoo' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
