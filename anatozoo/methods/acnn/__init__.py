"""ACNN: segmentation and super-resolution networks that a learned shape prior constrains."""

from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.objectives.shape_prior import PriorSlot, ShapePrior

__all__ = ["AcnnDataModule", "AcnnModule", "PriorSlot", "ShapePrior"]
