"""The T-L network of ACNN: from images to codes of shapes; see `anatozoo.methods.acnn`."""

from anatozoo.methods.acnntl.module import AcnnTLModule
from anatozoo.objectives.image_prior import ImagePrior

__all__ = ["AcnnTLModule", "ImagePrior"]
