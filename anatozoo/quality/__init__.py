"""Quality of a segmentation without ground truth: Reverse Classification Accuracy (RCA)."""

from anatozoo.quality.atlas import Atlas, AtlasImage, build_atlas
from anatozoo.quality.engines import ENGINES, Engine, engine_of
from anatozoo.quality.rca import RegisteredImage, rca, register_to_atlas

__all__ = [
    "ENGINES",
    "Atlas",
    "AtlasImage",
    "Engine",
    "RegisteredImage",
    "build_atlas",
    "engine_of",
    "rca",
    "register_to_atlas",
]
