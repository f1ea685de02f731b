"""Seg2Graph: from masks of organs to their landmarks."""

from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.seg2graph.network import WIDTHS, Seg2Graph
from anatozoo.nn.graphs import organ_counts
from anatozoo.tasks.mask_contours import MaskContourTask


class Seg2GraphModel(MaskContourTask):
    """Gives landmarks with correspondences to the organs of a mask.

    Gaggion et al., IEEE TMI 2022, feed their network with a label map. Here each organ has a plane of its
    own, so that organs may overlap or be missing, the encoder is smaller, and the contours are refined and
    spaced as in anatozoo's HybridGNet, each node looking at its organ's plane.

    Args:
        organs: a name (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``) or landmarks per organ.
        frame: the square that the network sees; see `anatozoo.frames.spec.FrameSpec`.
        widths: channels of the encoder at strides 2 to 32.
        latents: length of the latent code.
        features: width of the graph layers.
        order: Chebyshev terms K.
        skips: levels of the skips from the encoder to the graph, coarse first, from 3 to 6.
        refine: reaches of the refinement steps.
        refine_features: width of the refiner.
        anchors: organ -> landmarks between which the others are spaced.

    Raises:
        ConfigError: settings that contradict one another.
    """

    network: Seg2Graph

    def __init__(
        self,
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(256),
        widths: list[int] = list(WIDTHS),  # noqa: B006 - jsonargparse shows it, nothing changes it
        latents: int = 64,
        features: int = 32,
        order: int = 6,
        skips: list[int] = [6, 5],  # noqa: B006
        refine: list[float] = [],  # noqa: B006
        refine_features: int = 32,
        anchors: dict[str, list[int]] = {},  # noqa: B006
    ) -> None:
        super().__init__(organ_counts(organs), frame)
        self.widths, self.latents, self.features, self.order = list(widths), latents, features, order
        self.skips, self.refine, self.refine_features = list(skips), list(refine), refine_features
        self.anchors = {organ: list(numbers) for organ, numbers in anchors.items()}
        self.network = Seg2Graph(
            self.organs,
            self.side,
            widths,
            latents=latents,
            features=features,
            order=order,
            skips=skips,
            refine=refine,
            refine_features=refine_features,
            anchors=anchors,
        )

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Landmarks (B, N, 2) in [0, 1] of the frame from planes of organs (B, organs, S, S) in [0, 1]."""
        return self.network(image).landmarks
