"""Mask-HybridGNet: from an image to organ contours whose nodes have no reference."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.graphs import organ_counts
from anatozoo.nn.hybridgnet import HybridGNet
from anatozoo.nn.raster import soft_polygon
from anatozoo.tasks.cases import landmark_cases
from anatozoo.tasks.contours import MAP_SOFTNESS, NetworkContourTask
from anatozoo.tasks.views import Maps, over_background

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.data.case import Drawn
    from anatozoo.io.images import Image
    from anatozoo.metrics.cases import Case
    from anatozoo.tasks.trials import Conditions, Judge


class MaskHybridGNetModel(NetworkContourTask):
    """Segments images by organ contours on a graph, with a network that has seen masks alone.

    Gaggion et al., "Mask-HybridGNet", arXiv 2602.21179. The graph has two resolutions here, three in the
    paper, and the contours start as a mean shape. Node i of two images need not lie at the same point of the
    anatomy: evaluations compare regions, never nodes.

    Args:
        organs: nodes per organ, in order, each one closed contour.
        frame: square input of the network; see `anatozoo.frames.spec.FrameSpec`.
        encoder: ``"residual"`` or the name of a timm feature extractor.
        latents: length of the latent code.
        features: width of the graph layers.
        order: number of Chebyshev terms K.
        skips: encoder levels of the image-to-graph skips, coarse first; empty for none.
        refine: reaches of the refinement steps, as fractions of the frame; empty for none.
        refine_features: width of the refiner.
        variational: whether the code has a variance, of which samples can be drawn.
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.

    Raises:
        ConfigError: settings that contradict one another.
    """

    offers: ClassVar = frozenset({"maps"})

    network: HybridGNet

    def __init__(
        self,
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(256),
        encoder: str = "residual",
        latents: int = 64,
        features: int = 32,
        order: int = 6,
        skips: list[int] = [6, 5],  # noqa: B006 - jsonargparse shows it, nothing changes it
        refine: list[float] = [],  # noqa: B006
        refine_features: int = 64,
        variational: bool = True,
        check_view: bool = False,
    ) -> None:
        super().__init__(organ_counts(organs), frame, check_view)
        self.encoder, self.latents, self.features, self.order = encoder, latents, features, order
        self.skips, self.refine, self.refine_features = list(skips), list(refine), refine_features
        self.variational = variational
        self.network = HybridGNet(
            self.organs,
            self.side,
            encoder=encoder,
            latents=latents,
            features=features,
            order=order,
            skips=skips,
            template=True,
            refine=refine,
            refine_features=refine_features,
            variational=variational,
        )

    @property
    def has_latent(self) -> bool:
        """Whether codes can be drawn for an image."""
        return self.variational

    def forward_samples(self, image: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Nodes (B, samples, N, 2) in [0, 1] from codes drawn for each image."""
        return self.network.sample(image, torch.randn((samples, self.latents), generator=generator))[0]

    def columns(self) -> list[str]:
        """Mean Dice, and that of each organ: nodes have no reference."""
        return ["dice", *(f"dice/{organ}" for organ in self.organs)]

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Contours with the masks of the organs, in the 1024 x 1024 frame."""
        from anatozoo.metrics.cases import mean_dice
        from anatozoo.metrics.chest import FRAME, draw_masks

        unknown = {"landmarks": output, "landmark_weight": output.new_zeros(output.shape[:2])}
        found = []
        for case in landmark_cases(output, {**batch, **unknown}, self.organs, list(self.organs)):
            side = case.prediction
            masks = draw_masks(side.landmarks, (FRAME, FRAME), (FRAME, FRAME))
            numbers = {"dice": mean_dice(masks, case.reference.masks)}
            found.append(replace(case, prediction=replace(side, masks=masks), numbers=numbers))
        return found

    def maps(self, output: Any, batch: Mapping[str, Tensor]) -> Maps:
        """The organs as soft label maps, drawn from the contours in a differentiable way.

        Later organs cover earlier ones.

        Args:
            output: nodes (B, N, 2) in [0, 1], or an output of the network that has them as ``landmarks``.
            batch: ``masks`` (B, organs, s, s), shares of cells, and ``known`` (B, organs) bool.
        """
        nodes: Tensor = getattr(output, "landmarks", output)
        nodes, masks = nodes.float() + 0.5 / self.side, batch["masks"]
        size, parts = masks.shape[-1], self.parts.values()
        soft = [soft_polygon(nodes[:, part], size, MAP_SOFTNESS) for part in parts]
        return Maps(over_background(soft), over_background(list(masks.unbind(1))), batch["known"])

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[Image, Judge]":
        """A case, judged by regions also where the data have landmarks."""

        def draw(organs: Any, grid: Any) -> "Drawn":
            drawn = case.read_drawn(organs, grid)
            return replace(drawn, free=frozenset(drawn.landmarks))

        return super()._trial(replace(case, draw=draw), how)
