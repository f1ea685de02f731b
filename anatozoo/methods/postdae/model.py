"""Post-DAE: from a mask to a plausible mask."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.postdae.corruptions import largest
from anatozoo.methods.postdae.network import NETWORKS, PaperDAE, ResidualDAE
from anatozoo.tasks.repair import RepairTask
from anatozoo.tasks.trials import Conditions, Judge, Trial, identity_of, spread

if TYPE_CHECKING:
    from anatozoo.data.case import Case
    from anatozoo.methods.postdae.data import DegradedDataset


class PostDAEModel(RepairTask):
    """Makes the masks of any segmenter anatomically plausible.

    Larrazabal et al., MICCAI 2019 and IEEE TMI 2020. ``architecture="paper"`` is the published network with a
    dense bottleneck; ``"residual"`` and ``"skip"`` are anatozoo's.

    Args:
        organs: names of the organs in the order of their labels 1, 2, ...; later ones cover earlier ones.
        frame: size and resolution of the masks; sides are multiples of ``2 ** len(widths)``.
        architecture: ``"paper"``, ``"residual"`` or ``"skip"``, see `anatozoo.methods.postdae.network`.
        widths: channels of the encoder's stages; the first has stride 2.
        code: length of the dense code.
        skips: strides of the encoder maps that ``"skip"`` passes to the decoder; 1 is the mask itself.
        one_part: organs of which only the largest connected component is kept after the repair, mapped to the
            organs that may cover them: parts that are connected behind those count as one.

    Raises:
        ConfigError: settings that are not possible.
    """

    conditions: ClassVar = frozenset({"degrade"})

    network: PaperDAE | ResidualDAE

    def __init__(
        self,
        organs: list[str] = ["lungs"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(256),
        architecture: Literal["paper", "residual", "skip"] = "skip",
        widths: list[int] = [16, 32, 48, 64, 96],  # noqa: B006
        code: int = 128,
        skips: list[int] = [4, 8, 16, 32],  # noqa: B006
        one_part: dict[str, list[str]] = {},  # noqa: B006
    ) -> None:
        super().__init__(organs, frame, one_part)
        if architecture not in NETWORKS:
            raise ConfigError(
                f"architecture={architecture!r} is unknown; choose one of {', '.join(NETWORKS)}."
            )
        self.architecture, self.widths, self.code = architecture, list(widths), code
        self.skips = list(skips)
        classes = len(self.organs) + 1
        if architecture == "paper":
            self.network = PaperDAE(self.shape, classes, widths=widths, code=code)
        else:
            passed = skips if architecture == "skip" else ()
            self.network = ResidualDAE(self.shape, classes, widths=widths, code=code, skips=passed)

    def trials(self, cases: Sequence["Case"], how: Conditions) -> list[Trial]:
        """Each mask, as the data hold it or under every kind of damage, always the same, in the frame."""
        if how.degrade is None:
            return super().trials(cases, how)
        from anatozoo.methods.postdae.data import damaged_masks

        spacing = None if how.spacing_mm is None else spread(how.spacing_mm)
        items = damaged_masks(cases, self.organs, self.frame, how.degrade, spacing)
        return [
            Trial(
                identity_of(items.masks.cases[index // items.copies])
                | {"id": items.identity(index)["id"], "degradation": items.kind(index)},
                partial(self._damaged, items, index, how),
            )
            for index in range(len(items))
        ]

    def _damaged(self, items: "DegradedDataset", index: int, how: Conditions) -> tuple[Tensor, Judge]:
        item = items[index]
        before, truth = (largest(item[name][None])[0].numpy().astype(np.uint8) for name in ("noisy", "clean"))
        spacing = item["spacing_mm"]
        known = None if bool(spacing.isnan().any()) else tuple(spacing.tolist())
        return item["noisy"], self.judge(before, truth, known, how)

    def forward(self, probability: Tensor) -> Tensor:
        """Logits (B, 1 + organs, ...), background first, of one-hot or soft labels of that shape."""
        logits: Tensor = self.network(probability)
        return logits

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, 1 + organs, ...)."""
        return self.network.encode(labels)

    def levels(self, labels: Tensor) -> list[Tensor]:
        """The encoder's maps (B, width, ...), finest first, for `anatozoo.objectives.shape_prior`."""
        maps: list[Tensor] = self.network.levels(labels)
        return maps

    def rebuilt(self, labels: Tensor) -> Tensor:
        """Logits (B, C, ...) of the shape that one-hot or soft labels (B, C, ...) stand for."""
        logits: Tensor = self.network(labels)
        return logits
