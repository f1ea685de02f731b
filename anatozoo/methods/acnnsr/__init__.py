"""ACNN-SR: super-resolution of volumes with thick slices, which a shape prior constrains in training."""

from anatozoo.methods.acnnsr.data import AcnnSRDataModule
from anatozoo.methods.acnnsr.module import AcnnSRModule

__all__ = ["AcnnSRDataModule", "AcnnSRModule"]
