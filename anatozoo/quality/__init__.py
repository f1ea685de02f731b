"""Quality of a segmentation without ground truth: Reverse Classification Accuracy (RCA)."""

from anatozoo.quality.agreement import EstimateAgreement, estimate_agreement
from anatozoo.quality.atlas import Atlas, AtlasImage, build_atlas
from anatozoo.quality.engines import ENGINES, Engine, engine_of
from anatozoo.quality.rca import RegisteredImage, rca, register_to_atlas

__all__ = [
    "ENGINES",
    "Atlas",
    "AtlasImage",
    "Engine",
    "EstimateAgreement",
    "RegisteredImage",
    "build_atlas",
    "engine_of",
    "estimate_agreement",
    "rca",
    "register_to_atlas",
]
