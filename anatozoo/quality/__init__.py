"""Quality of a segmentation without ground truth: Reverse Classification Accuracy (RCA) and cheap signals."""

from anatozoo.quality.agreement import EstimateAgreement, estimate_agreement
from anatozoo.quality.atlas import Atlas, AtlasImage, build_atlas
from anatozoo.quality.calibration import Calibration
from anatozoo.quality.intervals import DiceIntervals
from anatozoo.quality.latents import LandmarkSpread, LatentDistance, latent_code, predictive_spread
from anatozoo.quality.organs import OrganMasks, read_organs
from anatozoo.quality.rca import RegisteredImage, rca, register_to_atlas
from anatozoo.quality.selectors import Latents, Selector, selector_of
from anatozoo.quality.signals import (
    ShapeFaults,
    mask_agreement,
    reconstruction,
    reconstruction_agreement,
    shape_faults,
)
from anatozoo.tasks.engines import ENGINES, Composed, Engine, composed, engine_of

__all__ = [
    "ENGINES",
    "Atlas",
    "AtlasImage",
    "Calibration",
    "Composed",
    "DiceIntervals",
    "Engine",
    "EstimateAgreement",
    "LandmarkSpread",
    "LatentDistance",
    "Latents",
    "OrganMasks",
    "RegisteredImage",
    "Selector",
    "ShapeFaults",
    "build_atlas",
    "composed",
    "engine_of",
    "estimate_agreement",
    "latent_code",
    "mask_agreement",
    "predictive_spread",
    "rca",
    "read_organs",
    "reconstruction",
    "reconstruction_agreement",
    "register_to_atlas",
    "selector_of",
    "shape_faults",
]
