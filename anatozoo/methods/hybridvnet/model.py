"""HybridVNet: from a stack of images to a mesh of the heart."""

from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridvnet.network import HybridVNet
from anatozoo.tasks.volume_meshes import VolumeMeshTask


class HybridVNetModel(VolumeMeshTask):
    """Meshes of hearts from stacks in short axis. Gaggion et al., arXiv:2311.13706.

    Args:
        frame: three-dimensional input of the network; see `anatozoo.frames.spec.FrameSpec`.
        rings: of each sheet, at least 8.
        angles: points of a ring, at least 8.
        latents: length of the code of the stack.
        widths: of the encoder's levels, finest first.
        graph_widths: of the decoder's levels, finest first.
        order: number of Chebyshev terms K.
        skips: for each level of the decoder, finest first, the encoder's level that it looks up.
        views: how many long-axis views the network takes beside the stack; zeros stand for missing ones.
        view_side: side of these square images in pixels.
        view_latents: length of the code of each view.
        flat: how many levels of the encoder, finest first, do not convolve across slices.
        graph_conv: ``"sparse"``, ``"static"`` or ``"pyg"``, which differ in speed alone.

    Raises:
        ConfigError: settings that are not possible.
    """

    network: HybridVNet

    def __init__(
        self,
        frame: FrameSpec = FrameSpec([16, 96, 96], "slices", long_side=176),
        rings: int = 16,
        angles: int = 32,
        latents: int = 32,
        widths: tuple[int, ...] = (8, 16, 32, 64, 64, 64),
        graph_widths: tuple[int, ...] = (16, 32, 32, 64, 64),
        order: int = 6,
        skips: tuple[int, ...] = (0, 1, 2, 3, 4),
        views: int = 0,
        view_side: int = 224,
        view_latents: int = 8,
        flat: int = 2,
        graph_conv: str = "sparse",
    ) -> None:
        super().__init__(frame, rings, angles)
        self.latents, self.order, self.graph_conv = latents, order, graph_conv
        self.widths, self.graph_widths, self.skips = tuple(widths), tuple(graph_widths), tuple(skips)
        self.views, self.view_side, self.view_latents, self.flat = views, view_side, view_latents, flat
        self.network = HybridVNet(
            self.shape,
            self.size,
            latents=latents,
            widths=self.widths,
            graph_widths=self.graph_widths,
            order=order,
            skips=self.skips,
            views=views,
            view_side=view_side,
            view_latents=view_latents,
            flat=flat,
            graph_conv=graph_conv,
        )

    def forward(self, image: Tensor, views: Tensor | None = None) -> Tensor:
        """Vertices (B, N, 3), x, y, z in [0, 1] of the frame.

        Args:
            image: (B, 1, D, H, W) in [0, 1].
            views: (B, views, S, S) long-axis views in [0, 1], zeros where one is missing; None where all are.
        """
        found: Tensor = self.network(image, views)[0][0]
        return found
