"""Post-DAE: any segmentation made anatomically plausible by an autoencoder that learnt from masks alone."""

from anatozoo.methods.postdae.data import PostDAEDataModule
from anatozoo.methods.postdae.module import PostDAEModule

__all__ = ["PostDAEDataModule", "PostDAEModule"]
