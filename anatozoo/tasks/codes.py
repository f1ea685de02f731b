"""Autoencoders of label maps: codes, reconstructions, and their evaluation."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import labels_on_grid
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.io.memory import input_name
from anatozoo.io.read import read_labels
from anatozoo.nn.labels import check_labels, one_hot
from anatozoo.tasks.base import Predictor
from anatozoo.tasks.cases import label_cases

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.metrics.cases import Case
    from anatozoo.results.segmentation import SegmentationResult
    from anatozoo.results.volume import VolumeResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial


class CodeTask(Predictor):
    """An autoencoder of label maps, in 2-D or 3-D.

    Subclasses set `network`, which has ``encode`` and maps one-hot or soft labels (B, C, ...) to codes (B, K)
    and logits (B, C, ...).

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: frame of the network.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset({"maps"})
    needs = frozenset({"organs"})

    network: Any

    def __init__(self, organs: Sequence[str], frame: FrameSpec | Mapping[str, Any]) -> None:
        super().__init__(frame)
        self.organs = check_labels(organs)
        if not self.organs:
            raise ConfigError("organs must name at least one.")

    def frame_of(self, grid: Grid) -> Frame:
        """The frame of a label map on this grid.

        Raises:
            GeometryError: the model works in millimetres and the spacing is unknown.
        """
        return Frame.fit(grid, self.frame)

    def columns(self) -> list[str]:
        """Dice of the reconstruction, of all organs and of each."""
        return ["dice", *(f"dice/{name}" for name in self.organs)]

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, K) and logits (B, C, ...) of one-hot or soft labels (B, C, ...)."""
        found: tuple[Tensor, Tensor] = self.network(labels)
        return found

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...)."""
        found: Tensor = self.network.encode(labels)
        return found

    def levels(self, labels: Tensor) -> list[Tensor]:
        """The encoder's maps (B, width, ...), finest first, for `anatozoo.objectives.shape_prior`."""
        maps: list[Tensor] = self.network.levels(labels)
        return maps

    def rebuilt(self, labels: Tensor) -> Tensor:
        """Logits (B, C, ...) of the shape that one-hot or soft labels (B, C, ...) stand for."""
        logits: Tensor = self.network(labels)[1]
        return logits

    def reconstruct(
        self,
        mask: Any,
        *,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Encode a label map and decode it to a plausible one.

        Args:
            mask: label map of any size, with the values 1, 2, ... of the classes: path, array, tensor, PIL or
                SimpleITK image.
            spacing_mm: one number or (x, y[, z]) in mm, which overrides that of the source.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.

        Returns:
            (H, W) or (D, H, W) uint8 on the same grid; background beyond the frame.

        Raises:
            ImageError: the label map cannot be read or has another number of dimensions.
            DataError: the label map holds values that are not classes.
            GeometryError: the spacing is not positive, or unknown for a model in millimetres.
            ConfigError: the precision is not possible.
        """
        return self._reconstruct(*self._read(mask, spacing_mm), precision)

    def predict(
        self,
        mask: Any,
        *,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> "SegmentationResult | VolumeResult":
        """`reconstruct` as a result that can be drawn and saved; same arguments and errors."""
        from anatozoo.results.labels import LabelResult
        from anatozoo.results.volume import VolumeResult

        values, grid = self._read(mask, spacing_mm)
        labels, classes = self._reconstruct(values, grid, precision), tuple(self.organs)
        name, version = self.checkpoint_name, self.checkpoint_version
        image = input_name(mask)
        if grid.dims == 3:
            return VolumeResult(name, version, image, grid, classes, labels)
        return LabelResult(
            checkpoint=name,
            version=version,
            image=image,
            size=(grid.size[0], grid.size[1]),
            spacing_mm=None if grid.spacing_mm is None else (grid.spacing_mm[0], grid.spacing_mm[1]),
            label_map=labels,
            classes=classes,
        )

    def golden_input(self) -> npt.NDArray[np.uint8]:
        """A label map that is free to share, for the golden test."""
        from anatozoo.io.samples import sample_label_map

        return sample_label_map(self.shape, len(self.organs))

    def _read(
        self, mask: Any, spacing_mm: float | Sequence[float] | None
    ) -> tuple[npt.NDArray[np.uint8], Grid]:
        values, grid = read_labels(mask, len(self.shape))
        return values, grid if spacing_mm is None else grid.with_spacing(spacing_mm)

    @torch.no_grad()
    def _reconstruct(
        self, values: npt.NDArray[np.uint8], grid: Grid, precision: str | None = None
    ) -> npt.NDArray[np.uint8]:
        frame = self.frame_of(grid)
        device, dtype = self.place()
        given = torch.from_numpy(frame.labels(values).astype(np.int64))[None].to(device)
        with self.answering(precision):
            _, logits = self.network(one_hot(given, len(self.organs) + 1).to(dtype))
        return labels_on_grid(logits[0].float().softmax(0).cpu().numpy(), frame)

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """Each label map, judged by how well it comes back from its code."""
        from anatozoo.tasks.trials import Trial, identity_of

        return [Trial(identity_of(case), partial(self._trial, case, how)) for case in cases]

    def ask(self, question: Any) -> npt.NDArray[np.uint8]:
        """The label map that the code of a given one stands for."""
        return self.reconstruct(question)

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[Any, Judge]":
        from anatozoo.tasks.trials import as_mask, organs_beside, read_truth

        truth, grid = read_truth(case, self.organs, how)
        return as_mask(truth, grid), lambda found: organs_beside(found, truth, self.organs, grid.spacing_mm)

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C, ...) of the reconstruction of the batch's ``labels``."""
        _, logits = self.network(one_hot(batch["labels"], len(self.organs) + 1))
        return logits

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Reconstructed label maps with the given ones."""
        return label_cases(output.argmax(1), batch["labels"], self.organs, batch, image=batch.get("image"))
