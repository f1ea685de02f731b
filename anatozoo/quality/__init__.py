"""Quality of a segmentation without ground truth: Reverse Classification Accuracy (RCA)."""

from anatozoo.quality.agreement import EstimateAgreement, estimate_agreement
from anatozoo.quality.atlas import Atlas, AtlasImage, build_atlas
from anatozoo.quality.engines import ENGINES, Composed, Engine, composed, engine_of
from anatozoo.quality.rca import RegisteredImage, rca, register_to_atlas
from anatozoo.quality.selectors import Latents, Selector, selector_of

__all__ = [
    "ENGINES",
    "Atlas",
    "AtlasImage",
    "Composed",
    "Engine",
    "EstimateAgreement",
    "Latents",
    "RegisteredImage",
    "Selector",
    "build_atlas",
    "composed",
    "engine_of",
    "estimate_agreement",
    "rca",
    "register_to_atlas",
    "selector_of",
]
