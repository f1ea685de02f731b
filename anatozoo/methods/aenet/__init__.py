"""AENet: the label autoencoder that tells AC-RegNet which shapes are plausible."""

from anatozoo.methods.aenet.data import AeNetDataModule
from anatozoo.methods.aenet.module import AeNetModule

__all__ = ["AeNetDataModule", "AeNetModule"]
