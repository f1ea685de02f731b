"""Terms of the loss that any method can use; see `anatozoo.training.objective`."""

from anatozoo.objectives.agreement import Agreement
from anatozoo.objectives.denoising import Denoising
from anatozoo.objectives.entropy import MEEP
from anatozoo.objectives.orthogonal import Orthogonal
from anatozoo.objectives.shape_prior import ShapePrior

__all__ = ["MEEP", "Agreement", "ShapePrior"]
__all__ = ["MEEP", "Orthogonal", "ShapePrior"]
from anatozoo.objectives.calibration import Calibration
from anatozoo.objectives.entropy import Entropy
from anatozoo.objectives.shape_prior import ShapePrior

__all__ = ["Calibration", "Entropy", "ShapePrior"]
__all__ = ["MEEP", "Denoising", "ShapePrior"]
