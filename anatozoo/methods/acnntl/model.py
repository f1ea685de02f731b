"""The T-L network: predicts the code of a shape from an image."""

from torch import Tensor

from anatozoo.data.layouts.acdc import HEART
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnntl.network import TLNetwork
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.tasks.volumes import VolumeTask


class AcnnTLModel(VolumeTask):
    """Predicts the code of the shape in an image; regularises networks whose output is an image.

    Girdhar et al., ECCV 2016, as in Oktay et al., IEEE TMI 2018. A prediction is the decoded shape g(p(x)) of
    the predicted code p(x): plausible, but without details.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: three-dimensional input of the network; see `anatozoo.frames.spec.FrameSpec`.
        code: length of the code, 64 in the paper.
        widths: channels of encoder and predictor at strides 2, 4, ...

    Raises:
        ConfigError: settings that are not possible.
    """

    sees_parts: bool = False

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

    def levels(self, labels: Tensor) -> list[Tensor]:
        """The encoder's maps (B, width, ...), finest first, for `anatozoo.objectives.shape_prior`."""
        maps: list[Tensor] = self.network.autoencoder.levels(labels)
        return maps

    def rebuilt(self, labels: Tensor) -> Tensor:
        """Logits (B, C, ...) of the shape that one-hot or soft labels (B, C, ...) stand for."""
        logits: Tensor = self.network.autoencoder(labels)[1]
        return logits

    def encode_image(self, image: Tensor) -> Tensor:
        """Codes (B, K) that the predictor gives for images (B, 1, D, H, W) in [0, 1]."""
        codes: Tensor = self.network.predictor(image)
        return codes
