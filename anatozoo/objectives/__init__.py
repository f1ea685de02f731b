"""Terms of the loss that any method can use; see `anatozoo.training.objective`."""

from anatozoo.objectives.denoising import Denoising
from anatozoo.objectives.entropy import MEEP
from anatozoo.objectives.shape_prior import ShapePrior

__all__ = ["MEEP", "Denoising", "ShapePrior"]
