"""CycleGAN: from an image of one domain to the same image in the look of another."""

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.cyclegan.network import DOWNS, Translators
from anatozoo.tasks.translate import TranslateTask


class CycleGANModel(TranslateTask):
    """Translates grey images of one domain, such as a hospital, into the look of another.

    Zhu et al., ICCV 2017, for domains of medical images as Palladino et al. use it, SIPAIM 2020.

    Args:
        domains: names of the two domains, as the data call them: images of the first become like those of
            the second.
        frame: frame of the network, a square whose side is a multiple of 4, 16 or more.
        width: channels of the first convolution; 64 in the paper.
        blocks: residual blocks; in the paper 9, or 6 for 128 pixels.
        residual: whether generators give a change that is added to the image, so that they begin near the
            identity; False as in the paper.

    Raises:
        ConfigError: settings that are not possible.
    """

    network: Translators

    def __init__(
        self,
        domains: list[str] = ["A", "B"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(128),
        width: int = 64,
        blocks: int = 6,
        residual: bool = True,
    ) -> None:
        super().__init__(domains, frame)
        if self.side % 2**DOWNS or self.side < 16:
            raise ConfigError(
                f"the frame's size={self.frame.size} must be a multiple of {2**DOWNS}, 16 or more."
            )
        self.width, self.blocks, self.residual = width, blocks, residual
        self.network = Translators(width, blocks, residual)
