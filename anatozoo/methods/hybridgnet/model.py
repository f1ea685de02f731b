"""HybridGNet: from a chest radiograph to organ contours on a graph."""

from typing import Literal

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.graphs import organ_counts
from anatozoo.nn.hybridgnet import HybridGNet
from anatozoo.tasks.contours import NetworkContourTask


class HybridGNetModel(NetworkContourTask):
    """Segments chest radiographs by organ contours on a graph.

    Gaggion et al., IEEE TMI 2022. With ``encoder="residual"`` and no ``refine`` this is the published
    network; the other settings are anatozoo's.

    Args:
        organs: a set (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``) or landmarks per organ.
        frame: square input of the network; see `anatozoo.frames.spec.FrameSpec`.
        encoder: ``"residual"`` or the name of a timm feature extractor.
        latents: length of the latent code.
        features: width of the graph layers.
        order: number of Chebyshev terms K.
        skips: encoder levels of the image-to-graph skips, coarse first; empty for none.
        window: side of the window, in pixels of the map, in which a skip samples it.
        lookup: how skips sample the map: ``"average"``, or ``"roi_align"`` as the authors do.
        upsampling: up-sampling matrix, ``"wrap"`` (CheXmask) or ``"copy"`` (TMI 2022).
        graph_conv: implementation of the graph convolution, ``"static"`` or ``"pyg"``.
        template: predict positions relative to the mean shape of the training data.
        refine: reaches of the refinement steps, as fractions of the frame; empty for the published network.
        refine_features: width of the refiner.
        anchors: organ -> landmarks between which the others are spaced; empty for the published network.
        dense_organs: organs of the refiner's auxiliary masks; None takes `organs`.
        mask_decoder: a convolutional decoder of masks beside that of contours, from the same code: ``"code"``
            (HybridGNet Dual), ``"skips"`` (Dual SC, which also adds the encoder's maps) or ``"none"``.
        variational: whether the code has a variance. Without one, codes are not drawn in training, there are
            no KL divergence and no samples, and the weights are smaller.
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.

    Raises:
        ConfigError: settings that contradict one another.
    """

    network: HybridGNet

    def __init__(
        self,
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(1024),
        encoder: str = "residual",
        latents: int = 64,
        features: int = 32,
        order: int = 6,
        skips: list[int] = [6, 5],  # noqa: B006 - jsonargparse shows it, nothing changes it
        window: int = 3,
        lookup: Literal["average", "roi_align"] = "average",
        upsampling: Literal["wrap", "copy"] = "wrap",
        graph_conv: Literal["static", "pyg"] = "static",
        template: bool = False,
        refine: list[float] = [],  # noqa: B006
        refine_features: int = 64,
        anchors: dict[str, list[int]] = {},  # noqa: B006
        dense_organs: list[str] | None = None,
        check_view: bool = False,
        mask_decoder: Literal["none", "code", "skips"] = "none",
        variational: bool = True,
    ) -> None:
        super().__init__(organ_counts(organs), frame, check_view)
        self.encoder, self.latents, self.features, self.order = encoder, latents, features, order
        self.skips, self.window, self.lookup, self.upsampling = list(skips), window, lookup, upsampling
        self.graph_conv, self.template = graph_conv, template
        self.refine, self.refine_features = list(refine), refine_features
        self.anchors = {organ: list(numbers) for organ, numbers in anchors.items()}
        self.dense_organs, self.mask_decoder = list(dense_organs or self.organs), mask_decoder
        self.variational = variational
        missing = set(self.organs) - set(self.dense_organs)
        if missing:
            raise ConfigError(f"dense_organs lacks {', '.join(sorted(missing))}; it must hold every organ.")
        self.network = HybridGNet(
            self.organs,
            self.side,
            encoder=encoder,
            latents=latents,
            features=features,
            order=order,
            skips=skips,
            window=window,
            lookup=lookup,
            upsampling=upsampling,
            graph_conv=graph_conv,
            template=template,
            refine=refine,
            refine_features=refine_features,
            anchors=anchors,
            dense_organs=len(self.dense_organs),
            mask_decoder=mask_decoder,
            variational=variational,
        )

    @property
    def has_latent(self) -> bool:
        """Whether codes can be drawn for an image."""
        return self.variational

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask decoder."""
        return self.mask_decoder != "none"

    def forward_with_masks(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Final landmarks (B, N, 2) in [0, 1], and the mask decoder's probabilities, from one pass."""
        if not self.has_masks:
            return super().forward_with_masks(image)
        output = self(image)
        return output.landmarks, output.masks.softmax(1)

    def forward_samples(self, image: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Final landmarks (B, samples, N, 2) in [0, 1] from codes drawn for each image."""
        noise = torch.randn((samples, self.latents), generator=generator)
        return self.network.sample(image, noise)[0]
