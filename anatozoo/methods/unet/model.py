"""U-Net: from a chest radiograph to one label per pixel."""

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.network import UNet, check_size
from anatozoo.tasks.labels import LabelTask


class UNetModel(LabelTask):
    """Segments chest radiographs by labelling each pixel.

    The baseline of Gaggion et al., IEEE TMI 2022. Nothing makes its shapes plausible: parts may lie apart and
    organs may have holes, which results are flagged for.

    Args:
        organs: a name (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``, each side a label of its
            own) or names of organs in the order of their labels; later ones cover earlier ones. ``"lungs"``
            and ``"clavicles"`` in such a list are both sides under one label.
        frame: the square that the network sees; see `anatozoo.frames.spec.FrameSpec`.
        encoder: ``"residual"`` or any timm feature extractor.
        decoder_widths: channels of the decoder at strides 1, 2, 4, ...
        check_view: whether `predict` flags pictures that are no upright frontal chest, see
            `anatozoo.tasks.chest_view`.

    Raises:
        ConfigError: settings that contradict one another.
    """

    network: UNet

    def __init__(
        self,
        organs: str | list[str] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(1024),
        encoder: str = "residual",
        decoder_widths: list[int] = [8, 16, 32, 64, 128],  # noqa: B006 - jsonargparse shows it
        check_view: bool = False,
    ) -> None:
        super().__init__(organs, frame, check_view)
        check_size(self.side)
        self.encoder, self.decoder_widths = encoder, list(decoder_widths)
        self.network = UNet(1 + len(self.organs), encoder=encoder, decoder_widths=decoder_widths)
