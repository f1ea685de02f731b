"""Weights laid out with channels last, with which convolutions are often faster."""

from typing import Any

import lightning as L
import torch
from torch import nn


class ChannelsLast(L.Callback):
    """Lays the weights of a module out with the channels of a pixel or voxel side by side.

    PyTorch then keeps the values between layers that way too. Results are the same up to rounding. On GPUs
    with tensor cores and on processors with bfloat16 a step takes less time: with ``bf16-mixed`` on an AMD
    EPYC, that of a 3-D DynUNet takes 0.48 of the time of float32 as usual, and 0.63 with bfloat16 alone.
    """

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Lay out the convolutions; other layers have no channels to lay out."""
        for layer in pl_module.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.to(memory_format=torch.channels_last)
            elif isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                layer.to(memory_format=torch.channels_last_3d)
