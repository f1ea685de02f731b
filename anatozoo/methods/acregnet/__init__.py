"""AC-RegNet: deformable registration with anatomical constraints."""

from anatozoo.methods.acregnet.data import AcRegNetDataModule
from anatozoo.methods.acregnet.module import AcRegNetModule

__all__ = ["AcRegNetDataModule", "AcRegNetModule"]
