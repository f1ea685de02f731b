"""The T-L network of ACNN: from images to codes of shapes; see `anatozoo.methods.acnn`."""

from anatozoo.methods.acnntl.image_prior import ImagePrior
from anatozoo.methods.acnntl.module import AcnnTLModule

__all__ = ["AcnnTLModule", "ImagePrior"]
