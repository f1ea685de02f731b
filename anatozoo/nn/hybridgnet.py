"""HybridGNet: an image encoder, a latent shape code and a graph decoder of organ contours.

Gaggion, Mansilla, Mosquera, Milone, Ferrante: "Improving anatomical plausibility in medical image
segmentation via hybrid graph neural networks", IEEE TMI 2022 (image-to-graph skip connections), and
"CheXmask", Scientific Data 2024.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs
from anatozoo.nn.code import ShapeCoder, code_deviation
from anatozoo.nn.graph_decoder import GraphDecoder
from anatozoo.nn.mask_decoder import build_mask_decoder
from anatozoo.nn.refinement import ContourRefiner, RefinerOutput
from anatozoo.nn.spacing import Spacing

Found = TypeVar("Found")
CODES_AT_ONCE = 50
"""Codes of an image that are decoded together, which bounds the memory of `HybridGNet.sample`."""


class HybridGNetOutput(NamedTuple):
    """Output of a forward pass; all positions are x, y in [0, 1] of the network's square frame."""

    landmarks: Tensor
    """(B, N, 2) final contour nodes."""
    positions: tuple[Tensor, ...]
    """Intermediate node positions for deep supervision: coarse (B, M, 2) first, fine (B, N, 2) after."""
    mu: Tensor
    """(B, latents) mean of the latent code."""
    logvar: Tensor | None
    """(B, latents) log-variance of the latent code; None where it has none."""
    dense: Tensor | None
    """(B, organs, S/4, S/4) organ logits of the refiner's auxiliary head, or None."""
    masks: Tensor | None = None
    """(B, 1 + organs, S, S) label logits of the mask decoder, background first, or None without one."""


class HybridGNet(ShapeCoder, GraphDecoder):
    """Encoder, variational bottleneck and graph decoder with optional skips and contour refinement.

    Args:
        organs: landmarks per organ, in output order.
        image_size: side of the square input in pixels, which the paper's encoder is tied to.
        encoder: ``"residual"`` (the paper's), a timm model name, or an encoder with its maps' ``channels``.
        latents: length of the shape code.
        features: width of the fine graph layers; the coarse ones have half.
        order: Chebyshev terms K.
        skips: encoder levels of the image-to-graph skips, coarse graph first: ``()``, ``(l,)`` or
            ``(l1, l2)`` with levels 2 … 6 (stride 2^(level-1)).
        window: side of the look-up window in pixels of the map.
        lookup: ``"average"`` or ``"roi_align"``, see `anatozoo.nn.igsc.window_average`.
        upsampling: ``"wrap"`` or ``"copy"``, see `anatozoo.nn.graphs.upsampling`.
        graph_conv: ``"static"`` or ``"pyg"``.
        template: predict positions relative to a learned mean shape (not part of the paper).
        refine: ranges of the contour refinement steps as fractions of the frame, empty for the paper's
            network (see `ContourRefiner`; not part of the paper).
        refine_features: width of the refiner.
        anchors: anchor landmarks per organ between which the others are evenly spaced, empty for the paper's
            network (see `anatozoo.nn.spacing`; not part of the paper).
        dense_organs: channels of the refiner's auxiliary masks; None takes the number of organs.
        own_planes: whether the input is one plane for each organ, at which the refiner looks too.
        variational: whether the code has a variance, see `ShapeCoder`.
        mask_decoder: ``"none"``, ``"code"`` or ``"skips"``: a convolutional decoder of masks from the same
            code, see `anatozoo.nn.mask_decoder`.

    Raises:
        ConfigError: a combination that cannot be built.
    """

    def __init__(
        self,
        organs: Mapping[str, int],
        image_size: int,
        *,
        encoder: str | nn.Module = "residual",
        latents: int = 64,
        features: int = 32,
        order: int = 6,
        skips: Sequence[int] = (6, 5),
        window: int = 3,
        lookup: str = "average",
        upsampling: graphs.Upsampling = "wrap",
        graph_conv: str = "static",
        template: bool = False,
        refine: Sequence[float] = (),
        refine_features: int = 64,
        anchors: Mapping[str, Sequence[int]] | None = None,
        dense_organs: int | None = None,
        own_planes: bool = False,
        mask_decoder: str = "none",
        variational: bool = True,
    ) -> None:
        if graph_conv == "sparse":
            raise ConfigError("graph_conv='sparse' is for meshes; choose one of static, pyg.")
        super().__init__(image_size, encoder, latents, variational=variational)
        self.organs, self.own_planes = graphs.check_organs(organs), own_planes
        channels: Any = self.encoder.channels
        self.add_decoder(
            self.organs,
            latents,
            features,
            order,
            upsampling,
            skips=skips,
            channels=channels,
            window=window,
            lookup=lookup,
            graph_conv=graph_conv,
            template=template,
        )
        self.spacing = Spacing(self.organs, anchors) if anchors else None
        self.refiner = None
        if refine:
            self.refiner = ContourRefiner(
                self.organs,
                channels,
                features,
                refine,
                width=refine_features,
                order=order,
                graph_conv=graph_conv,
                dense_organs=dense_organs,
                own_planes=own_planes,
            )
        # Last, so that the other layers begin with the weights that they have without it.
        self.mask_decoder = build_mask_decoder(
            mask_decoder, latents, 1 + len(self.organs), image_size, channels
        )

    def take_mean(self, mean: Tensor) -> None:
        """Take template and spacing from a mean shape (N, 2); a template that has been learnt stays."""
        with torch.no_grad():
            if self.spacing is not None:
                self.spacing.take_from(mean)
            if self.template is not None and bool((self.template == 0.5).all()):
                self.template.copy_(mean)

    def decode(
        self, z: Tensor, maps: Mapping[int, Tensor], scale: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Landmarks, intermediate positions and the last node features from a latent code; see `forward`."""
        landmarks, positions, nodes = self.decode_nodes(z, maps)
        return self._spaced(landmarks, scale), positions, nodes

    def _spaced(self, landmarks: Tensor, scale: Tensor | None) -> Tensor:
        if self.spacing is None:
            return landmarks
        if scale is None:
            return self.spacing(landmarks)
        spaced: Tensor = self.spacing(landmarks * scale[:, None])
        return spaced / scale[:, None]

    def forward(self, image: Tensor, scale: Tensor | None = None) -> HybridGNetOutput:
        """Segment images; the latent code is sampled in training, its mean else.

        Args:
            image: (B, C, S, S) in [0, 1].
            scale: (B, 2), by which x and y of the frame are multiplied to have the proportions in which
                landmarks are spaced; None where the frame has them.
        """
        maps = self.encoder(image)
        found, z = self._in_full(maps, image, lambda maps, image: self._contours(maps, image, scale))
        if self.mask_decoder is None:
            return found
        # Convolutions of whole images, in the precision of the encoder.
        return found._replace(masks=self.mask_decoder(z, maps).float())

    def sample(self, image: Tensor, noise: Tensor, *, refined: bool = True) -> tuple[Tensor, Tensor]:
        """Landmarks of codes that are drawn from the latent distribution of each image.

        Gaggion et al., "CheXmask-U", MIDL 2026. An image is encoded once, and the refiner's features are
        computed once; all codes of an image look at the same maps, which are not copied.

        Args:
            image: (B, C, S, S) in [0, 1].
            noise: (n, latents) standard normal numbers: code i of an image is mean + noise[i] · deviation.
            refined: whether the contour refinement follows the decoder, as in `forward`.

        Returns:
            Landmarks (B, n, N, 2), and the standard deviations of the codes (B, latents).
        """
        maps = self.encoder(image)
        return self._in_full(maps, image, lambda maps, image: self._samples(maps, image, noise, refined))

    def _in_full(
        self,
        maps: Mapping[int, Tensor],
        image: Tensor,
        follow: Callable[[Mapping[int, Tensor], Tensor], Found],
    ) -> Found:
        """What follows from the encoder's maps and the image, computed in full precision."""
        if torch.is_autocast_enabled(image.device.type):
            # The graph layers take little time, and half precision there would cost whole pixels.
            with torch.autocast(image.device.type, enabled=False):
                return follow({level: x.float() for level, x in maps.items()}, image.float())
        return follow(maps, image)

    def _samples(
        self, maps: Mapping[int, Tensor], image: Tensor, noise: Tensor, refined: bool
    ) -> tuple[Tensor, Tensor]:
        mu, logvar = self.encode(maps)
        if logvar is None:
            raise ConfigError("this network's code has no variance, from which samples could be drawn.")
        deviation = code_deviation(logvar)
        refiner = self.refiner if refined else None
        # Features of one pixel side by side, as all steps of all codes look them up.
        rows: Any = {"memory_format": torch.channels_last}
        maps = {level: x.contiguous(**rows) for level, x in maps.items()}
        features = None if refiner is None else refiner.features(maps)[0].contiguous(**rows)
        found = []
        for i, (mean, width) in enumerate(zip(mu, deviation, strict=True)):
            own = {level: x[i : i + 1] for level, x in maps.items()}
            for some in noise.to(mu).split(CODES_AT_ONCE):
                landmarks, _, nodes = self.decode(mean + some * width, own)
                if refiner is not None and features is not None:
                    planes = image[i : i + 1] if self.own_planes else None
                    landmarks = refiner.refine(
                        landmarks, nodes, features[i : i + 1], lambda p: self._spaced(p, None), planes
                    )[-1]
                found.append(landmarks)
        return torch.cat(found).view(len(mu), len(noise), *found[0].shape[1:]), deviation

    def _contours(
        self, maps: Mapping[int, Tensor], image: Tensor, scale: Tensor | None
    ) -> tuple[HybridGNetOutput, Tensor]:
        """The contours, and the code that they come from."""
        mu, logvar = self.encode(maps)
        z = self.draw(mu, logvar)
        landmarks, positions, nodes = self.decode(z, maps, scale)
        dense = None
        if self.refiner is not None:
            refined: RefinerOutput = self.refiner(
                landmarks, nodes, maps, lambda p: self._spaced(p, scale), image if self.own_planes else None
            )
            positions += (landmarks, *refined.steps[:-1])
            landmarks, dense = refined.steps[-1], refined.dense
        return HybridGNetOutput(landmarks, positions, mu, logvar, dense), z
