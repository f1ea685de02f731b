"""Siamese affine registration: from two images to an affine map, and from one to a latent."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.affinereg.network import AffineNet, AffineRegistration, Transform
from anatozoo.nn.blocks import PAPER_WIDTHS
from anatozoo.tasks.field import FieldTask, Similarity, Spacing


class AffineRegModel(FieldTask):
    """Registers a moving image to a fixed one by an affine map, and gives each image a latent.

    The affine network of CheXmask's quality estimation (Gaggion et al., Scientific Data 2024). There it also
    selects atlas images: those whose latents have the largest inner products with the latent of the image.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...; may be empty.
        frame: two-dimensional input of the network; see `anatozoo.frames.spec.FrameSpec`.
        transform: ``"affine"``, or ``"rigid"`` for the authors' variant with an angle, two scales and two
            shifts.
        widths: channels of each level of the encoder; each but the first halves the map.
        latent: length of the latent.
        hidden: width of the layer between the latents and the affine map.
        cells: cells along each axis to which the encoder's last map is pooled.
        similarity: ``"ncc"``, ``"lncc"`` (in windows), ``"mse"``, or ``"mi"`` for two modalities.
        window: side of the windows of ``"lncc"``.
        kl_weight: weight of the KL divergence of the latents, which are sampled in training; 5e-6 as
            published. 0 makes them deterministic.

    Raises:
        ConfigError: settings that contradict one another.
    """

    network: AffineNet

    def __init__(
        self,
        organs: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(256),
        transform: Transform = "affine",
        widths: list[int] = list(PAPER_WIDTHS),  # noqa: B006
        latent: int = 64,
        hidden: int = 128,
        cells: int = 4,
        similarity: Similarity = "ncc",
        window: int = 9,
        kl_weight: float = 5e-6,
    ) -> None:
        super().__init__(organs, frame, similarity, window)
        self.frame.require(2, ("pad", "stretch", "spacing"))
        if kl_weight < 0:
            raise ConfigError(f"kl_weight={kl_weight} must not be negative.")
        self.transform, self.widths, self.latent = transform, list(widths), latent
        self.hidden, self.cells, self.kl_weight = hidden, cells, kl_weight
        self.network = AffineNet(
            transform=transform,
            widths=widths,
            latent=latent,
            hidden=hidden,
            cells=cells,
            variational=kl_weight > 0,
        )

    def forward(self, moving: Tensor, fixed: Tensor) -> AffineRegistration:
        """Register images (B, 1, H, W) in [0, 1]."""
        found: AffineRegistration = self.network(moving, fixed)
        return found

    def field_of(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """The field (B, 2, H, W) alone; an image that is moved to several others is encoded once."""
        if len(moving) > 1 and bool((moving == moving[:1]).all()):
            latents = self.network.embed(torch.cat([moving[:1], fixed]))
            return self.network.between(latents[:1].expand(len(fixed), -1), latents[1:], moving.shape[2:])[1]
        return super().field_of(moving, fixed)

    def embed(
        self,
        image: Any,
        *,
        spacing_mm: Spacing = None,
        invert: bool | None = None,
        allow_any_modality: bool = False,
    ) -> npt.NDArray[np.float32]:
        """The latent (K,) float32 of one image; similar images have similar latents.

        Args:
            image: path, array, tensor, PIL or SimpleITK image, (H, W) of any size.
            spacing_mm: one number or (x, y), where the source has none.
            invert: whether to flip the polarity of a radiograph; None follows the file.
            allow_any_modality: accept DICOM files that are not declared as chest radiographs.

        Raises:
            ImageError: the image cannot be read.
            GeometryError: the frame is in millimetres and the image's spacing is unknown.
        """
        from anatozoo.io.read import read_grid_image

        read = read_grid_image(
            image, 2, spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality
        )
        seen = Frame.fit(read.grid, self.frame).image(read.pixels)
        with torch.inference_mode():
            latent = self.network.embed(self.tensor(seen)[None, None])
        found: npt.NDArray[np.float32] = latent[0].float().cpu().numpy()
        return found
