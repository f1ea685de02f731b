"""Segmentation networks: the rows of the ACNN paper's table, and a modern one, in pure torch.

Oktay et al., "Anatomically constrained neural networks (ACNNs): application to cardiac image enhancement and
segmentation", IEEE TMI 37(2), 2018. The numbers of trainable parameters are within 4 % of the paper's, as
1.656 million for 1.60 of 3D-Seg; the layers are anatozoo's own, because the authors published no code.

Every network maps images (B, 1, ...) to logits (B, classes, ...) in `forward`, and gives in `outputs` all
logits that training supervises, the final ones first.
"""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.conv_norm import CONV
from anatozoo.nn.dynunet import DYNUNET_WIDTHS, DynUNet, Segmenter
from anatozoo.nn.volume_blocks import ConvBlock, Sides, double, pool, pyramid, resize_to

NETWORKS = ("fcn", "seg", "unet", "ae-seg", "ae-seg-m", "dynunet")
FCN_WIDTHS = (16, 32, 72, 144, 272)
SEG_WIDTHS = (16, 24, 48, 88, 144)
UNET_WIDTHS = (16, 24, 40, 72, 120)
AE_WIDTHS = (12, 24, 40)
WIDE_AE_WIDTHS = (24, 48, 96)


class FCN(Segmenter):
    """2D-FCN: slice by slice, scores of several resolutions added up.

    After Long et al., CVPR 2015, and Tran, arXiv:1604.00494. Each slice of a volume is segmented separately.

    Args:
        classes: classes, background included.
        widths: channels at strides 1, 2, 4, ...
        upsample: final slices per input slice, by linear interpolation of the scores.
    """

    def __init__(self, classes: int, widths: Sequence[int] = FCN_WIDTHS, upsample: int = 1) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            double(before, width, (3, 3)) for before, width in zip((1, *widths[:-1]), widths, strict=True)
        )
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)
        self.upsample = upsample

    @property
    def contracting(self) -> nn.Module:
        """The convolutions of all resolutions."""
        return self.stages

    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits (B, classes, H, W), or (B, classes, D · upsample, H, W) of volumes."""
        if image.ndim == 4:
            return [self._planes(image)]
        batch, depth = image.shape[0], image.shape[2]
        planes = self._planes(image.transpose(1, 2).flatten(0, 1))
        logits = planes.unflatten(0, (batch, depth)).transpose(1, 2)
        return [resize_to(logits, (depth * self.upsample, *logits.shape[3:]))]

    def _planes(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        size = x.shape[2:]
        for level, (stage, score) in enumerate(zip(self.stages, self.scores, strict=True)):
            x = stage(pool(x, (2, 2)) if level else x)
            found = resize_to(score(x).float(), size)
            total = found if total is None else total + found
        assert total is not None  # there is at least one stage
        return total


class SliceUpsampler(nn.Module):
    """Learned upsampling across slices, (B, C, D, ...) to (B, C, D · factor, ...).

    Args:
        channels: C.
        factor: slices for each one, at least 2.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.spread = nn.ConvTranspose3d(channels, channels, (factor, 1, 1), stride=(factor, 1, 1))
        self.blend = ConvBlock(channels, channels, (3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the upsampler."""
        return self.blend(self.spread(x))


class Pyramid(Segmenter):
    """Encoder and decoder with connections between maps of one resolution; subclasses say which.

    Args:
        shape: (H, W) or (D, H, W) of the frame, from which strides and kernels follow; images of other sizes
            may be given.
        classes: classes, background included.
        widths: channels of each level.
        upsample: final slices per input slice (the paper's networks turn slices 10 mm apart into slices 2 mm
            apart).

    Raises:
        ConfigError: planes cannot be upsampled across slices.
    """

    def __init__(self, shape: Sequence[int], classes: int, widths: Sequence[int], upsample: int = 1) -> None:
        super().__init__()
        dims = len(shape)
        if upsample > 1 and dims != 3:
            raise ConfigError(f"upsample={upsample} needs volumes; planes have no slices between them.")
        self.strides, self.kernels = pyramid(shape, len(widths))
        self.encoder = nn.ModuleList(
            double(before, width, kernel)
            for before, width, kernel in zip((1, *widths[:-1]), widths, self.kernels, strict=True)
        )
        self.finish: nn.Module = SliceUpsampler(widths[0], upsample) if upsample > 1 else nn.Identity()
        self.head = CONV[dims](widths[0], classes, 1)

    @property
    def contracting(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits, one tensor."""
        maps: list[Tensor] = []
        x = image
        for stage, stride in zip(self.encoder, self.strides, strict=True):
            x = stage(pool(x, stride) if maps else x)
            maps.append(x)
        return [self.head(self.finish(self.decode(maps))).float()]

    @abstractmethod
    def decode(self, maps: list[Tensor]) -> Tensor:
        """The map (B, widths[0], ...) of full resolution from those of all levels, finest first."""


class SegNet(Pyramid):
    """3D-Seg, the network that ACNN-Seg constrains: maps of the encoder are added in the decoder.

    The arguments are those of `Pyramid`.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, widths: Sequence[int] = SEG_WIDTHS, upsample: int = 1
    ) -> None:
        super().__init__(shape, classes, widths, upsample)
        self.reduce = nn.ModuleList(CONV[len(shape)](low, high, 1) for high, low in pairwise(widths))
        self.decoder = nn.ModuleList(
            ConvBlock(width, width, kernel) for width, kernel in zip(widths, self.kernels[:-1], strict=False)
        )

    def decode(self, maps: list[Tensor]) -> Tensor:
        """The map (B, widths[0], ...) of full resolution from those of all levels, finest first."""
        x = maps[-1]
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](resize_to(self.reduce[level](x), maps[level].shape[2:]) + maps[level])
        return x


class UNet(Pyramid):
    """3D-UNet of matched size: maps of the encoder are concatenated in the decoder.

    Çiçek et al., MICCAI 2016. The arguments are those of `Pyramid`.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, widths: Sequence[int] = UNET_WIDTHS, upsample: int = 1
    ) -> None:
        super().__init__(shape, classes, widths, upsample)
        self.decoder = nn.ModuleList(
            double(high + low, high, kernel)
            for (high, low), kernel in zip(pairwise(widths), self.kernels[:-1], strict=True)
        )

    def decode(self, maps: list[Tensor]) -> Tensor:
        """The map (B, widths[0], ...) of full resolution from those of all levels, finest first."""
        x = maps[-1]
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat([maps[level], resize_to(x, maps[level].shape[2:])], 1))
        return x


class AESeg(Segmenter):
    """AE-Seg: a segmenter and, on its probabilities, an autoencoder that corrects them, trained end to end.

    After Ravishankar et al., MICCAI 2017. Both outputs are supervised.

    Args:
        segmenter: the first network.
        shape: (H, W) or (D, H, W) of its output.
        classes: classes, background included.
        widths: channels of the autoencoder at strides 2, 4, ...
    """

    def __init__(
        self, segmenter: Segmenter, shape: Sequence[int], classes: int, widths: Sequence[int] = AE_WIDTHS
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        strides, kernels = pyramid(shape, len(widths) + 1)
        self.encoder = nn.ModuleList(
            ConvBlock(before, width, _at_least(kernel, stride), stride)
            for before, width, kernel, stride in zip(
                (classes, *widths[:-1]), widths, kernels[1:], strides[1:], strict=True
            )
        )
        self.decoder = nn.ModuleList(
            ConvBlock(low, high, kernel)
            for low, high, kernel in zip(
                widths[::-1], (*widths[-2::-1], widths[0]), kernels[-2::-1], strict=True
            )
        )
        self.head = CONV[len(shape)](widths[0], classes, 1)

    @property
    def contracting(self) -> nn.Module:
        """The contracting part of the segmenter."""
        return self.segmenter.contracting

    def outputs(self, image: Tensor) -> list[Tensor]:
        """The corrected logits, and the segmenter's."""
        first = self.segmenter(image)
        x, sizes = first.softmax(1), []
        for block in self.encoder:
            sizes.append(x.shape[2:])
            x = block(x)
        for block, size in zip(self.decoder, reversed(sizes), strict=True):
            x = block(resize_to(x, size))
        return [self.head(x).float(), first]


def build_network(
    name: str,
    shape: Sequence[int],
    classes: int,
    *,
    widths: Sequence[int] | None = None,
    upsample: int = 1,
) -> Segmenter:
    """The network of a row of the paper's table.

    Args:
        name: ``"fcn"`` (2D-FCN), ``"seg"`` (3D-Seg, 3D-Seg-MAug and ACNN-Seg), ``"unet"`` (3D-UNet),
            ``"ae-seg"``, ``"ae-seg-m"``, or ``"dynunet"``.
        shape: (H, W) or (D, H, W) of the frame.
        classes: classes, background included.
        widths: channels of each level, in cascades of the segmenter; None takes the default of the row.
        upsample: final slices per input slice.

    Raises:
        ConfigError: the name or the widths are not possible, or the network cannot upsample.
    """
    own = {"fcn": FCN_WIDTHS, "unet": UNET_WIDTHS, "dynunet": DYNUNET_WIDTHS}
    if name not in NETWORKS:
        raise ConfigError(f"architecture={name!r} is unknown; choose one of {', '.join(NETWORKS)}.")
    chosen: Sequence[int] = own.get(name, SEG_WIDTHS) if widths is None else widths
    if len(chosen) < 2 or min(chosen) < 1 or upsample < 1:
        raise ConfigError(
            f"widths={list(chosen)} must be two or more numbers of channels, upsample={upsample} at least 1."
        )
    if name == "fcn":
        return FCN(classes, chosen, upsample)
    if name == "unet":
        return UNet(shape, classes, chosen, upsample)
    if name == "dynunet":
        if upsample > 1:
            raise ConfigError("architecture='dynunet' does not upsample across slices; set upsample to 1.")
        return DynUNet(shape, classes, chosen)
    segmenter = SegNet(shape, classes, chosen, upsample)
    if name == "seg":
        return segmenter
    fine = (shape[0] * upsample, *shape[1:]) if upsample > 1 else tuple(shape)
    return AESeg(segmenter, fine, classes, AE_WIDTHS if name == "ae-seg" else WIDE_AE_WIDTHS)


def trainable_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _at_least(kernel: Sides, stride: Sides) -> Sides:
    """A kernel at least as large as the stride, so that no pixel is skipped."""
    return tuple(max(side, 3) if step > 1 else side for side, step in zip(kernel, stride, strict=True))
