"""MONAI's DynUNet in the manner of nnU-Net, for planes and volumes, and the base class of such networks."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.volume_blocks import pyramid

DYNUNET_WIDTHS = (16, 32, 64, 128, 192)
LATER_OUTPUTS = 0.5
"""Weight of each further supervised output against the one before it."""


def weighted_levels(values: Sequence[Tensor]) -> Tensor:
    """Mean of a loss over the outputs of a `Segmenter`: each has half the weight of the one before.

    Args:
        values: the loss of each output, scalars, the final one first.
    """
    # MONAI's DeepSupervisionLoss has a floor and is not normalised: more outputs would outweigh other terms.
    shares = torch.tensor([LATER_OUTPUTS**level for level in range(len(values))])
    return ((shares / shares.sum()).to(values[0].device) * torch.stack(list(values))).sum()


class Segmenter(nn.Module):
    """Base class of networks whose training supervises several outputs."""

    @abstractmethod
    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits (B, classes, ...) float32, all of the final resolution, the final ones first."""

    @property
    @abstractmethod
    def contracting(self) -> nn.Module:
        """The encoder, which may have its own learning rate."""

    def forward(self, image: Tensor) -> Tensor:
        """Final logits (B, classes, ...) float32 of images (B, 1, ...) in [0, 1]."""
        return self.outputs(image)[0]


class DynUNet(Segmenter):
    """MONAI's DynUNet in the manner of nnU-Net, with deep supervision.

    Isensee et al., Nature Methods 2021.

    Args:
        shape: (H, W) or (D, H, W) of the frame, multiples of the strides.
        classes: classes, background included.
        widths: channels of each level.
        supervised: number of coarser levels that are supervised too, at most those between the finest and the
            coarsest.

    Raises:
        ConfigError: there are fewer than three widths, or the frame cannot be halved often enough.
    """

    heads: ClassVar[tuple[str, ...]] = ("network.output_block.", "network.deep_supervision_heads.")
    """Where the names of parameters begin whose first axis is the classes."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        widths: Sequence[int] = DYNUNET_WIDTHS,
        supervised: int = 2,
    ) -> None:
        super().__init__()
        # Imported here: it takes seconds, and only this network needs it.
        from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet

        if len(widths) < 3 or min(widths) < 1:
            raise ConfigError(f"DynUNet needs three or more positive widths, not {list(widths)}.")
        strides, kernels = pyramid(shape, len(widths))
        for axis, side in enumerate(shape):
            total = 1
            for stride in strides:
                total *= stride[axis]
            if side % total:
                raise ConfigError(
                    f"the frame's size={list(shape)} does not fit DynUNet: {side} is not a "
                    f"multiple of {total}."
                )
        levels = min(supervised, len(widths) - 2)
        self.network = MonaiDynUNet(
            spatial_dims=len(shape),
            in_channels=1,
            out_channels=classes,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=list(widths),
            deep_supervision=levels > 0,
            deep_supr_num=max(levels, 1),
        )
        # DynUNet holds its layers a second time, in nested form; registered, they would be stored twice.
        nested = self.network.skip_layers
        del self.network.skip_layers
        vars(self.network)["skip_layers"] = nested

    @property
    def contracting(self) -> nn.Module:
        """The encoder's levels below the finest."""
        return self.network.downsamples

    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits; in training also those of coarser levels, enlarged."""
        found = self.network(image)
        if found.ndim == image.ndim:
            return [found.float()]
        return [level.float() for level in found.unbind(1)]
