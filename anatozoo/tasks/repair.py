"""From a mask of any form and size to a `RepairResult`."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import AnatozooError, ConfigError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import in_one_part, labels_on_grid, organ_planes, to_frame
from anatozoo.io.masks import Classes, MaskInput, read_mask
from anatozoo.training.module import ZooModule

if TYPE_CHECKING:
    from anatozoo.results.repair import RepairResult

LARGE_CHANGE = 0.7
"""Dice between before and after below which a result is flagged."""
TRACE = 0.05
"""Share of the repaired organ that was there before, up to which it counts as restored."""


class RepairModule(ZooModule):
    """A method that takes a mask and gives a plausible one, 2-D or 3-D.

    Subclasses set `organs`, in the order of their labels 1, 2, ..., and `shape`, the network's frame, and
    implement `forward`.
    """

    organs: list[str]
    shape: tuple[int, ...]
    behind: Sequence[tuple[int, Sequence[int]]] = ()
    """Organs that are in one part, see `anatozoo.frames.planes.in_one_part`."""

    def forward(self, probability: Tensor) -> Tensor:
        """Logits (B, 1 + organs, ...), background first, of one-hot or soft labels of that shape."""
        raise TypeError(f"{type(self).__name__} does not define forward.")

    def predict(
        self,
        x: Any,
        *,
        classes: Classes = None,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> "RepairResult":
        """Repair one mask of any size.

        Args:
            x: path, array, tensor, PIL or SimpleITK image, or the result of a segmenter: a label map, one
                plane per organ, or probabilities; see `anatozoo.io.masks.read_mask`.
            classes: names of its labels 1, 2, ..., or value -> name; None takes the model's organs. The
                organs of a segmenter's result have names of their own.
            spacing_mm: millimetres per pixel, one number or (x, y[, z]), where the source has none.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``, see `anatozoo.tasks.precision`; None is
                what the attribute of this name says, ``"32"``.

        Returns:
            The mask before and after, on its own grid.

        Raises:
            ImageError: it is no mask that this model can repair; the message says why.
            GeometryError: the model works in millimetres and the spacing is unknown.
            ConfigError: the precision is not possible.
        """
        return self._repair([self._read(x, classes, spacing_mm)], precision)[0]

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 8,
        *,
        classes: Classes = None,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> Iterator["RepairResult"]:
        """Repair many masks, `batch_size` at a time; yields results in order, the same as `predict`'s.

        Raises:
            ConfigError: `batch_size` is below 1.
            ImageError: a mask cannot be repaired; the ones before it have been yielded.
            GeometryError: the same.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size} must be at least 1.")
        batch: list[MaskInput] = []
        for x in xs:
            try:
                batch.append(self._read(x, classes, spacing_mm))
            except AnatozooError:
                yield from self._repair(batch, precision)
                raise
            if len(batch) == batch_size:
                yield from self._repair(batch, precision)
                batch = []
        yield from self._repair(batch, precision)

    def golden_input(self) -> np.ndarray:
        """A label map that anybody may have, for the golden test."""
        from anatozoo.io.samples import sample_label_map

        return sample_label_map(self.shape, len(self.organs))

    def _read(self, x: Any, classes: Classes, spacing_mm: float | Sequence[float] | None) -> MaskInput:
        mask = read_mask(x, self.organs, len(self.shape), classes=classes, spacing_mm=spacing_mm)
        if self.hparams["fit"] == "spacing" and mask.grid.spacing_mm is None:
            raise GeometryError(
                f"this model works at {self.hparams['spacing_mm']} mm, but the spacing of the mask "
                f"{mask.name!r} is unknown; give spacing_mm."
            )
        return mask

    @torch.inference_mode()
    def _repair(self, masks: Sequence[MaskInput], precision: str | None = None) -> list["RepairResult"]:
        if not masks:
            return []
        h: Any = self.hparams
        frames = [Frame.fit(mask.grid, self.shape, h.fit, h.spacing_mm) for mask in masks]
        kind = next(self.parameters()).dtype
        batch = np.empty((len(masks), 1 + len(self.organs), *self.shape), np.float32)
        # What is done for each mask by itself takes about as long as the network.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(self._fill, batch, masks, frames))
            was_training = self.training
            self.eval()
            try:
                with self.in_precision(precision):
                    logits = self(torch.from_numpy(batch).to(self.device, kind))
            finally:
                self.train(was_training)
            probability = logits.float().softmax(1).cpu().numpy()
            return list(pool.map(self._result, masks, frames, probability))

    def _fill(self, item: np.ndarray, mask: MaskInput, frame: Frame) -> None:
        """Write a mask's shares of background and organs into a batch."""
        if mask.planes is None:
            item[1:] = organ_planes(mask.labels, len(self.organs), frame)
        else:
            item[1:] = to_frame(list(mask.planes), frame)
        item[0] = np.maximum(1 - item[1:].sum(0), 0)

    def _result(self, mask: MaskInput, frame: Frame, probability: np.ndarray) -> "RepairResult":
        from anatozoo.results.repair import RepairResult

        after = labels_on_grid(in_one_part(probability, self.behind), frame)
        return RepairResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=mask.name,
            grid=mask.grid,
            classes=tuple(self.organs),
            before=mask.labels,
            after=after,
            flags=self._flags(mask.labels, after, frame),
        )

    def _flags(self, before: np.ndarray, after: np.ndarray, frame: Frame) -> tuple[str, ...]:
        """Cheap signs that a result should be looked at."""
        from anatozoo.results.repair import change_in_dice, label_table

        table = label_table(before, after, len(self.organs))
        flags = ["larger_than_the_models_frame"] if frame.cuts else []
        for value, (organ, dice) in enumerate(change_in_dice(table, self.organs).items(), start=1):
            had, has, kept = table[value].sum(), table[:, value].sum(), table[value, value]
            if not has:
                flags.append(f"removed_{organ}" if had else f"missing_{organ}")
            elif kept <= TRACE * has:
                flags.append(f"restored_{organ}")
            elif dice < LARGE_CHANGE:
                flags.append(f"large_change_{organ}")
        return tuple(flags)
