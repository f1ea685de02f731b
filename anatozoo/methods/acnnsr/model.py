"""ACNN-SR: from thick slices to fine ones."""

from typing import Literal

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnnsr.network import build_network
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.tasks.restore import RestoreTask


class AcnnSRModel(RestoreTask):
    """Restores fine slices from thick ones. Oktay et al., IEEE TMI 2018.

    Args:
        frame: size [D, H, W] and spacing_mm of the fine volumes in training; D is a multiple of `factor`.
            Predictions have any size.
        factor: fine slices for each thick one.
        architecture: ``"subpixel"``, or ``"transposed"`` as in the paper; see
            `anatozoo.methods.acnnsr.network`.
        width: channels; None takes the default of the architecture.
        depth: residual blocks; None takes the default of the architecture.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        frame: FrameSpec = FrameSpec([40, 56, 32], "spacing", [1.0, 1.0, 1.0]),
        factor: int = 4,
        architecture: Literal["subpixel", "transposed"] = "subpixel",
        width: int | None = None,
        depth: int | None = None,
    ) -> None:
        super().__init__(frame, factor)
        self.architecture, self.width, self.depth = architecture, width, depth
        self.network = channels_last(build_network(architecture, factor, width=width, depth=depth))
