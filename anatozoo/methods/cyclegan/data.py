"""Images of two domains, which need no annotation and no pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.base import CaseDataset
from anatozoo.data.case import Case
from anatozoo.data.framed import FrameDataset, frame_spacing
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.tasks.translate import check_domains

LOOKED_AT = 5
"""Images of each domain whose proportions are compared before a fit."""
UNEQUAL = 0.02
"""Proportions that differ by more than this share are said."""


class GreyDataset(FrameDataset):
    """Grey images in the square frame, kept in 8 bits.

    Items hold ``image`` (1, S, S) in [0, 1] and the other items of `FrameDataset` without label maps.
    """

    def read(self, case: Case) -> dict[str, Tensor]:
        """The image in the frame, in 8 bits.

        Raises:
            DataError: the image is in colour.
        """
        image = case.read_image(2)
        if "colour" in image.flags:
            raise DataError(
                f"image {case.id} of domain {case.domain} is in colour, and grey images are translated here; "
                "convert it, or leave it out."
            )
        frame = self.fitted(case, image.grid)
        seen = frame.image(image.pixels, self.spec.intensity, image.black_white)
        grey = torch.from_numpy(np.round(255 * seen).astype(np.uint8))[None]
        return {"image": grey, "spacing_mm": frame_spacing(frame)}

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The image in [0, 1]."""
        copies = super().unpack(stored)
        return copies | {"image": copies["image"].float() / 255}


class CycleGANDataModule(ZooDataModule):
    """Images of two domains, as many of each in every training batch.

    Batches hold the items of `GreyDataset` and ``target`` (B,) bool, true for images of the second domain.
    An epoch is as long as both domains together; images of the smaller one come more often.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"folder"``, whose ``manifest.csv`` has a column ``domain``.
        domains: names of the two domains, as in the module. Images of other domains are left out.
        frame: frame, as in the module.
        flip_p: probability that a training image is mirrored, left for right; 0 where sides matter.
        **settings: see `ZooDataModule`; `balance` is not among them.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "folder",
        domains: list[str] = ["A", "B"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(128),
        flip_p: float = 0.0,
        **settings: Any,
    ) -> None:
        if settings.pop("balance", None) is not None:
            raise ConfigError("data.balance is not for two domains, of which batches hold equal shares here.")
        super().__init__(root, layout, organs=(), frame=frame, balance="each", **settings)
        self.frame.require(2, ("pad",))
        self.pair = check_domains(domains)
        if not 0 <= flip_p <= 1:
            raise ConfigError(f"data.flip_p={flip_p} must be a probability.")
        if self.batch_size % 2:
            raise ConfigError(
                f"data.batch_size={self.batch_size} must be even: half of a batch is of each domain."
            )
        self.flip_p = flip_p

    def dataset(self, cases: Sequence[Case], split: str) -> GreyDataset:
        """Grey images in the frame."""
        return GreyDataset(cases, (), self.frame)

    def choose(self, cases: list[Case], split: str) -> list[Case]:
        """The cases of the two domains.

        Raises:
            DataError: there is none of a domain to learn from.
        """
        chosen = [case for case in cases if case.domain in self.pair]
        lacking = [name for name in self.pair if all(case.domain != name for case in chosen)]
        if split == "train" and lacking:
            known = ", ".join(sorted({case.domain for case in cases}))
            raise DataError(
                f"{self.root}: no training image is of domain {' or '.join(lacking)}, and two domains are "
                f"needed; the data have {known or 'none'}. Name two of them: --model.domains [A,B]."
            )
        return chosen

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """A batch with ``target``; training images are mirrored at random."""
        image = batch["image"]
        if training and self.flip_p:
            mirrored = torch.rand(len(image), device=image.device) < self.flip_p
            image = torch.where(mirrored[:, None, None, None], image.flip(-1), image)
        target = [self.domains[number] == self.pair[1] for number in batch["domain"].tolist()]
        return batch | {"image": image, "target": torch.tensor(target, device=image.device)}

    def _look(self, items: CaseDataset) -> None:
        """Also say where the images of the two domains have other proportions.

        Raises:
            DataError: see `ZooDataModule`, and `GreyDataset.read`.
        """
        super()._look(items)
        shapes = {name: self._proportions(items.cases, name) for name in self.pair}
        one, other = shapes.values()
        if abs(one / other - 1) > UNEQUAL:
            told = ", ".join(f"{shape:.2f} in {name}" for name, shape in shapes.items())
            self._say(
                [
                    f"{self.root}: images are of unequal shape, width over height {told}: the black borders "
                    "that the frame adds tell the domains apart, and generators learn to draw them; crop the "
                    "images to one shape."
                ]
            )

    def _proportions(self, cases: Sequence[Case], domain: str) -> float:
        """Median width over height, as they are shown, of a few images of a domain."""
        own = [case for case in cases if case.domain == domain]
        chosen = own[:: max(1, len(own) // LOOKED_AT)][:LOOKED_AT]
        grids = [case.read_image(2).grid for case in chosen]
        return float(np.median([grid.size[0] / (grid.size[1] * grid.aspect) for grid in grids]))
