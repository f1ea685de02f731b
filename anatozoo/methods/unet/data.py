"""Radiographs with label maps for the U-Net, from masks of the organs or from their contours."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.data.chest import ChestDataModule, RadiographDataset, mask_coverage
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import parts_of
from anatozoo.io.chest import ChestCase
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.nn.augment import augment as augment_batch
from anatozoo.nn.graphs import organ_names


class LabelDataset(RadiographDataset):
    """Radiographs with label maps in the square network frame.

    Items hold ``image`` (1, S, S), ``labels`` (S, S) int64 (0 for background, then the organs in order, later
    ones over earlier ones), ``known`` (C,) float32 (1 where the organ is annotated), ``spacing_mm`` and
    ``index``.

    Args:
        cases: the cases; each needs an image.
        organs: organs in the order of their labels.
        frame: what the network sees, a square of side S.
    """

    def __init__(
        self,
        cases: Sequence[ChestCase],
        organs: Sequence[str],
        frame: FrameSpec,
    ) -> None:
        super().__init__(cases, frame)
        self.organs = list(organs)

    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Labels as int64, which is what indexing takes."""
        return {"labels": stored["labels"].long(), "known": stored["known"].clone()}

    def annotations(self, case: ChestCase, geometry: Geometry) -> dict[str, Tensor]:
        """Label map, and which organs are annotated: by their mask, or else by their contour."""
        labels = np.zeros((self.side, self.side), np.uint8)
        known = np.zeros(len(self.organs), np.float32)
        for index, organ in enumerate(self.organs):
            parts = parts_of(organ)
            if all(part in case.masks or part in case.landmarks for part in parts):
                known[index] = 1.0
                for part in parts:
                    labels[self._region(case, part, geometry)] = index + 1
        return {"labels": torch.from_numpy(labels), "known": torch.from_numpy(known)}

    def _region(self, case: ChestCase, organ: str, geometry: Geometry) -> np.ndarray:
        if organ in case.masks:
            return mask_coverage(case, organ, geometry, self.side) > 0.5
        points = geometry.points_to_target(case.landmarks[organ])
        return draw_organ_mask(points, (self.side, self.side))


class UNetDataModule(ChestDataModule):
    """Chest radiographs from the folders that users download; augmentation runs in batches on the device.

    Args:
        root: folder with the data; see `anatozoo.io.chest.index_chest` for the layouts.
        layouts: which data sets below `root` to train on: ``"jsrt"``, ``"landmarks"``, ``"covid"`` or
            ``"auto"`` for a single one.
        eval_layouts: which to validate and test on; None takes the first of `layouts`.
        organs: as in the module. Organs that an image has no annotation of are neither learnt nor judged
            there.
        frame: as in the module.
        batch_size: images per process and step.
        num_workers: loading processes; images are read once and kept in memory.
        repeat: passes over the training images per epoch.
        augment: strengths, fields of `anatozoo.nn.augment.AugmentConfig`; ``{}`` takes its defaults,
            None switches augmentation off.
    """

    def __init__(
        self,
        root: str,
        layouts: list[str] = ["auto"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        eval_layouts: list[str] | None = None,
        organs: str | list[str] = "lungs_heart_clavicles",
        frame: FrameSpec = FrameSpec(1024),
        batch_size: int = 4,
        num_workers: int = 0,
        repeat: int = 1,
        augment: dict[str, float] | None = {},  # noqa: B006
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        self.organs = organ_names(organs)
        self.check_settings(frame)

    def make_dataset(self, cases: Sequence[ChestCase]) -> LabelDataset:
        """Images with label maps of the module's organs."""
        return LabelDataset(cases, self.organs, self.frame)

    def usable(self, case: ChestCase) -> bool:
        """Whether at least one of the organs is annotated."""
        annotated = {*case.masks, *case.landmarks}
        return any(annotated.issuperset(parts_of(organ)) for organ in self.organs)

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Augment training batches, labels along with the images."""
        if not training or self.augment_config is None:
            return batch
        image, labels = batch["image"], batch["labels"]
        masks = F.one_hot(labels, 1 + len(self.organs)).movedim(-1, 1)[:, 1:].to(image.dtype)
        # No landmarks here, but one has to be there for the deformation to carry along.
        middle = image.new_full((len(image), 1, 2), 0.5)
        image, _, moved = augment_batch(image, middle, masks, self.augment_config)
        assert moved is not None
        background = 1 - moved.sum(1, keepdim=True)
        return batch | {"image": image, "labels": torch.cat([background, moved], 1).argmax(1)}
