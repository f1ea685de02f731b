"""PCA and FC baselines: from a chest radiograph to landmarks, without a graph."""

import torch
from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.landmarkvae.network import Decoder, LandmarkVAE
from anatozoo.nn.graphs import organ_counts
from anatozoo.tasks.contours import NetworkContourTask


class LandmarkVAEModel(NetworkContourTask):
    """Marks organ contours by landmarks that come from one code of the image alone.

    The baselines that Gaggion et al., IEEE TMI 2022, compare HybridGNet with.

    Args:
        organs: a set (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``) or landmarks per organ.
        frame: square input of the network; see `anatozoo.frames.spec.FrameSpec`.
        encoder: ``"residual"`` (the paper's) or the name of a timm feature extractor.
        latents: length of the code; of PCA the number of components.
        decoder: ``"pca"`` or ``"fc"``; see `anatozoo.methods.landmarkvae.network.LandmarkVAE`.
        widths: hidden layers of ``"fc"``: [512] in IEEE TMI 2022, [256, 256] at MICCAI 2021.
        last_relu: whether a ReLU follows the last layer too, as at MICCAI 2021.
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.

    Raises:
        ConfigError: settings that contradict one another.
    """

    network: LandmarkVAE

    def __init__(
        self,
        organs: str | dict[str, int] = "lungs_heart",
        frame: FrameSpec = FrameSpec(1024),
        encoder: str = "residual",
        latents: int = 64,
        decoder: Decoder = "fc",
        widths: list[int] = [512],  # noqa: B006 - jsonargparse shows it, nothing changes it
        last_relu: bool = False,
        check_view: bool = False,
    ) -> None:
        super().__init__(organ_counts(organs), frame, check_view)
        self.encoder, self.latents, self.decoder = encoder, latents, decoder
        self.widths, self.last_relu = list(widths), last_relu
        self.network = LandmarkVAE(
            self.organs,
            self.side,
            encoder=encoder,
            latents=latents,
            decoder=decoder,
            widths=widths,
            last_relu=last_relu,
        )

    @property
    def has_latent(self) -> bool:
        """Whether codes can be drawn for an image: PCA's have no variance."""
        return self.decoder == "fc"

    def forward_samples(self, image: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Landmarks (B, samples, N, 2) in [0, 1] from codes drawn for each image."""
        return self.network.sample(image, torch.randn((samples, self.latents), generator=generator))
