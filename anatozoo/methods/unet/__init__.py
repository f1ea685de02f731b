"""U-Net: chest organs pixel by pixel, as the baseline of the HybridGNet papers or with any timm encoder."""

from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule

__all__ = ["UNetDataModule", "UNetModule"]
