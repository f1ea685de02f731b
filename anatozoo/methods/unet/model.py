"""U-Net: from a chest radiograph to one label per pixel."""

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.network import DYNUNET, UNet, check_size
from anatozoo.nn.dynunet import DynUNet
from anatozoo.tasks.labels import LabelTask, Output


class UNetModel(LabelTask):
    """Segments chest radiographs by labelling each pixel.

    The baseline of Gaggion et al., IEEE TMI 2022. It does not enforce plausible shapes: organs may fall into
    several parts or have holes; results with such organs are flagged.

    Args:
        organs: name of a set (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``, with one label per
            side), or names of organs in the order of their labels; later ones cover earlier ones. In such a
            list ``"lungs"`` and ``"clavicles"`` are both sides under one label.
        frame: square input of the network; see `anatozoo.frames.spec.FrameSpec`.
        encoder: ``"residual"`` or the name of a timm feature extractor; ``"dynunet"`` takes DynUNet instead,
            a network in the manner of nnU-Net with deep supervision.
        decoder_widths: channels of the decoder, and of the encoder of DynUNet, at strides 1, 2, 4, ...
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.
        output: ``"labels"`` (each pixel has one label), or ``"organs"`` (a yes or no for each organ, as
            UNet-HT of Gaggion et al., ISBI 2023; later organs cover earlier ones).
        temperature: what logits are divided by where probabilities are asked for; `anatozoo calibrate` fits
            it. Label maps and training do not depend on it.
        deep_supervision: how many maps of the decoder before its last one are supervised as well, each with
            half the weight of the one before; DynUNet has its own two.

    Raises:
        ConfigError: settings that contradict one another.
    """

    network: UNet | DynUNet

    def __init__(
        self,
        organs: str | list[str] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(1024),
        encoder: str = "residual",
        decoder_widths: list[int] = [8, 16, 32, 64, 128],  # noqa: B006 - jsonargparse shows it
        check_view: bool = False,
        output: Output = "labels",
        temperature: float = 1.0,
        deep_supervision: int = 0,
    ) -> None:
        super().__init__(organs, frame, check_view, output, temperature)
        check_size(self.side)
        self.encoder, self.decoder_widths = encoder, list(decoder_widths)
        self.deep_supervision = deep_supervision
        if encoder != DYNUNET:
            self.network = UNet(
                self.channels, encoder=encoder, decoder_widths=decoder_widths, supervised=deep_supervision
            )
        elif deep_supervision:
            raise ConfigError(f"deep_supervision={deep_supervision}: DynUNet has its own; leave it out.")
        else:
            self.network = DynUNet(self.shape, self.channels, decoder_widths)
