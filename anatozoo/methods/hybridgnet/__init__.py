"""HybridGNet: organ contours of chest radiographs by a hybrid of image encoder and graph decoder."""

from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule

__all__ = ["HybridGNetDataModule", "HybridGNetModule"]
