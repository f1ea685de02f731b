"""The graph spectral VAE: from the landmarks of organs to landmarks."""

from typing import Literal

from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.shapevae.network import ShapeVAE
from anatozoo.nn.graphs import organ_counts
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.tasks.shapes import ShapeTask


class ShapeVAEModel(ShapeTask):
    """Reconstructs, draws and varies the contours of organs. Gaggion et al., IEEE TMI 2022.

    Args:
        organs: a set (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``) or landmarks per organ.
        frame: the square that shows the whole image, of the size of a HybridGNet that is to start from this:
            the half pixel by which two sizes differ is learnt.
        latents: length of the code.
        features: width of the graph layers.
        order: number of Chebyshev terms K.
        upsampling: up-sampling matrix, ``"wrap"`` (CheXmask) or ``"copy"`` (TMI 2022).

    Raises:
        ConfigError: settings that are not possible.
    """

    network: ShapeVAE

    def __init__(
        self,
        organs: str | dict[str, int] = "lungs_heart",
        frame: FrameSpec = FrameSpec(256),
        latents: int = 64,
        features: int = 32,
        order: int = 6,
        upsampling: Literal["wrap", "copy"] = "copy",
    ) -> None:
        super().__init__(organ_counts(organs), frame)
        self.latents, self.features, self.order, self.upsampling = latents, features, order, upsampling
        self.network = ShapeVAE(
            self.organs, latents=latents, features=features, order=order, upsampling=upsampling
        )

    def forward(self, landmarks: Tensor) -> HybridGNetOutput:
        """Reconstruction and code of landmarks (B, N, 2) in [0, 1]."""
        output: HybridGNetOutput = self.network(landmarks)
        return output
