"""The networks of ACNN's table: from a volume to one label per voxel."""

from typing import Any, Literal

from torch import Tensor

from anatozoo.data.layouts.acdc import HEART
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.network import build_network
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.tasks.volumes import VolumeTask

Architecture = Literal["fcn", "seg", "unet", "ae-seg", "ae-seg-m", "dynunet"]


class AcnnModel(VolumeTask):
    """Segments volumes and stacks of slices.

    Oktay et al., IEEE TMI 2018: the network that a learned shape prior constrains in training, and the
    baselines of the paper.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: three-dimensional input of the network; see `anatozoo.frames.spec.FrameSpec`.
        architecture: network of the paper's table, see `anatozoo.methods.acnn.network.build_network`.
        widths: channels of each level; None takes the default of the architecture.
        one_part: keep only the largest connected component of all organs together, for organs that touch one
            another as those of the heart do.
        temperature: what logits are divided by where probabilities are asked for; `anatozoo calibrate` fits
            it. Label maps and training do not depend on it.

    Raises:
        ConfigError: settings that are not possible.
    """

    network: Any

    def __init__(
        self,
        organs: list[str] = HEART,
        frame: FrameSpec = FrameSpec([16, 128, 128], "slices", long_side=208),
        architecture: Architecture = "seg",
        widths: list[int] | None = None,
        one_part: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(organs, frame, one_part, temperature)
        self.architecture, self.widths = architecture, widths
        network = build_network(architecture, self.shape, len(self.organs) + 1, widths=widths)
        # DynUNet's instance normalisation would copy every map back.
        self.network = network if architecture == "dynunet" else channels_last(network)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, D, H, W), background first, of images (B, 1, D, H, W) in [0, 1]."""
        logits: Tensor = self.network(image)
        return logits
