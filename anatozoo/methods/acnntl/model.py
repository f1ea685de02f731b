"""The T-L network: codes of shapes, seen on images."""

from typing import ClassVar

from torch import Tensor

from anatozoo.data.layouts.acdc import HEART
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnntl.network import TLNetwork
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.tasks.volumes import VolumeTask


class AcnnTLModel(VolumeTask):
    """Sees on an image the code of the shape in it, and so regularises networks that give images.

    Girdhar et al., ECCV 2016, as in Oktay et al., IEEE TMI 2018. A prediction is g(p(x)): the shape that the
    code p(x) stands for, which has no details but is one that the network knows.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: what the network sees, of three sides; see `anatozoo.frames.spec.FrameSpec`.
        code: length of the code, 64 in the paper.
        widths: channels of encoder and predictor at strides 2, 4, ...

    Raises:
        ConfigError: settings that are not possible.
    """

    sees_parts: ClassVar[bool] = False

    network: TLNetwork

    def __init__(
        self,
        organs: list[str] = HEART,
        frame: FrameSpec = FrameSpec([16, 128, 128], "slices", long_side=208),
        code: int = 64,
        widths: list[int] = [16, 32, 48, 64],  # noqa: B006 - jsonargparse shows it, nothing changes it
    ) -> None:
        super().__init__(organs, frame)
        self.code, self.widths = code, list(widths)
        self.network = channels_last(TLNetwork(self.shape, len(self.organs) + 1, code, widths))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, D, H, W), background first, of images (B, 1, D, H, W) in [0, 1]."""
        logits: Tensor = self.network(image)
        return logits

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, 1 + organs, D, H, W)."""
        return self.network.autoencoder.encode(labels)

    def encode_image(self, image: Tensor) -> Tensor:
        """Codes (B, K) that the predictor sees on images (B, 1, D, H, W) in [0, 1]."""
        codes: Tensor = self.network.predictor(image)
        return codes
