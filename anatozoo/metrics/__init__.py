"""Metrics shared by every method.

Functions are in `anatozoo.metrics.functional`, `anatozoo.metrics.plausibility` and
`anatozoo.metrics.registration`, the same as `torchmetrics.Metric` in `anatozoo.metrics.classes`. The classes
can be imported from here; nothing heavy is imported before one is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anatozoo.io.annotation import Annotation
    from anatozoo.metrics.cases import Case, Measures, case_row
    from anatozoo.metrics.classes import (
        ASSD,
        ECE,
        NLL,
        NSD,
        Brier,
        Components,
        Dice,
        FoldingFraction,
        Hausdorff,
        Holes,
        InverseConsistencyError,
        IoU,
        LandmarkError,
        LandmarkMSE,
        LogJacobianSD,
        Precision,
        RelativeSizeError,
        Sensitivity,
        Smoothness,
        SurfaceMetrics,
        TargetRegistrationError,
        default_metrics,
    )

    # Not at run time: the documentation would list these names in the place of the modules.
    __all__ = [
        "ASSD",
        "ECE",
        "NLL",
        "NSD",
        "Annotation",
        "Brier",
        "Case",
        "Components",
        "Dice",
        "FoldingFraction",
        "Hausdorff",
        "Holes",
        "InverseConsistencyError",
        "IoU",
        "LandmarkError",
        "LandmarkMSE",
        "LogJacobianSD",
        "Measures",
        "Precision",
        "RelativeSizeError",
        "Sensitivity",
        "Smoothness",
        "SurfaceMetrics",
        "TargetRegistrationError",
        "case_row",
        "default_metrics",
    ]

_HOME = {
    "Annotation": "cases",
    "Case": "cases",
    "Measures": "cases",
    "case_row": "cases",
    "ASSD": "classes",
    "Brier": "classes",
    "Components": "classes",
    "Dice": "classes",
    "ECE": "classes",
    "FoldingFraction": "classes",
    "Hausdorff": "classes",
    "Holes": "classes",
    "InverseConsistencyError": "classes",
    "IoU": "classes",
    "LandmarkError": "classes",
    "LandmarkMSE": "classes",
    "LogJacobianSD": "classes",
    "NLL": "classes",
    "NSD": "classes",
    "Precision": "classes",
    "RelativeSizeError": "classes",
    "Sensitivity": "classes",
    "Smoothness": "classes",
    "SurfaceMetrics": "classes",
    "TargetRegistrationError": "classes",
    "default_metrics": "classes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anatozoo.metrics' has no attribute {name!r}")
    value = getattr(import_module(f"anatozoo.metrics.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
