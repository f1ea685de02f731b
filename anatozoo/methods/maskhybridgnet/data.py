"""Images with masks of organs, and the outlines of these masks, for Mask-HybridGNet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from anatozoo.data.base import strengths
from anatozoo.data.case import Case, Drawn
from anatozoo.data.contours import resampled
from anatozoo.data.layouts.doubts import Doubts
from anatozoo.data.module import ZooDataModule
from anatozoo.data.radiographs import RadiographDataset, mask_coverage
from anatozoo.errors import DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.meshes.outlines import outline
from anatozoo.nn.augment import AugmentConfig, recolour
from anatozoo.nn.augment import augment as augment_batch
from anatozoo.nn.graphs import organ_counts

POINTS = 128
"""Points of an outline, at equal distances."""
ONE_PART = 0.9
"""Share of an organ's pixels that its largest part holds, or else one contour does not describe it."""
CELLS = 4
"""Pixels of the frame along each side of a cell of the masks."""
SMALLEST = 12
"""Pixels of the frame, drawn twice as fine, that an organ covers, or else it has no outline."""


class OutlineDataset(RadiographDataset):
    """Radiographs with masks, and the outline of each, in the square network frame.

    Items hold ``image`` (1, S, S), ``outlines`` (C, POINTS, 2) in [0, 1], ``drawn`` (C,) bool, which of them
    exist, ``masks`` (C, S/4, S/4), shares of cells, ``known`` (C,) bool, which of these exist, and
    ``spacing_mm``. An organ that has landmarks and no mask is drawn from them. An organ in several parts, of
    which the largest holds less than nine tenths, has a mask and no outline; so has one that is absent.

    Args:
        cases: the cases; each needs an image.
        organs: organs, each one closed contour.
        frame: frame of the network, a square of side S.
    """

    def __init__(self, cases: Sequence[Case], organs: Sequence[str], frame: FrameSpec) -> None:
        super().__init__(cases, organs, frame)
        self._said: set[str] = set()

    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks in [0, 1]."""
        return {name: stored[name].clone() for name in ("outlines", "drawn", "known")} | {
            "masks": stored["masks"].float() / 255
        }

    def annotations(self, name: str, drawn: Drawn, geometry: Geometry) -> dict[str, Tensor]:
        """Masks and outlines of a case, and which of them exist.

        Raises:
            DataError: an organ of the network is drawn as the two of a pair, which no contour surrounds.
        """
        count, cells = len(self.organs), self.side // CELLS
        masks, known = np.zeros((count, cells, cells), np.uint8), np.zeros(count, bool)
        outlines, there = np.zeros((count, POINTS, 2), np.float32), np.zeros(count, bool)
        for channel, organ in enumerate(self.organs):
            if organ not in drawn.organs:
                parts = drawn.parts(organ)
                if drawn.organs.issuperset(parts):
                    raise DataError(
                        f"{name}: {organ} is drawn as {' and '.join(parts)}, and a contour surrounds one of "
                        "them: name these in model.organs, each with its number of nodes."
                    )
                continue
            mask = drawn.mask(organ, self._size(drawn, organ))
            masks[channel] = np.round(255 * mask_coverage(mask, geometry, cells))
            known[channel] = True
            points = self._outline(name, organ, mask, geometry)
            if points is not None:
                outlines[channel], there[channel] = points, True
        arrays = {"outlines": outlines, "drawn": there, "masks": masks, "known": known}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

    def _size(self, drawn: Drawn, organ: str) -> tuple[int, ...]:
        """Width and height of the organ's mask; those of the image where it has landmarks alone."""
        return drawn.masks[organ].shape[::-1] if organ in drawn.masks else drawn.grid.size

    def _outline(self, name: str, organ: str, mask: np.ndarray, geometry: Geometry) -> np.ndarray | None:
        """Points (POINTS, 2) along the organ's outline in shares of the frame, or None without one."""
        fine = 2 * self.side
        shown = mask_coverage(mask, geometry, fine) > 0.5
        parts, _ = scipy.ndimage.label(shown)
        sizes = np.bincount(parts.ravel())[1:]
        if sizes.sum() < SMALLEST:
            return None
        if sizes.max() < ONE_PART * sizes.sum():
            self._say(
                organ,
                f"{name}: the mask of {organ} has {len(sizes)} parts, the largest with "
                f"{sizes.max() / sizes.sum():.0%} of its pixels, which one contour cannot surround: the "
                "contour does not learn from such masks. This is said once for each organ.",
            )
            return None
        # Positions count from the middle of the first pixel of the frame.
        points = resampled((outline(shown) + 0.5) / fine - 0.5 / self.side, POINTS, organ)
        return points.astype(np.float32)

    def _say(self, organ: str, sentence: str) -> None:
        if organ not in self._said:
            self._said.add(organ)
            rank_zero_info(f"anatozoo: {sentence}")


class MaskHybridGNetDataModule(ZooDataModule):
    """Radiographs with masks and their outlines; augmentation runs in batches on the device.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"jsrt"`` or ``"folder"``; ``[jsrt, covid]`` trains on both.
        organs: organs, as in the module.
        frame: frame, as in the module.
        augment: strengths of the augmentation, fields of `anatozoo.nn.augment.AugmentConfig`; ``{}`` takes
            its defaults, None switches it off.
        **settings: see `ZooDataModule`.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "auto",
        organs: str | dict[str, int] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(256),
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        counts = organ_counts(organs)
        super().__init__(root, layout, organs=list(counts), frame=frame, **settings)
        self.counts = counts
        self.frame.require(2, ("pad",))
        self.augment_config = None if augment is None else strengths(AugmentConfig, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> OutlineDataset:
        """Images with masks and outlines of the module's organs."""
        return OutlineDataset(cases, self.organs, self.frame)

    def usable(self, case: Case) -> bool:
        """Whether the case has an image and at least one annotated organ."""
        return case.image is not None and any(map(case.has, self.organs))

    def remarks(self, found: Doubts) -> list[str]:
        """What an empty mask means to a network of contours."""
        return [
            f"the mask of {organ} is empty in {count} of {found.read} annotated cases that were read, as of "
            "an absent organ. A network of contours draws it all the same, and its contour does not learn "
            "there."
            for organ, count in found.absent.items()
            if found.seen[organ] and organ in self.counts
        ]

    def mean_landmarks(self) -> Tensor:
        """A mean shape (N, 2) in the network frame, from which contours of an untrained network start.

        It is the mean of the outlines, each spaced evenly from its start in
        `anatozoo.data.contours.STARTS` on.

        Raises:
            DataError: no training case has an outline of an organ.
        """
        items = [self.sets["train"][i] for i in range(len(self.sets["train"]))]
        outlines, drawn = (torch.stack([item[name] for item in items]) for name in ("outlines", "drawn"))
        parts = []
        for channel, (organ, count) in enumerate(self.counts.items()):
            some = outlines[drawn[:, channel], channel]
            if not len(some):
                raise DataError(
                    f"{self.root}: no training case has a mask of {organ} that one contour surrounds; add "
                    "some, or leave the organ out of model.organs."
                )
            parts.append(torch.from_numpy(resampled(some.mean(0).numpy(), count, organ)).float())
        return torch.cat(parts)

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Augment training batches, masks and outlines along with the images."""
        if not training or self.augment_config is None:
            return batch
        outlines = batch["outlines"]
        image, points, masks = augment_batch(
            batch["image"], outlines.flatten(1, 2), batch["masks"], self.augment_config
        )
        assert masks is not None
        return batch | {"image": image, "outlines": points.view_as(outlines), "masks": masks}

    def prepare_unlabelled(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Augment the grey values alone."""
        if self.augment_config is None:
            return batch
        return batch | {"image": recolour(batch["image"], self.augment_config)}
