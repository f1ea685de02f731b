"""The label autoencoder of AC-RegNet."""

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.aenet.network import AENet
from anatozoo.tasks.codes import CodeTask


class AeNetModel(CodeTask):
    """Encodes plausible label maps as a short code. Mansilla et al., Neural Networks 2020.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: size and resolution of the label maps; sides are multiples of 8.
        code: length of the code.

    Raises:
        ConfigError: settings out of range.
    """

    def __init__(
        self,
        organs: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(64),
        code: int = 32,
    ) -> None:
        super().__init__(organs, frame)
        self.frame.require((2, 3), ("pad", "stretch", "spacing"))
        self.code = code
        self.network = AENet(self.shape, len(self.organs) + 1, code)
