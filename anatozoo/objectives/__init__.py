"""Terms of the loss that any method can use; see `anatozoo.training.objective`."""

from anatozoo.objectives.agreement import Agreement
from anatozoo.objectives.calibration import Calibration
from anatozoo.objectives.centerline import Centerline
from anatozoo.objectives.denoising import Denoising
from anatozoo.objectives.entropy import Entropy
from anatozoo.objectives.orthogonal import Orthogonal
from anatozoo.objectives.shape_prior import ShapePrior

__all__ = ["Agreement", "Calibration", "Centerline", "Denoising", "Entropy", "Orthogonal", "ShapePrior"]
